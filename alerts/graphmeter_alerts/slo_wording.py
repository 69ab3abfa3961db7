"""What alerts of SLOs say, of every kind: templates for rules, finished sentences for their unit tests, as in `wording`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from graphmeter_alerts.wording import label, links, number, percentage, variables, who
from graphmeter_config import Config, Slo
from graphmeter_config.burn import Tier, month_plans
from graphmeter_config.indicators import Indicator, Of
from graphmeter_config.values import duration_text, percent_text


class _Kind(NamedTuple):
    events: str
    bad: str
    """What the bad ones did; `{}` is the threshold."""
    advice: str


_KINDS: Final[Mapping[tuple[Indicator, Of], _Kind]] = {
    ("availability", "runs"): _Kind(
        "runs", "failed or were lost", "Look first at which node fails, and with which error."
    ),
    ("availability", "nodes"): _Kind(
        "executions",
        "failed for good",
        "Look first at the types of its errors, then at the model calls and tools within it.",
    ),
    ("availability", "tools"): _Kind(
        "tool calls", "failed", "Look first at the types of the errors, and at what stands behind the tool."
    ),
    ("availability", "models"): _Kind(
        "model calls",
        "failed",
        "Look first at the types of the errors: rate limits, timeouts, or an outage of the provider.",
    ),
    ("latency", "runs"): _Kind("runs", "took longer than {}", "Look first at which node takes the time."),
    ("latency", "nodes"): _Kind(
        "attempts", "took longer than {}", "Look first at the model calls and tools within it."
    ),
    ("latency", "models"): _Kind(
        "model calls",
        "took longer than {}",
        "Look first at the tokens that a call puts out, then at the state of the provider.",
    ),
    ("first_token", "models"): _Kind(
        "streamed model calls",
        "took longer than {} to their first token",
        "Look first at the tokens that a call takes in and how many of them come from the cache, then at the state of the "
        "provider.",
    ),
    ("cost", "runs"): _Kind(
        "runs",
        "cost more than {}",
        "Look first at which node and model spend most: a loop, retries, or prompts that grew.",
    ),
    ("quality", "runs"): _Kind(
        "runs",
        "had an outcome that was not good",
        "Look first at such runs, and at what changed: release, prompt or model.",
    ),
    ("quality", "outcomes"): _Kind(
        "outcomes",
        "were not good",
        "Look first at the runs behind them, and at what changed: release, prompt or model.",
    ),
}


class SloWords(NamedTuple):
    """What is said of an SLO and of one of the things that it judges."""

    slo: Slo
    group: Mapping[str, str]
    """Dimension → its value, or the template of it."""

    @property
    def who(self) -> str:
        """`support, node search`; empty where all events are judged together."""
        return who(self.group)

    @property
    def title(self) -> str:
        return self.who or f"all {self._kind.events}"

    @property
    def events(self) -> str:
        """`the runs of support`."""
        return f"the {self._kind.events} of {self.who}" if self.group else f"all {self._kind.events}"

    @property
    def noun(self) -> str:
        return self._kind.events

    @property
    def bad(self) -> str:
        return self._kind.bad.format(self.slo.threshold_text)

    @property
    def advice(self) -> str:
        return self._kind.advice

    @property
    def variables(self) -> dict[str, str]:
        """Of the dashboard."""
        return {"slo": self.slo.name, **variables(self.group)}

    @property
    def _kind(self) -> _Kind:
        return _KINDS[self.slo.indicator, self.slo.of]


def template(slo: Slo) -> SloWords:
    """The words of a rule: Prometheus fills in what they are about."""
    return SloWords(slo, {name: label(name) for name in slo.per})


def error_budget_burn(config: Config, name: str, of: SloWords, tier: Tier, *, ratio: str) -> dict[str, str]:
    """Annotations of a burn-rate alert; `ratio` is the share of bad events in the long window."""
    slo = of.slo
    factor, window = _factor(slo, tier), slo.window_text
    minutes = max(1, int(tier.exhausts_within_s(int(slo.window_s)) // 60))
    return {
        "summary": f"{of.title}: the error budget of {slo.name} burns at more than {factor} × the sustainable speed",
        "description": (
            f"{ratio} of {of.events} {of.bad} in the last {duration_text(tier.long_s)}, and the last "
            f"{duration_text(tier.short_s)} are as bad. The objective of {percent_text(slo.objective)} "
            f"allows {percentage(slo.error_budget)}; at {factor} × that, the error budget of {window} lasts "
            f"{duration_text(60 * minutes)}. {of.advice}"
        ),
        **links(config, name, **of.variables),
    }


def _factor(slo: Slo, tier: Tier) -> str:
    """`14.4`; of a calendar month `13.44 to 14.88`, by its length."""
    if not slo.calendar:
        return number(round(tier.factor, 2))
    found = [
        each.factor for plan in month_plans(slo.error_budget).values() for each in plan.tiers if each.name == tier.name
    ]
    ends = [number(round(factor, 2)) for factor in (min(found), max(found))]
    return " to ".join(dict.fromkeys(ends))


def error_budget_exhausted(config: Config, name: str, of: SloWords, *, remaining: str) -> dict[str, str]:
    """Annotations for an error budget that is spent; `remaining` is the share left, not above 0 %."""
    slo = of.slo
    time, after = f"the last {slo.window_text}", f"It recovers as bad {of.noun} leave the window of {slo.window_text}."
    if slo.calendar:
        time, after = "this month", "It begins anew with the first of the next month, UTC."
    return {
        "summary": f"{of.title}: the error budget of {slo.name} is spent",
        "description": (
            f"{remaining} of the error budget is left: more than {percentage(slo.error_budget)} of {of.events} in "
            f"{time} {of.bad}, so the objective of {percent_text(slo.objective)} is missed. {after} Hold back risky "
            "changes and mend what used most of it."
        ),
        **links(config, name, **of.variables),
    }


def slo_metric_absent(config: Config, name: str, of: SloWords, *, events: str) -> dict[str, str]:
    """Annotations for what is no longer measured; `events` is its number of judged events of the last day."""
    had = f"{of.who} had {events} judged {of.noun}" if of.group else f"{events} {of.noun} were judged"
    return {
        "summary": f"{of.title}: {of.slo.name} is not being measured",
        "description": (
            f"{had} within the last day, but no collector exposes the metrics of that now: failures would go unseen. Check "
            "that Prometheus scrapes every collector, and whether something was renamed."
        ),
        **links(config, name, **of.variables),
    }
