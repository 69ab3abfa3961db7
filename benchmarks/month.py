"""Thirty days of a company's graphs as OTLP requests: 5 graphs with 40 nodes in all, 5 models, 4 teams; from a seed.

Days and nights, retries, failures, questions to humans and their answers, cached answers, a model without a price, processes
that die, runs that have not ended yet. A day depends on the seed and its number only: days can be made by themselves.
Protobuf is written by hand, and most attributes were written before: a span takes some 6 µs.
"""

from __future__ import annotations

import argparse
import heapq
import random
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import ids

from graphmeter import names
from graphmeter.records import trace_id_of

DAYS = 30
RUNS_PER_REQUEST = 30
MS = 1_000_000
HOUR = 3_600_000 * MS
DAY = 24 * HOUR

TEAMS = {"cx": 0.5, "growth": 0.3, "ops": 0.17, "platform": 0.03}
MODELS = {
    ("openai", "gpt-4o-mini"): 0.45,
    ("openai", "gpt-4o"): 0.25,
    ("anthropic", "claude-sonnet-4-5"): 0.17,
    ("gcp.gemini", "gemini-2.5-flash"): 0.1,
    ("ollama", "house-model-7b"): 0.03,
}
ENVIRONMENTS = {"prod": 0.93, "staging": 0.07}
ERRORS = {"TimeoutError": 0.4, "RateLimitError": 0.35, "ValueError": 0.2, "ConnectionError": 0.05}
USERS = 5_000
TENANTS = 40
SPANS_PER_RUN = 13
"""About as many; the hours of a day are filled with runs by it, and what is missing comes in the last one."""


class Graph(NamedTuple):
    """A graph; a run visits its nodes in this order, leaving some out."""

    service: str
    share: float
    nodes: tuple[str, ...]


def _graph(service: str, share: float, nodes: str) -> Graph:
    return Graph(service, share, tuple(nodes.split()))


GRAPHS = {
    "support": _graph("desk", 0.45, "route classify retrieve answer refund escalate tone summarize"),
    "research": _graph("library", 0.2, "plan search read rank write critique cite translate verify publish"),
    "billing": _graph("office", 0.15, "extract match post dispute remind reconcile"),
    "codegen": _graph("tools", 0.12, "outline locate edit test lint review commit explain rollback"),
    "ingest": _graph("office", 0.08, "fetch split embed tag dedupe index report"),
}
_HOURS = (3, 2, 2, 2, 2, 3, 5, 9, 14, 17, 18, 17, 15, 17, 18, 17, 15, 12, 9, 8, 7, 6, 5, 4)
"""How busy the hours of a day are."""


@dataclass(frozen=True)
class Month:
    """Which data: `spans`, and a few more, that begin in the `days` before `end_ns`."""

    spans: int
    end_ns: int
    seed: int = 1
    days: int = DAYS

    def day(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Requests of one day, 0 being the first, in the order of their runs' starts, each with its number of spans."""
        rng = random.Random(f"{self.seed} {number}")  # noqa: S311 - no secrets
        wanted = self.spans * (number + 1) // self.days - self.spans * number // self.days
        release = f"2026.{number // 7 + 1}"
        batches: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        asked: list[tuple[int, _Plan]] = []
        made = runs = 0
        for start_ns in _starts(rng, self.end_ns - (self.days - number) * DAY, wanted):
            if made >= wanted:
                break
            plan = heapq.heappop(asked)[1] if asked and asked[0][0] <= start_ns else _plan(rng)
            run = _Run(rng, plan, start_ns, self.end_ns)
            if run.asked:
                # Somebody answers within hours, or never.
                answer = plan._replace(resumed_from=run.checkpoint, thread=run.thread, number=runs)
                heapq.heappush(asked, (start_ns + rng.randrange(8 * HOUR), answer))
            made, runs = made + len(run.spans), runs + 1
            origin = (GRAPHS[plan.graph].service, plan.environment)
            batches[origin] += run.spans
            if len(batches[origin]) >= RUNS_PER_REQUEST * SPANS_PER_RUN:
                yield _request(origin, release, batches.pop(origin))
        for origin in sorted(batches):
            yield _request(origin, release, batches[origin])


def _starts(rng: random.Random, begin_ns: int, spans: int) -> Iterator[int]:
    for hour in range(24):
        at_ns = begin_ns + hour * HOUR
        runs = round(spans / SPANS_PER_RUN * _HOURS[at_ns // HOUR % 24] / sum(_HOURS))
        yield from sorted(at_ns + rng.randrange(HOUR) for _ in range(runs))
    while True:
        yield begin_ns + DAY - 1 - rng.randrange(HOUR)


class _Plan(NamedTuple):
    """Whose run it is. Compared nowhere but in a heap, by `number`, where times are equal."""

    number: int
    graph: str
    team: str
    environment: str
    user: int
    thread: str = ""
    resumed_from: str = ""


def _plan(rng: random.Random) -> _Plan:
    return _Plan(
        -1,
        _choose(rng, _GRAPH_SHARES),
        _choose(rng, TEAMS),
        _choose(rng, ENVIRONMENTS),
        min(int(rng.expovariate(6 / USERS)), USERS - 1),
    )


_GRAPH_SHARES = {name: graph.share for name, graph in GRAPHS.items()}


def _choose(rng: random.Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


class _Run:
    """One run, as far as it has come by `now_ns`."""

    def __init__(self, rng: random.Random, plan: _Plan, start_ns: int, now_ns: int) -> None:
        self._rng, self._plan, self._now_ns = rng, plan, now_ns
        run_id = ids.run_id(rng, start_ns)
        self._trace, self._stem = trace_id_of(run_id.int).to_bytes(16, "big"), run_id.bytes[8:14]
        self.thread = plan.thread or f"thread {run_id.hex[16:]}"
        self.checkpoint = f"checkpoint {run_id.hex[16:]}"
        self.asked = plan.graph in ("support", "codegen") and rng.random() < 0.04
        self.spans: list[bytes] = []
        self._numbers = 1
        self._common = (
            _once(names.RUN_ID, str(run_id))
            + _once(names.CONVERSATION_ID, self.thread)
            + _text(names.GRAPH, plan.graph)
            + _text(names.TEAM, plan.team)
            + _text(names.TENANT, f"tenant {plan.user % TENANTS}")
            + _text(names.USER, f"user {plan.user}")
        )
        root = self._id()
        self._span(self._id(), root, names.START, names.OP_START, start_ns, start_ns)
        end_ns, status, error = self._nodes(root, start_ns)
        if rng.random() < 0.002:  # its process dies: the root never comes
            return
        more = self._ending(status, error) + (
            _once(names.LANGGRAPH_CHECKPOINT_ID, self.checkpoint) if self.asked else b""
        )
        more += _once(names.RESUMED_FROM, plan.resumed_from) if plan.resumed_from else b""
        self._span(root, b"", names.RUN, f"{names.OP_WORKFLOW} {plan.graph}", start_ns, end_ns, more)

    def _nodes(self, root: bytes, at_ns: int) -> tuple[int, str, str]:
        rng = self._rng
        for step, (node, median_ms) in enumerate(_medians(self._plan.graph), start=1):
            if rng.random() < 0.35:
                continue
            where = _text(names.NODE_PATH, node) + _whole(names.LANGGRAPH_STEP, step)
            for attempt in (1, 2):
                failed = rng.random() < 0.02
                again = failed and attempt == 1 and rng.random() < 0.8
                at_ns = self._attempt(root, node, where, at_ns, median_ms, attempt, failed=failed, again=again)
                if failed and not again:
                    return at_ns, names.ERROR, self._error
                if not failed:
                    break
            if rng.random() < 0.001:
                return at_ns, names.CANCELLED, ""
        return at_ns + MS, names.INTERRUPTED if self.asked else names.OK, ""

    def _attempt(
        self,
        root: bytes,
        node: str,
        where: bytes,
        at_ns: int,
        median_ms: float,
        attempt: int,
        *,
        failed: bool,
        again: bool,
    ) -> int:
        rng, own, began = self._rng, self._id(), at_ns
        at_ns += MS
        for _ in range(rng.choices((0, 1, 2), (0.35, 0.55, 0.1))[0]):
            at_ns = self._call(own, where, at_ns, median_ms)
        if rng.random() < 0.25:
            ended = at_ns + round(rng.lognormvariate(4.5, 0.8) * MS)
            kind, name = (names.RETRIEVER, "docs") if rng.random() < 0.3 else (names.TOOL, f"{node}_tool")
            operation = names.OP_RETRIEVAL if kind == names.RETRIEVER else names.OP_TOOL
            self._span(self._id(), own, kind, f"{operation} {name}", at_ns, ended, where + _ENDS[names.OK])
            at_ns = ended
        at_ns += round(rng.lognormvariate(1.0, 1.0) * MS)
        self._error = _choose(rng, ERRORS) if failed else ""
        more = self._ending(names.ERROR if failed else names.OK, self._error)
        more += _whole(names.ATTEMPT, attempt) + (_NOT_FINAL if again else b"")
        self._span(own, root, names.NODE, f"{names.OP_NODE} {node}", began, at_ns, where + more)
        return at_ns

    def _call(self, attempt: bytes, where: bytes, at_ns: int, median_ms: float) -> int:
        rng = self._rng
        number = rng.choices(range(len(_CALLS)), _CALL_SHARES)[0]
        own = self._id()
        ended = at_ns + round(median_ms * rng.lognormvariate(0.0, 0.5) * MS)
        fresh, read, out = (int(rng.lognormvariate(mean, 0.7)) for mean in (6.8, 5.9, 5.3))
        cached = rng.random() < 0.03
        usage = _SAVED if cached else _USAGE
        more = b"".join(
            (
                _CALLS[number],
                _ENDS[names.OK],
                where,
                _once(names.RESPONSE_ID, f"chatcmpl-{own.hex()}"),
                _once(names.ATTEMPT_SPAN, attempt.hex()),
                _number(usage[0], fresh + read),
                _number(usage[1], read),
                _number(usage[2], out),
                _CACHED if cached else _double(names.TIME_TO_FIRST_CHUNK, (ended - at_ns) / 4e9),
            )
        )
        self._span(own, attempt, names.MODEL, _CALL_NAMES[number], at_ns, ended, more)
        return ended

    def _ending(self, status: str, error: str) -> bytes:
        if status != names.ERROR:
            return _ENDS[status]
        limited = _RATE_LIMITED if error == "RateLimitError" else b""
        return _ENDS[status] + _text(names.ERROR_TYPE, error) + limited + _FAILED

    def _id(self) -> bytes:
        self._numbers += 1
        return self._stem + self._numbers.to_bytes(2, "big")

    def _span(
        self, own: bytes, parent: bytes, kind: str, name: str, start_ns: int, end_ns: int, more: bytes = b""
    ) -> None:
        if end_ns > self._now_ns:  # has not ended: nobody knows of it yet
            return
        ids = b"\x0a\x10" + self._trace + b"\x12\x08" + own + (b"\x22\x08" + parent if parent else b"")
        times = _TIMES.pack(0x39, start_ns, 0x41, end_ns)
        self.spans.append(_field(0x12, ids + _name(name) + times + _text(names.KIND, kind) + self._common + more))


@cache
def _medians(graph: str) -> tuple[tuple[str, float], ...]:
    """Nodes of a graph with the typical duration (ms) of a call there."""
    return tuple((node, random.Random(f"{graph} {node}").uniform(200, 4_000)) for node in GRAPHS[graph].nodes)  # noqa: S311


# --- protobuf -----------------------------------------------------------------------------------------------------

_TIMES = struct.Struct("<BQBQ")


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    return (bytes((tag, size)) if size < 0x80 else bytes((tag,)) + _varint(size)) + data


@cache
def _key(key: str) -> bytes:
    return _field(0x0A, key.encode())


@cache
def _name(name: str) -> bytes:
    return _field(0x2A, name.encode())


def _once(key: str, value: str) -> bytes:
    """An attribute whose value will not come again."""
    return _field(0x4A, _key(key) + _field(0x12, _field(0x0A, value.encode())))


_text = lru_cache(20_000)(_once)


def _number(key: str, value: int) -> bytes:
    return _field(0x4A, _key(key) + _field(0x12, b"\x18" + _varint(value)))


_whole = lru_cache(1_000)(_number)


def _double(key: str, value: float) -> bytes:
    return _field(0x4A, _key(key) + _field(0x12, b"\x21" + struct.pack("<d", value)))


def _flag(key: str, value: bool) -> bytes:
    return _field(0x4A, _key(key) + _field(0x12, bytes((0x10, value))))


@cache
def _origin(service: str, environment: str, release: str) -> bytes:
    pairs = {names.SERVICE_NAME: service, names.DEPLOYMENT_ENVIRONMENT: environment, names.SERVICE_VERSION: release}
    # Attributes are field 9 of a span and field 1 of a resource.
    return _field(0x0A, b"".join(b"\x0a" + _once(key, value)[1:] for key, value in pairs.items()))


def _request(origin: tuple[str, str], release: str, spans: list[bytes]) -> tuple[int, bytes]:
    scope = _field(0x0A, _field(0x0A, names.SCOPE.encode()))
    return len(spans), _field(0x0A, _origin(*origin, release) + _field(0x12, scope + b"".join(spans)))


_ENDS = {status: _text(names.STATUS, status) for status in names.SPAN_STATUSES}
_FAILED = _field(0x7A, _field(0x12, b"it broke") + b"\x18\x02")
_NOT_FINAL = _flag(names.ATTEMPT_FINAL, value=False)
_RATE_LIMITED = _flag(names.RATE_LIMITED, value=True)
_CACHED = _flag(names.CACHE_HIT, value=True)
_USAGE = (names.USAGE_INPUT, names.USAGE_CACHE_READ, names.USAGE_OUTPUT)
_SAVED = tuple(names.SAVED_PREFIX + key for key in _USAGE)
_CALL_SHARES = list(MODELS.values())
_CALL_NAMES = [f"{names.OP_CHAT} {model}" for _, model in MODELS]
_CALLS = [
    _text(names.OPERATION, names.OP_CHAT)
    + _text(names.PROVIDER, provider)
    + _text(names.REQUEST_MODEL, model)
    + _text(names.RESPONSE_MODEL, model)
    for provider, model in MODELS
]


def main() -> None:
    """Write days as frames: day, number of spans, number of bytes (4 each, little endian), an OTLP request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, required=True)
    parser.add_argument("--end-ns", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-day", type=int, default=0)
    given = parser.parse_args()
    month = Month(given.spans, given.end_ns, given.seed)
    for day in range(given.first_day, month.days):
        for spans, body in month.day(day):
            sys.stdout.buffer.write(FRAME.pack(day, spans, len(body)) + body)


FRAME = struct.Struct("<III")


if __name__ == "__main__":
    main()
