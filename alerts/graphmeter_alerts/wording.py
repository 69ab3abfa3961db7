"""What alerts say. The same functions write the templates into rules and the finished sentences into their unit tests.

A fragment such as `graph` is a Go template in a rule (`{{ $labels.graph }}`) and a plain value in a test, so a test
fails when Prometheus fills in something else than the rule meant to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple
from urllib.parse import quote_plus

from graphmeter_config import Config

DASHBOARD_UID: Final = "graphmeter-overview"
_PAGES: Final = {
    "graphmeter-spend": (
        "GraphmeterBudget",
        "GraphmeterSpend",
        "GraphmeterCost",
        "GraphmeterModelUnpriced",
        "GraphmeterRunTooDear",
        "GraphmeterWaste",
    ),
    "graphmeter-slo": ("GraphmeterErrorBudget", "GraphmeterSLO"),
    "graphmeter-collector": (
        "GraphmeterClients",
        "GraphmeterCollector",
        "GraphmeterDatabase",
        "GraphmeterForward",
        "GraphmeterJob",
        "GraphmeterNotifications",
        "GraphmeterRequests",
        "GraphmeterRules",
        "GraphmeterSpans",
        "GraphmeterSpool",
    ),
    "graphmeter-models": ("GraphmeterProvider", "GraphmeterRateLimited"),
}
"""Dashboard → how names of the alerts begin that it explains; the overview explains all others."""
DASHBOARD_VARIABLES: Final = ("environment", "team", "graph", "node", "model")
RUNBOOKS: Final = "alerts/runbooks"

PERCENT_VALUE: Final = "{{ $value | humanizePercentage }}"
USD_VALUE: Final = '{{ printf "%.2f" $value }}'
DURATION_VALUE: Final = "{{ $value | humanizeDuration }}"
SMALL_USD_VALUE: Final = '{{ printf "%.4g" $value }}'
"""Of what may be less than a cent."""
COUNT_VALUE: Final = '{{ printf "%.0f" $value }}'


def label(name: str) -> str:
    """The template of a label of the alert's expression."""
    return f"{{{{ $labels.{name} }}}}"


def label_or(name: str, otherwise: str) -> str:
    """The same; `otherwise` where the label is empty."""
    return f'{{{{ or $labels.{name} "{otherwise}" }}}}'


def percentage(ratio: Fraction) -> str:
    """What `humanizePercentage` makes of a ratio."""
    return f"{float(100 * ratio):.4g}%"


def duration(seconds: Fraction) -> str:
    """What `humanizeDuration` makes of seconds, from a millisecond on."""
    if seconds < 1:
        return f"{float(1000 * seconds):.4g}ms"
    if seconds < 60:
        return f"{float(seconds):.4g}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count}{unit}" for count, unit in parts)


def number(value: Fraction) -> str:
    """A number for PromQL and for people: the shortest text that gives the same float."""
    return repr(float(value)).removesuffix(".0")


def who(group: Mapping[str, str]) -> str:
    """`support, node search`, of dimension → value or its template; empty where all is judged together."""
    return ", ".join(value if name == "graph" else f"{name} {value}" for name, value in group.items())


def variables(group: Mapping[str, str]) -> dict[str, str]:
    """Those of them that dashboards can be filtered by."""
    return {name: value for name, value in group.items() if name in DASHBOARD_VARIABLES}


def links(config: Config, alert: str, **variables: str) -> dict[str, str]:
    """Annotations that lead on: the runbook, and the dashboard with its variables (as URL parameters) set."""
    base = config.alerting.runbooks_url or RUNBOOKS
    query = "&".join(f"var-{name}={_url_part(value)}" for name, value in variables.items())
    page = next((uid for uid, alerts in _PAGES.items() if alert.startswith(alerts)), DASHBOARD_UID)
    dashboard = f"{config.alerting.grafana_url}/d/{page}"
    return {"runbook_url": f"{base}/{alert}.md", "dashboard_url": f"{dashboard}?{query}" if query else dashboard}


def _url_part(fragment: str) -> str:
    if fragment.startswith("{{"):
        return fragment.removesuffix(" }}") + " | urlquery }}"
    return quote_plus(fragment)


class BudgetWords(NamedTuple):
    """What is said of a budget."""

    budget: str
    team: str
    """Empty for a budget that teams share."""
    scope: str
    """What else it is divided by; empty for nothing."""
    period: str
    """`in this month`."""
    unit: str
    """`usd` or `tokens`."""
    limit: str

    @property
    def who(self) -> str:
        of = ", ".join([*([f"team {self.team}"] if self.team else []), *([self.scope] if self.scope else [])])
        return f"{self.budget} of {of}" if of else self.budget

    @property
    def units(self) -> str:
        return "USD" if self.unit == "usd" else "tokens"

    @property
    def variables(self) -> dict[str, str]:
        """Of the dashboard."""
        return {"team": self.team} if self.team else {}


def budget_crossed(config: Config, name: str, of: BudgetWords, threshold: str, *, spent: str) -> dict[str, str]:
    """Annotations for a budget threshold; `spent` is in the budget's unit."""
    if name.endswith("Exhausted"):
        advice = "Nothing is stopped by this alert. Find the model calls that cost most and whether they are wanted."
    else:
        advice = "Compare with how much of the period is left; find the graph, node and model that spend most."
    return {
        "summary": f"Budget {of.who} has reached {threshold}",
        "description": f"{spent} {of.units} of {of.limit} {of.units} are spent {of.period}. {advice}",
        **links(config, name, **of.variables),
    }


def budget_forecast(config: Config, name: str, of: BudgetWords, *, ratio: str) -> dict[str, str]:
    """Annotations for spend that leads beyond the limit; `ratio` is the share of the limit that it leads to."""
    return {
        "summary": f"Budget {of.who} is being spent too fast",
        "description": (
            f"For an hour now spend leads to {ratio} of {of.limit} {of.units} {of.period}. Find the graph, node and "
            "model whose spend has risen, or raise the limit while there is time."
        ),
        **links(config, name, **of.variables),
    }


def spend_burn(
    config: Config, name: str, of: BudgetWords, *, spent: str, long: str, short: str, share: str, lasts: str
) -> dict[str, str]:
    """Annotations for a budget that is spent quickly; `lasts` is how long a whole one lasts at that speed."""
    return {
        "summary": f"Budget {of.who}: more than {share} of it are spent in {long}",
        "description": (
            f"{spent} USD of {of.limit} USD were spent in the last {long}, and the last {short} went on like that. At this "
            f"speed a whole budget lasts {lasts} at most. Find the graph, node and model that spend it; is it wanted?"
        ),
        **links(config, name, **of.variables),
    }


def budget_exhausts_soon(config: Config, name: str, of: BudgetWords, *, hours: str) -> dict[str, str]:
    """Annotations for a budget that lasts no day any more."""
    return {
        "summary": f"Budget {of.who} will be spent within a day",
        "description": (
            f"At the speed of the last hours, what is left of {of.limit} USD {of.period} lasts another {hours} hours. "
            "Find the graph, node and model that spend it, or raise the limit while there is time."
        ),
        **links(config, name, **of.variables),
    }


def spend_unattributed(config: Config, name: str, *, share: str) -> dict[str, str]:
    """Annotations for spend that names no team; `share` is that of all spend."""
    return {
        "summary": f"{share} of the spend of the last day names no team",
        "description": (
            "It is in no team's budget, and nobody is shown it. Find the service and graph that spend it "
            "(`graphmeter cost --team '' --by service,graph --since 24h`) and give them a team."
        ),
        **links(config, name),
    }


def collector_down(config: Config, name: str) -> dict[str, str]:
    """Annotations for no collector at all."""
    return {
        "summary": "No Graphmeter collector answers Prometheus",
        "description": (
            "Not one target of the job graphmeter could be scraped for 2 minutes, or there is none. Runs, errors and "
            "spend are not being watched; applications keep running, and drop what their queue cannot hold."
        ),
        **links(config, name),
    }


def collector_instance_down(config: Config, name: str, *, instance: str) -> dict[str, str]:
    """Annotations for one collector of several."""
    return {
        "summary": f"Graphmeter collector {instance} does not answer Prometheus",
        "description": (
            f"{instance} could not be scraped for 10 minutes. What it has counted since is missing from the metrics; "
            "the database has it if another collector took over."
        ),
        **links(config, name),
    }


def database_away(config: Config, name: str, *, collectors: str) -> dict[str, str]:
    """Annotations for collectors that cannot store; `collectors` is how many."""
    return {
        "summary": "Graphmeter's database does not take what collectors are sent",
        "description": (
            f"{collectors} collectors have acknowledged from disk for 5 minutes. Nothing is lost as long as the spool has "
            "room, but runs, errors and spend are not being watched meanwhile."
        ),
        **links(config, name),
    }


def spool_filling(config: Config, name: str, *, instance: str, share: str) -> dict[str, str]:
    """Annotations for a spool that will soon be full."""
    return {
        "summary": f"The spool of Graphmeter collector {instance} is {share} full",
        "description": (
            "When it is full, senders are told to come back later, and drop what they cannot keep. Bring the database "
            "back, or give the spool more room."
        ),
        **links(config, name),
    }


def replaying(config: Config, name: str) -> dict[str, str]:
    """Annotations for counters that catch up with an outage."""
    return {
        "summary": "Graphmeter's counters catch up with an outage of its database",
        "description": (
            "What waited on disk for more than 10 minutes was stored within the last 90, so whatever looks at an hour's "
            "money or tokens sees a burst that was none: alerts on such bursts are silenced by this one meanwhile."
        ),
        **links(config, name),
    }


def watchdog(config: Config, name: str) -> dict[str, str]:
    """Annotations for the alert that always fires."""
    return {
        "summary": "Alerting works",
        "description": (
            "This alert always fires. Its receiver has to raise the alarm when it stops coming: then Prometheus, "
            "Alertmanager or the way between them is broken."
        ),
        **links(config, name),
    }
