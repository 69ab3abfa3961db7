"""One alert sent to a running Alertmanager, to prove the way to whoever would be told, and taken back.

It has the labels of the real one, so it takes the real route, and one more that says what it is: receivers show it, and no
inhibition takes it for a real one. Alertmanager itself says which receivers it reached and whether a request was answered;
nothing here repeats its routing.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import yaml

from graphmeter_alerts.alertmanager import TEST
from graphmeter_alerts.rulefiles import Rule

TIMEOUT_S: Final = 10.0
_ENDS_BY_ITSELF: Final = timedelta(minutes=10)
"""Should nobody be there to take it back."""
_POLL_S: Final = 0.2
_OF_LABEL: Final = re.compile(r"\{\{[^{}]*\$labels\.(\w+)[^{}]*\}\}")
_TEMPLATE: Final = re.compile(r"\{\{[^{}]*\}\}")
_COUNTER: Final = re.compile(
    r'^alertmanager_notification_requests(_failed)?_total\{[^}]*integration="([^"]+)"[^}]*\} (\S+)', re.MULTILINE
)


class Unreachable(Exception):
    """Alertmanager does not answer, or not as one; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An alert that is only a test."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """What Alertmanager made of it."""

    receivers: tuple[str, ...]
    silent: tuple[str, ...]
    """Those of them that have no address: they tell nobody."""
    suppressed_by: str
    """`a silence`, `another alert`; empty where it is on its way."""


@dataclass(frozen=True, slots=True)
class Told:
    """Requests to receivers since the alert was sent, by integration (webhook, slack …); of all alerts."""

    sent: Mapping[str, int]
    failed: Mapping[str, int]


def trial_of(rule: Rule, labels: Mapping[str, str]) -> Trial:
    """The alert that a rule would raise; what its expression would say stands for itself: `graph`, `0`."""
    given = {**rule.labels, **labels}

    def finished(text: str) -> str:
        with_labels = _OF_LABEL.sub(lambda found: given.get(found[1], found[1]), text)
        return _TEMPLATE.sub("0", with_labels)

    annotations = {name: finished(text) for name, text in rule.annotations.items()}
    annotations["summary"] = f"TEST, nothing has happened: {annotations.get('summary', rule.name)}"
    return Trial({"alertname": rule.name, **given, TEST: "true"}, annotations)


class Alertmanager:
    """One that is running, by its API v2."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._began = datetime.now(UTC)

    @contextmanager
    def firing(self, trial: Trial) -> Iterator[Told]:
        """The alert from begin to end of the block, whatever happens in it; yields the counts from before.

        Raises:
            Unreachable: Alertmanager does not take it.
        """
        before = self.counts()
        self._post(trial, datetime.now(UTC) + _ENDS_BY_ITSELF)
        try:
            yield before
        finally:
            self._post(trial, datetime.now(UTC))

    def route(self, trial: Trial, timeout_s: float = TIMEOUT_S) -> Route:
        """Which receivers it reached.

        Raises:
            Unreachable: Alertmanager does not know the alert in time.
        """
        filters = [("filter", f'{name}="{value}"') for name, value in trial.labels.items()]
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            found = [
                alert
                for alert in self._get(f"/api/v2/alerts?{urllib.parse.urlencode(filters)}")
                if alert["labels"] == dict(trial.labels) and alert["status"]["state"] != "unprocessed"
            ]
            if found:
                receivers = tuple(receiver["name"] for receiver in found[0]["receivers"])
                return Route(receivers, self._silent(receivers), _suppressed_by(found[0]["status"]))
            time.sleep(_POLL_S)
        raise Unreachable(f"{self.url} took the alert but does not list it: see Alertmanager's log")

    def told(self, before: Told, timeout_s: float) -> Told:
        """Requests to receivers since `before`, as soon as there is one; none after the time."""
        ends = time.monotonic() + timeout_s
        while True:
            now = self.counts()
            if now.sent != before.sent or time.monotonic() > ends:
                now = self.counts()  # a failure is counted just after its request
                return Told(_more(now.sent, before.sent), _more(now.failed, before.failed))
            time.sleep(_POLL_S)

    def counts(self) -> Told:
        """Requests since Alertmanager started."""
        sent: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        for found in _COUNTER.finditer(self._text("/metrics")):
            (failed if found[1] else sent)[found[2]] += int(float(found[3]))
        return Told(sent, failed)

    def _silent(self, receivers: Sequence[str]) -> tuple[str, ...]:
        original = yaml.safe_load(self._get("/api/v2/status")["config"]["original"])
        entries = {entry["name"]: entry for entry in original.get("receivers", ())}
        return tuple(name for name in receivers if not any(key.endswith("_configs") for key in entries.get(name, {})))

    def _post(self, trial: Trial, ends: datetime) -> None:
        alert = {
            "labels": dict(trial.labels),
            "annotations": dict(trial.annotations),
            "startsAt": self._began.isoformat(),
            "endsAt": ends.isoformat(),
        }
        self._text("/api/v2/alerts", json.dumps([alert]).encode())

    def _get(self, path: str) -> Any:
        try:
            return json.loads(self._text(path))
        except json.JSONDecodeError:
            raise Unreachable(f"{self.url} does not answer as Alertmanager does: check the address") from None

    def _text(self, path: str, body: bytes | None = None) -> str:
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise Unreachable(f"{self.url!r} is not an http or https URL: write http://localhost:9093")
        request = urllib.request.Request(  # noqa: S310 - http and https only
            self.url + path, body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
                text: str = answer.read().decode("utf-8", "replace")
                return text
        except urllib.error.HTTPError as error:
            said = error.read(300).decode("utf-8", "replace").strip()
            raise Unreachable(
                f"{self.url}{path.partition('?')[0]} answers {error.code}: {said or error.reason}"
            ) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(f"Alertmanager at {self.url} cannot be reached: {reason}") from None


def _suppressed_by(status: Mapping[str, Any]) -> str:
    if status.get("silencedBy"):
        return f"a silence ({', '.join(status['silencedBy'])})"
    return "another alert" if status.get("inhibitedBy") else ""


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in now.items() if count > before.get(name, 0)}
