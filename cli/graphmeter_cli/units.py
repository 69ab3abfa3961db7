"""Numbers as people read them: money with enough digits, durations in one unit, counts with separators.

Values come in as the database keeps them (nano-USD, ns); text comes out. No rounding anywhere but here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from graphmeter import names

_NANO = Decimal(names.NANO_PER_USD)
NS_PER_S = 1_000_000_000


def usd_places(amounts: Iterable[int]) -> int:
    """Decimal places that show the smallest amount (nano-USD) with three digits, the same for a whole column; 2 to 9.

    More than six only where even the largest amount would vanish.
    """
    known = [abs(amount) for amount in amounts if amount]
    if not known:
        return 2
    needed = _places(min(known))
    return max(2, min(needed, max(6, _places(max(known)))))


def _places(nano: int) -> int:
    """Places until the third significant digit of an amount: 12 nano-USD → 9, 3 cents → 4."""
    return max(0, min(9, 12 - len(str(nano))))


def usd(nano: int, places: int | None = None) -> str:
    """`$1,234.56`, `$0.000123`. Without `places`, as many as this one amount needs."""
    if places is None:
        places = usd_places([nano])
    rounded = (Decimal(abs(nano)) / _NANO).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    return f"{'-' if nano < 0 else ''}${rounded:,.{places}f}"


def duration(ns: int | None) -> str:
    """`850 µs`, `45.2 ms`, `1.23 s`, `2m 03s`, `1h 02m`, `3d 04h`; a dash when not known."""
    if ns is None:
        return "-"
    if ns < 999_500:
        return f"{ns / 1_000:.0f} µs" if ns else "0 s"
    if ns < 999_500_000:
        return f"{ns / 1_000_000:.3g} ms"
    if ns < 99_950_000_000:
        return f"{ns / NS_PER_S:.3g} s"
    seconds = round(ns / NS_PER_S)
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h {seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d {seconds % 86_400 // 3600:02}h"


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def percent(ratio: float | None, places: int = 1) -> str:
    """`99.5 %`; a dash when there was nothing to divide by."""
    return "-" if ratio is None else f"{ratio * 100:.{places}f} %"


def moment(ns: int | None) -> str:
    """`2026-11-21 04:03:50`, UTC; a dash when not known."""
    if ns is None:
        return "-"
    return datetime.fromtimestamp(ns // NS_PER_S, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, one: str, many: str = "") -> str:
    """`1 call`, `2 calls`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
