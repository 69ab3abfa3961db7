"""Spans of one run in, questions about it answered, and assertions whose failures show the whole tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from graphmeter import names
from graphmeter.testing.spans import RecordedSpan, draw


class UnknownCost(LookupError):
    """What a run cost cannot be said: a model call told no usage, or nobody knows its price."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One finished run of a root graph."""

    root: RecordedSpan
    spans: tuple[RecordedSpan, ...]
    """All of its spans by start time, the root first."""
    notes: tuple[RecordedSpan, ...] = ()

    # --- what happened --------------------------------------------------------------------------------------------

    @property
    def graph(self) -> str:
        return str(self.root.attributes[names.GRAPH])

    @property
    def run_id(self) -> str:
        return str(self.root.attributes[names.RUN_ID])

    @property
    def status(self) -> str:
        """`ok`, `error`, `interrupted` or `cancelled`."""
        return self.root.status

    @property
    def duration_s(self) -> float:
        return (self.root.end_ns - self.root.start_ns) / 1e9

    @property
    def path(self) -> list[str]:
        """Nodes in the order in which they started, as paths through subgraphs; a node's retries stand for one visit."""
        return [str(span.attributes[names.NODE_PATH]) for span in self._nodes() if span.attributes[names.ATTEMPT] == 1]

    @property
    def model_calls(self) -> list[RecordedSpan]:
        """Model calls that a provider answered or failed, those of failed attempts included; not those from a cache."""
        return [span for span in self._of(names.MODEL) if not span.attributes.get(names.CACHE_HIT)]

    @property
    def tool_calls(self) -> list[RecordedSpan]:
        return self._of(names.TOOL)

    @property
    def errors(self) -> list[RecordedSpan]:
        """Spans that failed, failed attempts that were tried again included."""
        return [span for span in self.spans if span.status == names.ERROR]

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output tokens of all model calls, cached and reasoning tokens included."""
        calls = [call.tokens for call in self.model_calls]
        return sum(call[0] for call in calls), sum(call[1] for call in calls)

    @property
    def cost_usd(self) -> Decimal:
        """What the model calls cost by the installed catalogue of list prices, those of failed attempts included.

        Raises:
            UnknownCost: A call told no usage, or its price is unknown.
        """
        return sum((_cost(call) for call in self.model_calls), Decimal(0))

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run at its end."""
        prefix = names.TAG_PREFIX
        return {key[len(prefix) :]: str(value) for key, value in self.root.attributes.items() if key.startswith(prefix)}

    @property
    def outcomes(self) -> dict[str, tuple[bool | None, float | None]]:
        """What `graphmeter.outcome` said of the run so far: good and value by kind, the last one of each."""
        return {
            str(note.attributes[names.OUTCOME_KIND]): (
                note.attributes.get(names.OUTCOME_GOOD),
                note.attributes.get(names.OUTCOME_VALUE),
            )
            for note in self.notes
            if note.kind == names.OUTCOME
        }

    def visits(self, node: str) -> int:
        """How often `node` ran, retries not counted. A name without a dot stands for nodes of that name at any depth."""
        return sum(node in (path, path.rpartition(".")[2]) for path in self.path)

    def attempts(self, node: str) -> int:
        """How often `node` was tried, retries counted."""
        paths = [str(span.attributes[names.NODE_PATH]) for span in self._nodes()]
        return sum(node in (path, path.rpartition(".")[2]) for path in paths)

    def tree(self) -> str:
        """The run as indented lines `kind label status`."""
        return draw(self.spans)

    # --- what should have happened --------------------------------------------------------------------------------

    def assert_ok(self) -> None:
        """The run ended well. Retries and handled errors inside are no objection."""
        self._check(self.status == names.OK, f"ended with status {self.status!r}, not 'ok'")

    def assert_visited(self, node: str, *, times: int | None = None) -> None:
        """`node` ran, exactly `times` if given; see `visits`."""
        visits = self.visits(node)
        wanted = "at least once" if times is None else f"{times} times"
        self._check(visits == times if times is not None else visits > 0, f"ran {node!r} {visits} times, not {wanted}")

    def assert_path(self, *nodes: str) -> None:
        """Exactly these nodes ran, in this order of starts; see `path`."""
        self._check(self.path == list(nodes), f"went {_arrows(self.path)}, not {_arrows(nodes)}")

    def assert_called_tool(self, tool: str, *, times: int | None = None) -> None:
        """`tool` was called, exactly `times` if given."""
        calls = sum(span.label == tool for span in self.tool_calls)
        wanted = "at least once" if times is None else f"{times} times"
        self._check(
            calls == times if times is not None else calls > 0, f"called tool {tool!r} {calls} times, not {wanted}"
        )

    def assert_cost_below(self, usd: Decimal | str | float) -> None:
        """The run cost less than `usd`.

        Raises:
            AssertionError: It cost as much or more.
            UnknownCost: See `cost_usd`.
        """
        limit, cost = Decimal(str(usd)), self.cost_usd
        self._check(cost < limit, f"cost {cost:f} USD, not less than {limit:f} USD")

    def assert_tokens_below(self, tokens: int) -> None:
        """The run used fewer than `tokens`, input and output together."""
        used = sum(self.tokens)
        self._check(used < tokens, f"used {used} tokens, not fewer than {tokens}")

    def assert_model_calls_at_most(self, calls: int) -> None:
        """The run asked models at most `calls` times, answers from a cache not counted."""
        made = len(self.model_calls)
        self._check(made <= calls, f"made {made} model calls, more than {calls}")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _of(self, kind: str) -> list[RecordedSpan]:
        return [span for span in self.spans if span.kind == kind]

    def _nodes(self) -> list[RecordedSpan]:
        return self._of(names.NODE)

    def _check(self, holds: bool, complaint: str) -> None:
        if not holds:
            raise AssertionError(f"run of {self.graph!r} {complaint}\n{self.tree()}")


def runs_of(spans: Iterable[RecordedSpan]) -> list[RecordedRun]:
    """The finished runs among `spans`, by start time."""
    by_run: dict[str, list[RecordedSpan]] = {}
    for span in spans:
        by_run.setdefault(str(span.attributes.get(names.RUN_ID, "")), []).append(span)
    by_run.pop("", None)
    runs = []
    for own in by_run.values():
        for root in (span for span in own if span.kind == names.RUN):
            inside = sorted((s for s in own if s.kind not in names.NOTES and s is not root), key=_by_start)
            runs.append(RecordedRun(root, (root, *inside), tuple(s for s in own if s.kind in names.NOTES)))
    return sorted(runs, key=lambda run: run.root.start_ns)


def _by_start(span: RecordedSpan) -> tuple[int, int]:
    return span.start_ns, span.end_ns


def _cost(call: RecordedSpan) -> Decimal:
    cost = call.attributes.get(names.COST_USD)
    if cost is not None:
        return Decimal(str(cost))
    if call.status == names.ERROR and names.USAGE_INPUT not in call.attributes:
        return Decimal(0)  # a call that failed outright owes nothing
    raise UnknownCost(f"the cost of {call.name!r} is unknown: {_why_unknown(call.attributes)}")


def _why_unknown(attributes: Mapping[str, object]) -> str:
    if names.USAGE_INPUT not in attributes:
        return "it told no usage; for a stream, ask the provider for it (OpenAI: stream_usage=True)"
    try:
        import genai_prices  # noqa: F401 - only whether it is there
    except ImportError:
        return "prices are not installed: pip install 'graphmeter[prices]'"
    model = attributes.get(names.RESPONSE_MODEL) or attributes.get(names.REQUEST_MODEL) or "an unnamed model"
    return f"the catalogue has no price of {model} of provider {attributes.get(names.PROVIDER) or 'unknown'}"


def _arrows(nodes: Sequence[str]) -> str:
    return " → ".join(nodes) or "nowhere"
