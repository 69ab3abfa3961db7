"""What alerts on anomalies say: templates for rules, finished sentences for their unit tests, as in `wording`."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple

from graphmeter_alerts.wording import links, percentage, variables, who
from graphmeter_config import Config
from graphmeter_config.anomalies import Band, TrafficDrop
from graphmeter_config.values import duration_text


class Words(NamedTuple):
    """Of what is said: dimension → its value, or the template of it."""

    group: Mapping[str, str]

    @property
    def who(self) -> str:
        """`support, team cx`."""
        return who(self.group) or "All together"

    @property
    def variables(self) -> dict[str, str]:
        """Of the dashboard."""
        return variables(self.group)


_SAID: Final[Mapping[str, tuple[str, str, str]]] = {
    "error_rate": (
        "unusually many runs fail",
        "{} of its runs failed or were lost in the last hour",
        "Look first at which node fails, and since when.",
    ),
    "latency_p95": (
        "runs take unusually long",
        "95% of its runs took up to {} in the last hour",
        "Look first at which node takes the time, and since when.",
    ),
    "cost_usd_per_run": (
        "runs cost unusually much",
        "A run of the last hour cost {} USD in the mean",
        "Look first at tokens per call, calls per run, and the model.",
    ),
}


def traffic_drop(config: Config, alert: str, drop: TrafficDrop, of: Words, *, runs: str) -> dict[str, str]:
    """Annotations for fewer runs than usual; `runs` is how many the last hour had."""
    return {
        "summary": f"{of.who}: far fewer runs than usual at this hour",
        "description": (
            f"{runs} runs ended in the last hour, less than {percentage(Fraction(drop.below))} of what the same hour of "
            "past weeks had. Look first at whether requests still reach the application, then at whether its spans arrive."
        ),
        **links(config, alert, **of.variables),
    }


def unusual(config: Config, alert: str, name: str, band: Band, of: Words, *, value: str) -> dict[str, str]:
    """Annotations for a value above its band."""
    summary, fact, advice = _SAID[name]
    usual = f"{band.deviations} standard deviations and a margin"
    past = f"more than is usual in its last {duration_text(band.history_s)} ({usual})"
    return {
        "summary": f"{of.who}: {summary}",
        "description": f"{fact.format(value)}, {past}. {advice}",
        **links(config, alert, **of.variables),
    }


def errors_and_latency(config: Config, alert: str, of: Words, *, failed: str) -> dict[str, str]:
    """Annotations for errors and latency at once; `failed` is the share of runs that failed."""
    return {
        "summary": f"{of.who}: runs fail and take long, both unusually",
        "description": (
            f"{failed} of its runs failed or were lost in the last hour, and those that ended took longer than usual. Both "
            "at once are mostly a provider or a database that is in trouble: look first at its model calls and tools."
        ),
        **links(config, alert, **of.variables),
    }
