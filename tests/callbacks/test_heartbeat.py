"""Signs of life of runs that take long: who gives them, who does not, and what a killed or stopped process says: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from callbacks.fakes import State, chain_of, nothing
from callbacks.otlp import Receiver, attributes
from callbacks.test_delivery import Sending, wait_for
from callbacks.test_process import PREAMBLE, TESTS, python
from graphmeter import GraphMeterCallbackHandler, guard, heartbeat, names
from graphmeter.heartbeat import Heartbeats
from graphmeter.runs import RUNS
from graphmeter.testing import InMemorySpans

FAST = 0.1


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def sending(receiver: Receiver) -> Iterator[Callable[..., Sending]]:
    made: list[Sending] = []

    def make(**settings: Any) -> Sending:
        made.append(Sending(receiver.url, **{"heartbeat_s": FAST, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.pipeline.shutdown(1)


def of(receiver: Receiver, kind: str) -> list[Any]:
    return [span for span in list(receiver.spans) if attributes(span)[names.KIND] == kind]


def test_a_long_run_gives_signs_of_life_until_its_end(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    one = sending()

    def slow(state: State) -> State:
        wait_for(lambda: len(of(receiver, names.HEARTBEAT)) >= 3)
        return {"x": 1}

    chain_of(("slow", slow)).invoke({}, config={"callbacks": [one.handler]})
    assert one.pipeline.flush(60)
    [start], beats, [root] = (of(receiver, kind) for kind in (names.START, names.HEARTBEAT, names.RUN))
    assert FAST == attributes(start)[names.HEARTBEAT_S]
    assert {(root.trace_id, root.span_id)} == {(beat.trace_id, beat.parent_span_id) for beat in beats}
    assert len(beats) == len({beat.span_id for beat in beats})
    times = [(beat.start_time_unix_nano - root.start_time_unix_nano) / 1e9 for beat in beats]
    assert all(FAST * number <= at for number, at in enumerate(sorted(times), 1))
    assert {"demo"} == {attributes(beat)[names.GRAPH] for beat in beats}
    assert one.pipeline._heartbeats.due(away=False) == []
    assert not one.pipeline._heartbeats.due(away=False)


def test_a_short_run_gives_none_and_neither_does_one_that_waits_for_a_human(
    receiver: Receiver, sending: Callable[..., Sending], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sending(heartbeat_s=3600.0)
    graph = chain_of(("ask", lambda state: {"x": interrupt("?")}), checkpointer=InMemorySaver())
    config = {"callbacks": [one.handler], "configurable": {"thread_id": "1"}}
    graph.invoke({"x": 0}, config=config)
    one.run()
    assert one.pipeline.flush(60)
    assert 0 < (one.pipeline._heartbeats.wait_s or 0) <= 3600
    # An hour later.
    monkeypatch.setattr(heartbeat, "perf_counter_ns", lambda: perf_counter_ns() + 2 * 3600 * 10**9)
    one.pipeline._heartbeats._next = time.monotonic()
    assert [] == one.pipeline._heartbeats.due(away=False)
    assert [] == of(receiver, names.HEARTBEAT)
    assert one.pipeline._heartbeats.wait_s is None  # the thread sleeps until the next run


@pytest.mark.parametrize("how", ["off", "provider"])
def test_who_sends_no_heartbeats_promises_none(how: str, spans: InMemorySpans) -> None:
    if how == "off":
        handler = GraphMeterCallbackHandler(exporter=spans)
        handler._ground.sink._heartbeats = Heartbeats(handler._ground.sink, 0)  # type: ignore[attr-defined]
    else:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        handler = GraphMeterCallbackHandler(tracer_provider=provider)
    chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    [start] = [span for span in spans.all() if span.kind == names.START]
    assert names.HEARTBEAT_S not in start.attributes


class Held:
    """Root runs that stay open, of a handler whose beats are asked for by hand."""

    def __init__(self, spans: InMemorySpans, number: int) -> None:
        self._gate = threading.Event()
        handler = spans.handler()
        self.sink: Any = handler._ground.sink
        open_before = len(RUNS)

        def node(state: State) -> State:
            self._gate.wait(60)
            return {"x": 1}

        graph = chain_of(("n", node))
        self.beats = Heartbeats(self.sink, 30.0)
        self._threads = [
            threading.Thread(target=graph.invoke, args=({},), kwargs={"config": {"callbacks": [handler]}})
            for _ in range(number)
        ]
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(RUNS) - open_before == 2 * number)
        # All of them at the same moment, from which the test counts: threads may take seconds to start.
        self._now_ns, self._now_s = perf_counter_ns(), time.monotonic()
        for run in RUNS.copy().values():
            if run.tree.sink is self.sink:
                run.started_ns = self._now_ns + run.tree.offset_ns
        self.beats._born_ns = self.beats._looked_ns = self._now_ns
        self.beats._next = self._now_s + 30

    def after(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "perf_counter_ns", lambda: self._now_ns + int(seconds * 1e9))
        monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: self._now_s + seconds))

    def end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        self._gate.set()
        for thread in self._threads:
            thread.join()


def test_however_late_one_looks_a_run_gives_one_sign_per_look(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(spans, 2)
    try:
        found = []
        for seconds in (29, 31, 32, 47, 61, 200):
            held.after(seconds, monkeypatch)
            found.append(len(held.beats.due(away=False)))
            monkeypatch.undo()
        assert [0, 2, 0, 0, 2, 2] == found
    finally:
        held.end(monkeypatch)


def test_while_the_collector_is_away_none_pile_up_and_when_it_is_back_one_is_due(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(spans, 1)
    try:
        found = []
        for seconds, away in ((31, True), (61, True), (95, True), (99, False)):
            held.after(seconds, monkeypatch)
            found.append(len(held.beats.due(away=away)))
            monkeypatch.undo()
        assert [0, 0, 0, 1] == found
    finally:
        held.end(monkeypatch)


def test_beyond_the_bound_the_oldest_runs_beat_it_is_said_and_new_runs_are_promised_nothing(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_MOST", 2)
    held = Held(spans, 3)
    try:
        held.after(31, monkeypatch)
        monkeypatch.setattr(heartbeat, "_MOST", 2)
        assert {names.HEARTBEAT_S: 30.0} == held.beats.promise
        oldest = [run.run_id for run in RUNS.values() if run.kind is names.RUN][:2]
        assert oldest == [note.run_id for note in held.beats.due(away=False)]
        assert {} == held.beats.promise
        assert {"more open runs than heartbeats": 1} == guard.faults()
    finally:
        held.end(monkeypatch)
        guard.forget()


def test_a_forked_child_does_not_speak_for_its_parents_runs(receiver: Receiver) -> None:
    done = python(
        """
        import contextvars, os, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        def node(state):
            child = os.fork()
            if child == 0:
                def beaten(state):
                    while stats().exported < 2:  # the start, and a sign of life
                        time.sleep(0.01)
                own = meter(chain_of(('n', beaten)))
                contextvars.Context().run(own.invoke, {})
                flush(60)
                os._exit(0)
            os.waitpid(child, 0)
            os.kill(os.getpid(), 9)
        meter(chain_of(('fork', node), name="parent"), name="parent").invoke({})
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
        GRAPHMETER_FLUSH_INTERVAL_S="0.01",
        GRAPHMETER_HEARTBEAT_S="0.1",
    )
    assert -signal.SIGKILL == done.returncode, done.stderr
    roots = {span.span_id: attributes(span)[names.GRAPH] for span in of(receiver, names.RUN)}
    assert ["demo"] == list(roots.values())
    by_child = [beat for beat in of(receiver, names.HEARTBEAT) if beat.parent_span_id in roots]
    by_parent = [beat for beat in of(receiver, names.HEARTBEAT) if beat.parent_span_id not in roots]
    assert by_child
    # One sender each: a second one would send the same beats again, with the same ids.
    assert len(by_parent) == len({beat.span_id for beat in by_parent})


def test_a_stopped_process_is_silent_and_speaks_again_when_it_goes_on(receiver: Receiver) -> None:
    code = "import time\nmeter(chain_of(('n', lambda state: time.sleep(60)))).invoke({})\n"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE.format(tests=str(TESTS)) + textwrap.dedent(code)],
        env={**env, "GRAPHMETER_ENDPOINT": receiver.url, "GRAPHMETER_HEARTBEAT_S": "0.1"}
        | {"GRAPHMETER_FLUSH_INTERVAL_S": "0.01"},
    )
    try:
        wait_for(lambda: len(of(receiver, names.HEARTBEAT)) >= 2)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        before = -1
        while before != len(receiver.spans):  # what is on the wire arrives, and then nothing
            before = len(receiver.spans)
            time.sleep(0.4)
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: len(receiver.spans) > before)
    finally:
        process.kill()
        process.wait()
