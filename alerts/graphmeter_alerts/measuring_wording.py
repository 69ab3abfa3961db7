"""What alerts about lost and late measurements say: templates for rules, sentences for their tests, as in `wording`."""

from __future__ import annotations

from typing import Final

from graphmeter_alerts.wording import links
from graphmeter_config import Config

DURATION_VALUE: Final = "{{ $value | humanizeDuration }}"


def spool_growing(config: Config, name: str, *, instance: str) -> dict[str, str]:
    """Annotations for a spool that will be full soon."""
    return {
        "summary": f"The spool of Graphmeter collector {instance} will be full within an hour",
        "description": (
            "It fills faster than it is emptied. If the database is away, bring it back; if it is there, it stores more "
            "slowly than requests come."
        ),
        **links(config, name),
    }


def spans_rejected(config: Config, name: str, *, reason: str, share: str) -> dict[str, str]:
    """Annotations for spans that are refused one by one; `share` is that of all received ones."""
    return {
        "summary": f"{share} of the spans are rejected: {reason}",
        "description": (
            "They are in no report and in no metric, though the requests that brought them are acknowledged. The answer to "
            "each request (partial success) says what is wrong: look into the log of whoever sends them."
        ),
        **links(config, name),
    }


def requests_refused(config: Config, name: str, *, reason: str, share: str) -> dict[str, str]:
    """Annotations for requests that are refused whole; `share` is that of all requests."""
    return {
        "summary": f"{share} of the requests to the collectors are refused: {reason}",
        "description": (
            "What they hold is lost once its sender has no room left, or at once if it does not try again. Find out who "
            "sends it: a key that expired, a body that is too large, or more than the collectors can store."
        ),
        **links(config, name),
    }


def clients_dropping(config: Config, name: str, *, service: str, environment: str, share: str) -> dict[str, str]:
    """Annotations for an application that loses spans before they are sent; `share` is that of all its spans."""
    return {
        "summary": f"{service} ({environment}) loses {share} of its spans",
        "description": (
            "Its own queue was full, or sending failed for good: these runs and what they cost are missing here. The "
            "application is not slowed down by it."
        ),
        **links(config, name),
    }


def forward_failing(config: Config, name: str, *, destination: str, age: str) -> dict[str, str]:
    """Annotations for a destination that gets spans late or not at all."""
    return {
        "summary": f"Spans have waited {age} to be forwarded to {destination}",
        "description": (
            "Traces are missing there. Nothing is lost until bodies expire (`retention.bodies`); what waits is sent when "
            "the destination answers."
        ),
        **links(config, name),
    }


def forward_dropping(config: Config, name: str, *, destination: str, reason: str, spans: str) -> dict[str, str]:
    """Annotations for spans that a destination will never get."""
    return {
        "summary": f"{destination} does not get {spans} spans of the last hour: {reason}",
        "description": "It refused them for good, or was away for longer than they are kept. They are stored here.",
        **links(config, name),
    }


def notifications_failing(config: Config, name: str, *, receiver: str) -> dict[str, str]:
    """Annotations for a receiver that the collector cannot tell anything."""
    return {
        "summary": f"Receiver {receiver} is not told of budgets and reports",
        "description": (
            "Not one message of the last hour was delivered. Each is tried again for a day and then given up; budgets that "
            "only the collector tells of go unnoticed meanwhile."
        ),
        **links(config, name),
    }


def job_failing(config: Config, name: str, *, job: str) -> dict[str, str]:
    """Annotations for a background job that keeps failing."""
    return {
        "summary": f"Graphmeter's job {job} keeps failing",
        "description": "The database answers, but this job does not come to its end. Collectors log why (job_failed).",
        **links(config, name),
    }


def rules_outdated(config: Config, name: str, *, collectors: str, hash_: str) -> dict[str, str]:
    """Annotations for rules that were made from another configuration than the one in force."""
    return {
        "summary": "Prometheus has rules of another configuration than the collectors",
        "description": (
            f"Collectors whose SLOs, budgets or alerts ({hash_}) are not those that these rules were made from "
            f"({config.rules_hash}): {collectors}. Build rules again and deploy both: graphmeter rules build."
        ),
        **links(config, name),
    }
