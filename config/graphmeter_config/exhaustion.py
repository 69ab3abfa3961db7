"""When an error budget will be spent if it goes on as now: what is left of it and how fast it burns in, seconds out."""

from __future__ import annotations

from fractions import Fraction


def exhausted_in_s(
    left: Fraction, burn_rate: Fraction, period_s: int, *, elapsed_s: int | None = None
) -> Fraction | None:
    """Seconds until nothing is left; None: never, or not before the period is over.

    Of a rolling window a speed of 1 spends a whole budget in `period_s`, so what is left lasts its share of that. What will
    leave the window meanwhile is not counted on: nobody would be told in time.

    A calendar period is judged by the events since its start, whatever share of it has passed. At a steady number of events
    the share of bad ones moves towards the speed of now, and reaches the objective after `left * elapsed / (speed - 1)`.

    Args:
        left: Share of the budget that is left.
        burn_rate: 1 is the speed that lasts exactly the period.
        period_s: Length of the window, or of the calendar period.
        elapsed_s: How much of the calendar period has passed; None: the window rolls.
    """
    if left <= 0:
        return Fraction(0)
    if burn_rate <= 1:
        return None
    if elapsed_s is None:
        return left * period_s / burn_rate
    lasts = left * elapsed_s / (burn_rate - 1)
    return lasts if lasts < period_s - elapsed_s else None
