"""Exact amounts in, integer nano-USD out: the one place where money is rounded.

An exact amount is an integer in units of nano-USD / `scale`. A call's total is rounded once, half to even, so that a
million roundings do not drift upwards; its parts then share that total by largest remainder, so parts always sum to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from itertools import repeat
from operator import floordiv, mod

from graphmeter.names import NANO_PER_USD

# Wide enough for any price times any count; trapping Inexact turns silent rounding into an error.
EXACT = Context(prec=100, traps=[Inexact])


def nano_of(usd: Decimal) -> int:
    """Nano-USD nearest to an amount in USD; ties go to the even one."""
    return int((usd * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def round_half_even(exact: int, scale: int) -> int:
    """`exact / scale` to the nearest integer; ties go to the even one."""
    quotient, remainder = divmod(exact, scale)
    twice = remainder * 2
    return quotient + (twice > scale or (twice == scale and quotient % 2))


def split(exact_parts: Sequence[int], scale: int) -> tuple[int, tuple[int, ...]]:
    """Total in nano-USD, rounded once, and its parts in the order given.

    Each part is its exact value rounded up or down to a whole nano-USD. Among equal remainders the earlier part wins,
    so the same call always splits the same way.
    """
    if scale == 1:
        return sum(exact_parts), tuple(exact_parts)
    # Mapped rather than comprehended, and divided once more only if something is left: this is the ingest path.
    shares = tuple(map(floordiv, exact_parts, repeat(scale)))
    total = sum(shares)
    exact = sum(exact_parts)
    if exact == total * scale:
        return total, shares
    rounded = round_half_even(exact, scale)
    missing = rounded - total
    if not missing:
        return total, shares
    left = list(map(mod, exact_parts, repeat(scale)))
    parts = list(shares)
    # One or two, as a rule: looking for the largest each time costs less than sorting all.
    for _ in range(missing):
        index = left.index(max(left))
        parts[index] += 1
        left[index] = -1
    return rounded, tuple(parts)
