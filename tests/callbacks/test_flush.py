"""Who does the work when somebody flushes: the one who waits for it, as far as that cannot take longer than he said."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from callbacks.fakes import chain_of, nothing
from callbacks.otlp import Receiver
from callbacks.test_delivery import BY_HAND, Sending
from graphmeter import GraphMeterCallbackHandler, client, emit, guard, outbox
from graphmeter.emit import Pipeline
from graphmeter.records import Run
from graphmeter.report import Counts
from graphmeter.settings import Settings

PROMPT_S = 0.5
OURS = "graphmeter"
"""The exporter's thread."""


class Exporter(SpanExporter):
    """Remembers which threads called it, and with what."""

    def __init__(self, takes: Callable[[], object] = lambda: None) -> None:
        self.takes = takes
        self.threads: list[str] = []
        self.spans: Counter[Any] = Counter()
        self.most_at_once = 0
        self._inside = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._inside += 1
        self.most_at_once = max(self.most_at_once, self._inside)
        self.threads.append(threading.current_thread().name)
        self.takes()
        self.spans.update((span.context.trace_id, span.context.span_id) for span in spans if span.context is not None)
        self._inside -= 1
        return SpanExportResult.SUCCESS


class Flushing:
    """A graph of one node that is measured through `exporter`; three spans a run, one of which says that it started."""

    def __init__(self, exporter: SpanExporter, **chosen: Any) -> None:
        self.handler = GraphMeterCallbackHandler(exporter=exporter, **chosen)
        self.pipeline = client.pipeline(exporter=exporter)
        self.pipeline._settings = Settings(**BY_HAND)
        self.graph = chain_of(("n", nothing))

    def run(self) -> None:
        self.graph.invoke({}, config={"callbacks": [self.handler]})

    def flush(self, timeout_s: float = 60) -> bool:
        self.run()
        return self.pipeline.flush(timeout_s)


@pytest.fixture(autouse=True)
def by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ran before in this process, and however busy the machine is."""
    monkeypatch.setattr(Pipeline, "slow", False)
    monkeypatch.setattr(outbox, "_PROMPT_S", PROMPT_S)


@pytest.fixture
def built_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that built spans."""
    threads: list[str] = []
    finished = client.finished

    def look(run: Run) -> None:
        threads.append(threading.current_thread().name)
        finished(run)

    monkeypatch.setattr(client, "finished", look)
    return threads


def test_an_exporter_that_answers_at_once_is_called_by_whoever_flushes() -> None:
    exporter = Exporter()
    one = Flushing(exporter)
    assert one.flush()
    assert [OURS] == exporter.threads  # what it takes is not known yet
    assert one.flush()
    assert one.flush()
    assert [OURS, *[threading.current_thread().name] * 2] == exporter.threads
    assert 3 * 3 == len(exporter.spans) == exporter.spans.total()
    assert Counts(9, 0, 0, 0) == one.pipeline.counts()


def test_one_that_takes_its_time_is_left_to_our_thread() -> None:
    exporter = Exporter(lambda: time.sleep(PROMPT_S))
    one = Flushing(exporter)
    assert one.flush()
    assert one.flush()
    assert one.flush()
    assert [OURS] * 3 == exporter.threads
    exporter.takes = lambda: None
    assert one.flush()
    assert one.flush()
    assert [OURS, threading.current_thread().name] == exporter.threads[3:]


def test_the_timeout_holds_though_an_exporter_hangs() -> None:
    gate = threading.Event()
    one = Flushing(Exporter(lambda: gate.wait(60)))
    began = time.monotonic()
    assert not one.flush(0.1)
    assert time.monotonic() - began < 30
    gate.set()
    assert one.flush()


def test_spans_are_built_by_whoever_waits_and_sent_by_our_thread(built_by: list[str]) -> None:
    receiver = Receiver()
    one = Sending(receiver.url, **BY_HAND)
    one.run()
    assert one.pipeline.flush(60)
    built_by.clear()
    one.run()
    assert one.pipeline.flush(60)
    assert {threading.current_thread().name} == set(built_by)
    assert dict.fromkeys(("model", "node", "run", "start"), 2) == Counter(receiver.kinds())
    one.pipeline.shutdown(1)
    receiver.close()


def test_with_nothing_to_send_nobody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    one = Sending(receiver.url, **BY_HAND)
    one.run()
    assert one.pipeline.flush(60)
    requests = len(receiver.paths)
    with monkeypatch.context() as patched:
        patched.setattr(one.pipeline, "_wake", lambda: pytest.fail("woken for nothing"))
        assert one.pipeline.flush(60)
    one.run()
    assert one.pipeline.flush(60)
    assert requests + 1 == len(receiver.paths)
    one.pipeline.shutdown(1)
    receiver.close()


@pytest.mark.parametrize("chosen", [{"redact": lambda text, where: text}, {"mirror": True}, {"capture": "content"}])
def test_what_may_take_any_time_is_built_by_our_thread(built_by: list[str], chosen: dict[str, Any]) -> None:
    one = Flushing(Exporter(), **chosen)
    assert one.flush()
    assert one.flush()
    assert {OURS} == set(built_by)


def test_more_than_a_little_is_built_by_our_thread(built_by: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = Flushing(Exporter())
    assert one.flush()
    monkeypatch.setattr(emit, "_BUILT_IN_PLACE", 2)
    built_by.clear()
    assert one.flush()
    assert {OURS} == set(built_by)


def test_a_flush_is_false_where_a_span_could_not_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Exporter()
    one = Flushing(exporter)
    assert one.flush()
    with monkeypatch.context() as patched:
        patched.setattr(one.pipeline, "_finished", lambda run: 1 / 0)
        assert not one.flush()
    assert 2 == guard.faults()["build span: ZeroDivisionError"]
    assert one.flush()


def test_so_is_one_that_a_collector_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    one = Sending(receiver.url, **BY_HAND)
    one.run()
    assert one.pipeline.flush(60)
    with monkeypatch.context() as patched:
        patched.setattr(one.pipeline, "_finished", lambda run: 1 / 0)
        one.run()
        assert not one.pipeline.flush(60)
    one.run()
    assert one.pipeline.flush(60)
    assert 3 == one.pipeline.counts().failed
    one.pipeline.shutdown(1)
    receiver.close()


def test_who_is_interrupted_in_the_middle_leaves_nothing_uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(run: Run) -> None:
        raise KeyboardInterrupt

    exporter = Exporter()
    one = Flushing(exporter)
    assert one.flush()
    with monkeypatch.context() as patched:
        patched.setattr(one.pipeline, "_finished", interrupt)
        with pytest.raises(KeyboardInterrupt):
            one.flush()
    assert one.flush()
    # The note that the run started was built before.
    assert Counts(7, 0, 2, 0) == one.pipeline.counts()
    assert 7 == exporter.spans.total()


def test_a_signal_in_the_middle_of_a_flush_does_not_keep_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "_TURN_S", 0.05)
    exporter = Exporter()
    one = Flushing(exporter)
    one.run()
    # As a handler that waits for another thread's flush: the code that it interrupted has the turn, and does not go on.
    with one.pipeline._rounds:
        others: list[bool] = []
        thread = threading.Thread(target=lambda: others.append(one.pipeline.flush(60)))
        thread.start()
        thread.join()
    assert [True] == others
    assert 3 == exporter.spans.total()


def test_many_threads_flush_at_once_and_everything_is_exported_once() -> None:
    exporter = Exporter()
    one = Flushing(exporter)
    assert one.flush()

    def work() -> None:
        for _ in range(25):
            one.run()
            one.pipeline.flush(60)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.pipeline.flush(60)
    assert 1 == exporter.most_at_once
    assert 201 * 3 == len(exporter.spans) == exporter.spans.total()
