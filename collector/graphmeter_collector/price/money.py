"""Exact amounts in, integer nano-USD out: the one place where money is rounded.

An exact amount is an integer in units of nano-USD / `scale`. A call's total is rounded once, half to even, so that a
million roundings do not drift upwards; its parts then share that total by largest remainder, so parts always sum to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from itertools import repeat
from operator import floordiv, mod, mul

from graphmeter.names import NANO_PER_USD

# Wide enough for any price times any count; trapping Inexact turns silent rounding into an error.
EXACT = Context(prec=100, traps=[Inexact])


def nano_of(usd: Decimal) -> int:
    """Nano-USD nearest to an amount in USD; ties go to the even one."""
    return int((usd * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def round_half_even(exact: int, scale: int) -> int:
    """`exact / scale` to the nearest integer; ties go to the even one."""
    quotient = exact // scale
    twice = (exact - quotient * scale) * 2
    return quotient + (twice > scale or (twice == scale and quotient % 2))


def split(exact_parts: Sequence[int], scale: int) -> tuple[int, tuple[int, ...]]:
    """Total in nano-USD, rounded once, and its parts in the order given.

    Each part is its exact value rounded up or down to a whole nano-USD. Among equal remainders the earlier part wins,
    so the same call always splits the same way.
    """
    if scale == 1:
        return sum(exact_parts), tuple(exact_parts)
    # Mapped rather than comprehended, and divided once more only if something is left: this is on the ingest path.
    parts = list(map(floordiv, exact_parts, repeat(scale)))
    rounded = round_half_even(sum(exact_parts), scale)
    missing = rounded - sum(parts)
    if missing:
        left = list(map(mod, exact_parts, repeat(scale)))
        # One or two, as a rule: looking for the largest each time costs less than sorting all.
        for _ in range(missing):
            index = left.index(max(left))
            parts[index] += 1
            left[index] = -1
    return rounded, tuple(parts)


def charge(counts: tuple[int, ...], rates: tuple[int, ...], scale: int, extra: int = 0) -> tuple[int, tuple[int, ...]]:
    """`split` of ten counts times their rates, and `extra` with the first of them, for the ingest path.

    The same to the nano-USD in a third of the time: what calls of text use is written out, for a loop over ten buckets,
    of which four are in use, takes longer than all else that a price needs. What uses others is left to `split`.
    """
    first, read, write, hour, audio, image, output, reasoning, spoken, drawn = counts
    if audio or image or spoken or drawn:
        first, *others = map(mul, counts, rates)
        return split((first + extra, *others), scale)
    of_first, of_read, of_write, of_hour, _, _, of_output, of_reasoning, _, _ = rates
    first = first * of_first + extra
    read *= of_read
    write *= of_write
    hour *= of_hour
    output *= of_output
    reasoning *= of_reasoning
    exact = first + read + write + hour + output + reasoning
    if scale == 1:
        return exact, (first, read, write, hour, 0, 0, output, reasoning, 0, 0)
    part_first, part_read, part_write = first // scale, read // scale, write // scale
    part_hour, part_output, part_reasoning = hour // scale, output // scale, reasoning // scale
    total = part_first + part_read + part_write + part_hour + part_output + part_reasoning
    # Twice what is left above one half, so that the tie of `round_half_even` is at zero; whole nano-USD are handed out until
    # the nearest is reached.
    above = (exact - total * scale) * 2 - scale
    if above > 0 or (above == 0 and total % 2):
        first -= part_first * scale
        read -= part_read * scale
        write -= part_write * scale
        hour -= part_hour * scale
        output -= part_output * scale
        reasoning -= part_reasoning * scale
        while above > 0 or (above == 0 and total % 2):
            total += 1
            above -= 2 * scale
            largest = max(first, read, write, hour, output, reasoning)
            if largest == first:
                part_first, first = part_first + 1, -1
            elif largest == read:
                part_read, read = part_read + 1, -1
            elif largest == write:
                part_write, write = part_write + 1, -1
            elif largest == hour:
                part_hour, hour = part_hour + 1, -1
            elif largest == output:
                part_output, output = part_output + 1, -1
            else:
                part_reasoning, reasoning = part_reasoning + 1, -1
    return total, (part_first, part_read, part_write, part_hour, 0, 0, part_output, part_reasoning, 0, 0)
