"""The callback handler: LangChain and LangGraph events in, open and finished runs out.

Runs inline (no executor hop in async graphs), never touches inputs and outputs unless `capture=` asks for them, and never
raises. What an event means is decided in `graphmeter.langgraph` and `graphmeter.models`; what is open is kept in
`graphmeter.runs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from graphmeter import (
    client,
    failures,
    guard,
    langgraph,
    models,
    names,
    neighbours,
    older,
    prompts,
    roots,
    topology,
    waits,
)
from graphmeter.attribution import Attribution
from graphmeter.capture import chosen
from graphmeter.emit import Pipeline
from graphmeter.hook import HOOK
from graphmeter.langgraph import HIDDEN, NS, become_node
from graphmeter.names import CANCELLED, ERROR, MODEL, NODE, RETRIEVER, RUN, TOOL
from graphmeter.records import CHAIN, Failure, Run, Sink, now_ns
from graphmeter.redact import Function
from graphmeter.roots import NONE, around
from graphmeter.runs import RUNS, begin, cancelled_late, finish
from graphmeter.usage.streams import Told

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler as _Base
    from langchain_core.outputs import LLMResult
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import TracerProvider
else:
    try:
        # Only its subclasses are told of interrupts and resumes.
        from langgraph.callbacks import GraphCallbackHandler as _Base
    except ImportError:
        from langchain_core.callbacks import BaseCallbackHandler as _Base

_NO_METADATA: Mapping[str, Any] = {}


class GraphMeterCallbackHandler(_Base):
    """Measures every graph, node, model call, tool and retriever of the runs it is attached to.

    Attach it through `config={"callbacks": [GraphMeterCallbackHandler()]}`, `graphmeter.meter(graph)` or
    `graphmeter.instrument()`; any mix gives one tree. One instance serves any number of graphs, threads and tasks.

    Model calls outside of any graph are recorded, too (they cost money), with no run id: they belong to no run.

    Args:
        graph: Name of graphs that have none of their own.
        team: Whose money it is.
        tenant: For whom it is spent.
        environment: `production`, `staging` …
        release: Version of the application.
        tags: Further attribution, `graphmeter.tag.<name>`.
        debug: Print finished runs as trees to stderr; default GRAPHMETER_DEBUG.
        capture: What happened in the graph: `content`, `media`, `state`, `state_diff`; default GRAPHMETER_CAPTURE.
        redact: `redact(text, where)` returns what may leave instead of `text`, None for nothing. The built-in patterns
            (GRAPHMETER_REDACT) see what it returns. Also for exception messages, where they are sent.
        endpoint: Base URL of a collector other than the process's own.
        exporter: An OpenTelemetry span exporter that takes the place of the collector.
        tracer_provider: Takes the place of the whole pipeline: spans are made by this provider, with its ids and sampler.
        mirror: Hand finished spans to the application's own span processors, too, as far as it samples the trace; default
            GRAPHMETER_MIRROR. Not with `tracer_provider`.

    Raises:
        ValueError: `capture` names something that cannot be captured.
        TypeError: `redact` cannot be called.
    """

    run_inline = True
    raise_error = False
    # Asked for at every event: properties of LangChain's, which are a call of Python code each.
    ignore_chain = ignore_llm = ignore_chat_model = ignore_retriever = ignore_agent = ignore_custom_event = False
    _events: ClassVar[ModuleType | None] = None
    """`graphmeter.capture.events`, once a handler of this process captures anything."""

    def __init__(
        self,
        *,
        graph: str = "",
        team: str = "",
        tenant: str = "",
        environment: str = "",
        release: str = "",
        tags: Mapping[str, Any] | None = None,
        debug: bool | None = None,
        capture: str | Iterable[str] | None = None,
        redact: Function | None = None,
        endpoint: str = "",
        exporter: SpanExporter | None = None,
        tracer_provider: TracerProvider | None = None,
        mirror: bool | None = None,
    ) -> None:
        super().__init__()
        settings = client.settings()
        said = Attribution(graph, team, tenant, environment, release, dict(tags or {}))
        captures = chosen(settings, capture, redact)
        kinds = captures.kinds
        self._made_with = {
            "graph": graph,
            "team": team,
            "tenant": tenant,
            "environment": environment,
            "release": release,
            "tags": tags,
            "debug": debug,
            "capture": kinds if capture is not None else None,
            "redact": redact,
            "endpoint": endpoint,
            "exporter": exporter,
            "tracer_provider": tracer_provider,
            "mirror": mirror,
        }
        mirrors = settings.mirror if mirror is None else mirror
        sink: Sink
        if tracer_provider is not None:
            from graphmeter.provider import ProviderSink

            sink = ProviderSink(tracer_provider, client.finished, error_messages=settings.error_messages)
        else:
            sink = client.pipeline(endpoint=endpoint, exporter=exporter)
            if mirrors or kinds or redact is not None:
                Pipeline.slow = True
        self._ground = roots.Ground(
            sink,
            said.over(settings).shared(),
            graph,
            settings.debug if debug is None else debug,
            captures,
            mirrors,
        )
        HOOK.register(self, sink)
        if kinds:
            from graphmeter.capture import events

            # Of all handlers: an event may come through another one than that which began the run and decides.
            GraphMeterCallbackHandler._events = events

    @property
    def ground(self) -> roots.Ground:
        """What this handler gives to everything that starts outside of an open run."""
        return self._ground

    # Graphs are copied, pickled and sent to workers with their config; locks and threads stay behind.
    def __copy__(self) -> GraphMeterCallbackHandler:
        return self

    def __deepcopy__(self, memo: object) -> GraphMeterCallbackHandler:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self._made_with,)

    # What every node, call and token passes guards itself: `guard.guarded` is one more call with all arguments packed anew,
    # a tenth of what an event costs. It also names the arguments that it does not need: else they are packed, too.

    # --- chains: graphs, nodes, and everything that is neither -------------------------------------------------------

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            number = run_id.int
            if number in RUNS:  # the same run, through another handler or a merged config
                return
            said = metadata or _NO_METADATA
            if parent_run_id is None and neighbours.present():
                neighbours.tell(said)
            # Nearly always at once, and not by a function more.
            parent = RUNS.get(getattr(parent_run_id, "int", NONE)) or around()
            label = name or (serialized or _NO_METADATA).get("name") or "chain"
            graph = None
            ns = said.get(NS)
            if parent is not None and ns is not None and ns != parent.ns:
                # A task of a graph: a node, or one of LangGraph's own, which is hidden.
                if parent.kind is CHAIN:
                    langgraph.ensure_graph(parent)
                kind = CHAIN if tags and HIDDEN in tags else NODE
                run = Run(kind, label, number, parent, parent.tree, ns)
                if kind is NODE:
                    become_node(run, parent, said)
                    if self._events is not None:
                        self._events.node_given(run, inputs)
            elif langgraph.is_graph(said, parent):
                found = topology.graph_here()
                if found is not None:
                    graph, own = found
                    # A caller's `run_name` tells runs apart, not graphs.
                    label = own or label
                run = Run(RUN, label, number, parent, roots.plant(self._ground, run_id, parent, said, label), "")
                if not older.TELLS:
                    older.watch(run_id)
            else:
                tree = parent.tree if parent is not None else roots.plant(self._ground, run_id, None, said)
                run = Run(CHAIN, label, number, parent, tree, ns or "")
            begin(run)
            if parent is None or run.kind is RUN:
                waits.begun(run)
                if not older.TELLS:
                    waits.given(run, inputs, said)
            if graph is not None:
                topology.tell(run, graph)
        except Exception as error:  # noqa: BLE001 - as guard.guarded
            guard.swallowed("on_chain_start", error)

    def on_chain_end(
        self, outputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, tags: Any = None, **kwargs: Any
    ) -> None:
        try:
            if self._events is not None:
                self._events.node_wrote(run_id, outputs)
            if not older.TELLS and older.paused(run_id) and (run := RUNS.get(run_id.int)) is not None:
                run.interrupted = True
            finish(run_id.int)
        except Exception as error:  # noqa: BLE001 - as guard.guarded
            guard.swallowed("on_chain_end", error)

    @guard.guarded
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if not older.TELLS:
            older.forget(run_id)
        _fail(run_id, error)

    # --- models ------------------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._asked(names.OP_CHAT, serialized, messages, run_id, parent_run_id, metadata, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._asked(names.OP_TEXT, serialized, prompts, run_id, parent_run_id, metadata, kwargs)

    def _asked(
        self,
        operation: str,
        serialized: Mapping[str, Any] | None,
        prompt: Any,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: dict[str, Any] | None,
        more: Mapping[str, Any],
    ) -> Run | None:
        """The model call that begins, if it is measured from here on; None: it is already, or could not be. Never raises."""
        try:
            params = more.get("invocation_params")
            name, facts = models.asked(metadata or _NO_METADATA, params, operation, serialized)
            run = self._leaf(MODEL, name, run_id, parent_run_id, metadata)
            if run is not None:
                run.facts = facts
                if operation is names.OP_TEXT and (size := more.get("batch_size", 1)) > 1:
                    run.request = prompts.request_of(params)
                    facts[names.REQUEST_PROMPTS] = size
                begin(run)
                if self._events is not None:
                    asked = self._events.chat_asked if operation is names.OP_CHAT else self._events.text_asked
                    asked(run, prompt)
            return run
        except Exception as error:  # noqa: BLE001 - as guard.guarded
            guard.swallowed("model call", error)
            return None

    def on_llm_new_token(self, token: Any = "", *, run_id: UUID, chunk: Any = None, **kwargs: Any) -> None:
        try:
            run = RUNS.get(run_id.int)
            if run is None:
                return
            message = getattr(chunk, "message", None)
            usage = getattr(message, "usage_metadata", None)
            if usage is not None:
                if run.told is None:
                    run.told = Told(usage)
                else:
                    run.told.add(usage)
            if run.first_ns:
                return
            # Providers open and close a stream with empty chunks; tool calls and some thoughts arrive without text.
            if (
                token
                or getattr(message, "tool_call_chunks", None)
                or "reasoning_content" in (getattr(message, "additional_kwargs", None) or ())
            ):
                run.first_ns = now_ns(run)
        except Exception as error:  # noqa: BLE001 - as guard.guarded
            guard.swallowed("on_llm_new_token", error)

    @guard.guarded
    def on_stream_event(self, event: Mapping[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        run = RUNS.get(run_id.int)
        if run is not None and not run.first_ns and event.get("event") == "content-block-delta":
            run.first_ns = now_ns(run)

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, tags: Any = None, **kwargs: Any
    ) -> None:
        try:
            run = RUNS.get(run_id.int)
            if run is not None:
                try:
                    self._read(run, response)
                finally:
                    finish(run_id.int)
        except Exception as error:  # noqa: BLE001 - as guard.guarded
            guard.swallowed("on_llm_end", error)

    def _read(self, run: Run, response: LLMResult) -> None:
        try:
            if self._events is not None:
                self._events.model_answered(run, response)
            if run.facts is not None:
                run.answer = models.Answer(response)
                if run.request is not None:
                    models.read(run)
                    prompts.settle(run.facts, run.request, response)
        except Exception:
            # An answer that we cannot read has been paid for all the same.
            if run.facts is not None and names.USAGE_INPUT not in run.facts:
                run.facts[names.USAGE_MISSING] = True
            raise

    @guard.guarded
    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **kwargs: Any
    ) -> None:
        run = RUNS.get(run_id.int)
        if run is None:
            return
        if self._events is not None and response is not None:
            self._events.model_answered(run, response)
        try:
            if run.facts is not None:
                # A stream that broke may have said what it used; a call that failed outright owes no usage.
                if response is not None:
                    models.answered(run.facts, models.Answer(response), run.told)
                    run.facts.pop(names.USAGE_MISSING, None)
                run.facts.update(failures.facts_of(error))
        finally:
            _fail(run_id, error)

    # --- tools and retrievers ------------------------------------------------------------------------------------------

    @guard.guarded
    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        label = name or (serialized or _NO_METADATA).get("name") or "tool"
        run = self._leaf(TOOL, label, run_id, parent_run_id, metadata)
        if run is not None:
            if tool_call_id:
                run.facts = {names.TOOL_CALL_ID: str(tool_call_id)}
            begin(run)
            if self._events is not None:
                self._events.tool_called(run, input_str, kwargs.get("inputs"))

    @guard.guarded
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        run, call_id = RUNS.get(run_id.int), getattr(output, "tool_call_id", None)
        if run is not None and call_id and names.TOOL_CALL_ID not in (run.facts or _NO_METADATA):
            # Before 1.1.2 langchain-core does not say it at the start.
            run.facts = {**(run.facts or _NO_METADATA), names.TOOL_CALL_ID: str(call_id)}
        if self._events is not None:
            self._events.tool_returned(run_id, output)
        # A tool may turn its exception into a message for the model: handled, and still an error of the tool.
        if getattr(output, "status", None) == "error":
            finish(run_id.int, ERROR, Failure("tool_error", ""))
        else:
            finish(run_id.int)

    @guard.guarded
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        _fail(run_id, error)

    @guard.guarded
    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        label = name or (serialized or _NO_METADATA).get("name") or "retriever"
        run = self._leaf(RETRIEVER, label, run_id, parent_run_id, metadata)
        if run is not None:
            begin(run)
            if self._events is not None:
                self._events.retriever_asked(run, query)

    @guard.guarded
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        if self._events is not None:
            self._events.retriever_found(run_id, documents)
        finish(run_id.int)

    @guard.guarded
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        _fail(run_id, error)

    # --- LangGraph's own events ------------------------------------------------------------------------------------------

    @guard.guarded
    def on_interrupt(self, event: Any) -> None:
        """A graph paused; the only sign of `interrupt_before` and `interrupt_after`."""
        run = RUNS.get(event.run_id.int)
        if run is None:
            return
        run.interrupted = True
        run.checkpoint_id = event.checkpoint_id

    @guard.guarded
    def on_resume(self, event: Any) -> None:
        """A graph goes on from a checkpoint."""
        run = RUNS.get(event.run_id.int)
        if run is not None and run.kind is RUN:
            waits.resumed(run, event.checkpoint_id)

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _leaf(
        self, kind: str, name: str, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any] | None
    ) -> Run | None:
        if run_id.int in RUNS:
            return None
        said = metadata or _NO_METADATA
        if parent_run_id is None and neighbours.present():
            neighbours.tell(said)
        parent = RUNS.get(getattr(parent_run_id, "int", NONE)) or around()
        if parent is not None:
            return Run(kind, name, run_id.int, parent, parent.tree, said.get(NS) or "")
        run = Run(kind, name, run_id.int, None, roots.plant(self._ground, run_id, None, said), said.get(NS) or "")
        # A call whose graph is not measured, or has ended: LangGraph's metadata still names the node.
        run.node = str(said.get("langgraph_node") or "")
        return run


def _fail(run_id: UUID, error: BaseException) -> None:
    if run_id.int in RUNS:
        finish(run_id.int, *langgraph.outcome(error))
    elif langgraph.outcome(error)[0] is CANCELLED:
        cancelled_late(run_id.int)


def _make(made_with: dict[str, Any]) -> GraphMeterCallbackHandler:
    return GraphMeterCallbackHandler(**made_with)
