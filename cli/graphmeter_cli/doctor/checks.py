"""A collector's address in, a list of checks out: alive, ready, version, clock, forwarding, and one run there and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from uuid import uuid4

import aiohttp
import click
from prometheus_client.parser import text_string_to_metric_families

from graphmeter import names
from graphmeter_cli.api import HttpReader, bearer
from graphmeter_cli.doctor import probe
from graphmeter_cli.units import count, duration, plural

MAX_SKEW_S = 10.0  # traces of several machines become unreadable well before
STORED_WITHIN_S = 30.0
HEARD_OF_WITHIN_NS = 15 * 60 * 1_000_000_000  # what a client lost long ago, and has told nothing since, is history
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    """What to do about it; empty when nothing is wrong."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str
    date: str
    asked_s: float
    """Unix time when the question left."""
    answered_s: float


async def examine(url: str, api_key: str = "") -> AsyncIterator[Check]:
    """Every check, each as soon as it is known. Ends early when nobody answers: the rest would only repeat it.

    `api_key` is one that may ingest and read, where the collector asks for keys.
    """
    async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=bearer(api_key)) as session:
        try:
            health = await _get(session, f"{url}/health")
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            yield Check(
                "reachable",
                ok=False,
                found=f"{url} does not answer ({problem})",
                remedy="start a collector with `graphmeter serve`, or name it: --endpoint http://host:4318",
            )
            return
        yield _alive(url, health)
        yield await _ready(session, url)
        yield _clock(health)
        if refusal := await _refusal(session, url, api_key):
            # Nothing more can be told: it would say the same of everything.
            yield refusal
            return
        metrics = await _metrics(session, url)
        yield _version(metrics)
        yield _forwarding(metrics)
    yield await _clients(url, api_key)
    yield await _there_and_back(url, api_key)


async def _get(session: aiohttp.ClientSession, url: str) -> _Answer:
    asked = time.time()
    async with session.get(url) as answer:
        return _Answer(answer.status, await answer.text(), answer.headers.get("Date", ""), asked, time.time())


def _alive(url: str, health: _Answer) -> Check:
    if health.status == 200:
        return Check("reachable", ok=True, found=url)
    return Check(
        "reachable",
        ok=False,
        found=f"{url}/health answers {health.status}",
        remedy="something else may listen there: name the collector with --endpoint http://host:4318",
    )


async def _ready(session: aiohttp.ClientSession, url: str) -> Check:
    answer = await _get(session, f"{url}/ready")
    if answer.status == 200:
        return Check("ready", ok=True, found="can acknowledge spans")
    return Check(
        "ready",
        ok=False,
        found=f"answers {answer.status}: {answer.text.strip()[:200]}",
        remedy="the collector's log says what is missing, most likely its database; look there",
    )


def _clock(health: _Answer) -> Check:
    try:
        there = parsedate_to_datetime(health.date).timestamp()
    except ValueError:
        return Check("clock", ok=True, found="not said: a proxy in between removes the Date header")
    # The header is cut to whole seconds.
    skew = there + 0.5 - (health.asked_s + health.answered_s) / 2
    if abs(skew) <= MAX_SKEW_S:
        return Check("clock", ok=True, found="the same here and there, to within seconds")
    direction = "ahead of" if skew > 0 else "behind"
    return Check(
        "clock",
        ok=False,
        found=f"the collector's clock is {duration(int(abs(skew) * 1e9))} {direction} this machine's",
        remedy="synchronise both with NTP: traces across machines do not fit, and spans a day off are refused",
    )


async def _refusal(session: aiohttp.ClientSession, url: str, api_key: str) -> Check | None:
    """What the collector says against the key, if anything."""
    answer = await _get(session, f"{url}/api/run_counts")
    if answer.status not in (401, 403):
        return None
    return Check(
        "key",
        ok=False,
        found="the API key may not read here" if api_key else "it asks for an API key",
        remedy="make one with `graphmeter keys create --scope ingest+read` and set GRAPHMETER_API_KEY, or use --api-key",
    )


_Metrics = dict[str, list[tuple[dict[str, str], float]]]


async def _metrics(session: aiohttp.ClientSession, url: str) -> _Metrics:
    """Samples of `/metrics` by name. Asked without a scraper's Accept header, which leaves new children unmoved."""
    answer = await _get(session, f"{url}/metrics")
    samples: _Metrics = {}
    if answer.status == 200:
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def _version(metrics: _Metrics) -> Check:
    here = version(names.SCOPE)
    there = next((labels["version"] for labels, _ in metrics.get(names.COLLECTOR_BUILD.name, [])), "")
    if not there:
        return Check(
            "version",
            ok=False,
            found="/metrics does not say one",
            remedy="name the collector itself, not a proxy that hides its /metrics",
        )
    if there == here:
        return Check("version", ok=True, found=there)
    return Check(
        "version",
        ok=False,
        found=f"collector {there}, here {here}",
        remedy=f"run the same version on both sides: pip install 'graphmeter=={there}'",
    )


def _forwarding(metrics: _Metrics) -> Check:
    """Where spans go next. A destination that has refused everything so far is a fault, a backlog alone is not."""
    sent, failed, waiting = (
        {labels["destination"]: int(value) for labels, value in metrics.get(metric.name, [])}
        for metric in (names.COLLECTOR_FORWARDED, names.COLLECTOR_FORWARD_FAILED, names.COLLECTOR_OUTBOX)
    )
    if not sent:
        return Check(
            "forward",
            ok=True,
            found="no destination; `graphmeter serve --forward URL` sends traces on to Jaeger or others",
        )
    dead = [name for name in sorted(sent) if failed.get(name) and not sent[name]]
    found = "; ".join(
        f"{name}: {plural(sent[name], 'span')} sent, {count(waiting.get(name, 0))} waiting, "
        f"{plural(failed.get(name, 0), 'failure')}"
        for name in sorted(sent)
    )
    remedy = f"{', '.join(dead)} takes nothing: does it run, and is it the base URL of an OTLP/HTTP receiver?"
    return Check("forward", ok=not dead, found=found, remedy=remedy if dead else "")


async def _clients(url: str, api_key: str) -> Check:
    """Whether applications lose spans on their side, where no collector could count them."""
    try:
        async with HttpReader(url, api_key) as reader:
            rows = await reader.clients(time.time_ns() - HEARD_OF_WITHIN_NS)
    except click.ClickException as problem:  # what keeps it from answering is another check's to judge
        return Check("clients", ok=True, found=f"not told: {problem.message}")
    losing = [row for row in rows if row.dropped or row.failed]
    if not losing:
        return Check("clients", ok=True, found=f"{plural(len(rows), 'client')} reported lately, none lost a span")
    worst = losing[0]
    found = (
        f"{len(losing)} of {plural(len(rows), 'client')} lost spans: {plural(sum(row.dropped for row in losing), 'span')} "
        f"dropped, {count(sum(row.failed for row in losing))} failed; most by service {worst.service!r}"
    )
    return Check(
        "clients",
        ok=False,
        found=found,
        remedy="dropped: the collector was away, or GRAPHMETER_QUEUE_SPANS is too small; failed: see the application's log",
    )


async def _there_and_back(url: str, api_key: str) -> Check:
    """Send one run and read it through the API."""
    run_id = uuid4()
    try:
        # In a thread: the client blocks while it flushes.
        how = await asyncio.to_thread(probe.send, url, run_id, api_key)
    except probe.NotSent as problem:
        return Check(
            "a run",
            ok=False,
            found=f"not taken: {problem}",
            remedy="the collector's log and graphmeter_collector_spans_rejected_total in its /metrics say why",
        )
    deadline = time.monotonic() + STORED_WITHIN_S
    async with HttpReader(url, api_key) as reader:
        while True:
            row = await reader.run(str(run_id))
            if row is not None and row.status == names.OK:
                return Check("a run", ok=True, found=f"{run_id} sent as {how} and read back")
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
    return Check(
        "a run",
        ok=False,
        found=f"{run_id} was acknowledged but is {'not there' if row is None else row.status}",
        remedy="the API reads another database than the collector writes; compare --database-url of all collectors",
    )
