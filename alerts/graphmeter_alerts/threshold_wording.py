"""What alerts on plain thresholds say: templates for rules, finished sentences for their unit tests, as in `wording`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from graphmeter_alerts.wording import links, variables, who
from graphmeter_config import Config
from graphmeter_config.threshold import Limit, Threshold
from graphmeter_config.values import duration_text


class Words(NamedTuple):
    """What is said of one limit, and of one of the things that it holds for."""

    threshold: Threshold
    limit: Limit
    group: Mapping[str, str]
    """Dimension → its value, or the template of it."""

    @property
    def who(self) -> str:
        """`support, node search`."""
        return who(self.group) or "All together"

    @property
    def variables(self) -> dict[str, str]:
        """Of the dashboard."""
        return variables(self.group)


class _Said(NamedTuple):
    """`{limit}`, `{window}` and `{value}` are filled in."""

    summary: str
    fact: str
    advice: str


_SAID: Final[Mapping[str, _Said]] = {
    "error_rate": _Said(
        "more than {limit} of the runs fail",
        "{value} of its runs failed or were lost in the last {window}",
        "Look first at which node fails, and with which error.",
    ),
    "node_error_rate": _Said(
        "more than {limit} of the executions fail",
        "{value} of its executions failed for good in the last {window}",
        "Look first at the types of its errors, then at the model calls and tools within it.",
    ),
    "latency_p95": _Said(
        "one run in twenty takes longer than {limit}",
        "95% of its runs took up to {value} in the last {window}",
        "Look first at which node takes the time.",
    ),
    "node_latency_p95": _Said(
        "one attempt in twenty takes longer than {limit}",
        "95% of its attempts took up to {value} in the last {window}",
        "Look first at the model calls and tools within it.",
    ),
    "run_duration": _Said(
        "runs take longer than {limit}",
        "{value} of its runs took longer than {limit} and ended in the last {window}, or still run",
        "Look first at what the oldest one does: a loop, retries, or a tool that does not answer.",
    ),
    "run_cost_usd": _Said(
        "runs cost more than {limit}",
        "{value} of its runs that ended in the last {window} cost more than {limit} each",
        "Look first at the dearest of them: a loop, retries, or a prompt that grew.",
    ),
    "spend_usd_per_hour": _Said(
        "more than {limit} are spent in an hour",
        "{value} USD were spent in the last {window}",
        "Look first at which graph, node and model spend most, and whether it is wanted.",
    ),
    "cost_usd_per_run": _Said(
        "runs cost more than {limit} in the mean",
        "A run that ended in the last {window} cost {value} USD in the mean",
        "Look first at tokens per call, calls per run, and the model.",
    ),
    "waste": _Said(
        "more than {limit} of the spend is for nothing",
        "{value} of the spend of the last {window} went to calls that failed, were tried again or cancelled",
        "Look first at which node wastes it, and for which reason.",
    ),
    "unpriced_calls": _Said(
        "calls have no known price",
        "{value} calls of the last {window} are in no bill, no budget and no report",
        "Add a price to `prices.overrides`, then price what is stored again: `graphmeter prices reprice`.",
    ),
    "escalations": _Said(
        "more than {limit} of the runs are escalated",
        "{value} of its runs of the last {window} ended so",
        "Look first at such runs, and at what changed: release, prompt or model.",
    ),
    "human_wait": _Said(
        "a question has waited longer than {limit} for its answer",
        "The oldest has waited {value}",
        "Look first at who was to answer it, and whether they were told.",
    ),
    "state_size": _Said(
        "the state is larger than {limit}",
        "{value} executions of the last {window} were given a state of more than {limit}",
        "Look first at which key of the state grows; a list of messages without end is the usual one.",
    ),
    "cache_hits": _Said(
        "fewer than {limit} of the calls are answered by a cache",
        "A cache answered {value} of its calls of the last {window}",
        "Look first at what changed in prompts, model or parameters: any of them makes another key.",
    ),
    "rate_limited": _Said(
        "more than {limit} of the calls are refused for rate limits",
        "The provider refused {value} of the calls of the last {window}",
        "Look first at which graph calls most, then at the limits of the account.",
    ),
    "lost_runs": _Said(
        "runs die without an end",
        "{value} of its runs were given up in the last {window}: nothing came from them any more",
        "Look first at whether their process was killed, for memory or by a release.",
    ),
}


def exceeded(config: Config, alert: str, name: str, of: Words, *, value: str) -> dict[str, str]:
    """Annotations of an alert on a threshold, by its name in the file."""
    said = _SAID[name]
    window = duration_text(of.threshold.window) if of.threshold.window else ""
    filled = {"limit": of.limit.text, "window": window, "value": value}
    accepted = f"{'at least' if of.threshold.compares == 'below' else 'up to'} {of.limit.text} is accepted"
    counted = of.threshold.unit == "count"
    fact = said.fact.format(**filled) + ("" if counted else f"; {accepted}")
    return {
        "summary": f"{of.who}: {said.summary.format(**filled)}",
        "description": f"{fact}. {said.advice}",
        **links(config, alert, **of.variables),
    }
