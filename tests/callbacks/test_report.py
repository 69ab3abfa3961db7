"""Reports: the collector learns what became of every process's spans, in counts that add up, never for their own sake."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callbacks.fakes import chain_of, nothing
from callbacks.otlp import Receiver
from callbacks.test_delivery import Sending, wait_for
from callbacks.test_process import python
from graphmeter import client, names
from graphmeter.settings import Settings
from graphmeter.testing import InMemorySpans

COUNTS = (names.CLIENT_EXPORTED, names.CLIENT_DROPPED, names.CLIENT_FAILED, names.CLIENT_QUEUED)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def sending(receiver: Receiver) -> Iterator[Callable[..., Sending]]:
    made: list[Sending] = []

    def make(**settings: Any) -> Sending:
        made.append(Sending(receiver.url, **settings))
        return made[-1]

    yield make
    for one in made:
        one.pipeline.shutdown(1)


def counts(report: dict[str, Any]) -> tuple[int, ...]:
    return tuple(report[name] for name in COUNTS)


def test_a_flush_tells_what_became_of_the_spans_in_the_same_request(
    receiver: Receiver, sending: Callable[..., Sending]
) -> None:
    one = sending(team="cx", flush_interval_s=30)
    one.run()
    assert one.pipeline.flush(60)
    one.run()
    assert one.pipeline.flush(60)
    assert 2 == receiver.requests
    first, second = receiver.reports
    assert [(4, 0, 0, 0), (8, 0, 0, 0)] == [counts(first), counts(second)]
    assert (1, 2) == (first[names.CLIENT_SEQUENCE], second[names.CLIENT_SEQUENCE])
    assert first[names.CLIENT_ID] == second[names.CLIENT_ID]
    assert 32 == len(first[names.CLIENT_ID])
    assert "cx" == first[names.TEAM]
    assert (0, 0) == (first[names.CLIENT_OPEN_RUNS], first[names.CLIENT_FAULTS])
    assert (8, 0, 0, 0) == one.pipeline.counts()[:4]  # reports are not counted


def test_a_flush_with_nothing_new_reports_nothing(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    one = sending()
    assert one.pipeline.flush(60)
    assert 0 == receiver.requests
    one.run()
    assert one.pipeline.flush(60)
    requests = receiver.requests
    assert one.pipeline.flush(60)
    assert one.pipeline.shutdown(60)
    assert requests == receiver.requests


def test_after_the_interval_a_report_is_sent_once_and_then_there_is_silence(
    receiver: Receiver, sending: Callable[..., Sending]
) -> None:
    one = sending(report_s=0.1)
    one.run()
    wait_for(lambda: bool(receiver.reports) and counts(receiver.reports[-1]) == (4, 0, 0, 0))
    seen = len(receiver.reports)
    time.sleep(0.35)
    assert seen == len(receiver.reports)
    assert one.pipeline._outbox.wait_s is None


def test_a_report_of_a_refusal_does_not_lead_to_further_reports(
    receiver: Receiver, sending: Callable[..., Sending]
) -> None:
    receiver.answers = [400, 400, 400]
    one = sending(flush_interval_s=30)
    one.run()
    assert not one.pipeline.flush(60)
    assert 1 == receiver.requests
    assert [400, 400] == receiver.answers
    receiver.answers = []
    assert one.pipeline.flush(60)
    assert [(0, 0, 4, 0)] == [counts(report) for report in receiver.reports]
    assert 1 == receiver.reports[0][names.CLIENT_FAULTS]


def test_what_was_dropped_and_refused_is_told_when_the_collector_is_back(
    receiver: Receiver, sending: Callable[..., Sending]
) -> None:
    receiver.answers = [503]
    receiver.reject = 2
    one = sending(queue_spans=16)
    for _ in range(3):
        one.run(2)
        one.pipeline.flush(60)
    for report in receiver.reports:
        assert report[names.CLIENT_EXPORTED] <= 24
    one.pipeline.flush(60)
    exported, dropped, failed, queued = counts(receiver.reports[-1])
    assert 24 == exported + dropped + failed + queued
    assert (failed, queued) == (one.pipeline.counts().failed, 0)


def test_reports_can_be_switched_off(receiver: Receiver, sending: Callable[..., Sending]) -> None:
    one = sending(report_s=0)
    one.run()
    assert one.pipeline.flush(60)
    assert [] == receiver.reports


def test_an_exporter_of_the_users_own_gets_no_reports_and_its_thread_sleeps(
    spans: InMemorySpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_settings", Settings(report_s=0.01, flush_interval_s=0.01, topology=False))
    handler = spans.handler()
    chain_of(("n", nothing)).invoke({}, config={"callbacks": [handler]})
    assert ["start", "run", "node"] == [span.kind for span in spans.all()]
    time.sleep(0.05)
    assert client.pipeline(exporter=spans)._outbox.wait_s is None
    assert ["start", "run", "node"] == [span.kind for span in spans.all()]


def test_at_exit_the_last_report_counts_everything_and_a_forked_child_is_another_client(receiver: Receiver) -> None:
    done = python(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside threads
        graph = meter(chain_of(('n', nothing)))
        graph.invoke({})
        assert flush(60)
        child = os.fork()
        graph.invoke({})
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
        GRAPHMETER_FLUSH_INTERVAL_S="30",
    )
    assert 0 == done.returncode, done.stderr
    last = {report[names.CLIENT_ID]: counts(report) for report in receiver.reports}
    assert [(3, 0, 0, 0), (6, 0, 0, 0)] == sorted(last.values())


def test_a_last_report_does_not_hold_up_the_exit_for_long(receiver: Receiver) -> None:
    done = python(
        """
        import time
        from graphmeter import client
        meter(chain_of(('n', nothing))).invoke({})
        while stats().exported < 3:
            time.sleep(0.01)
        class Hanging:
            def open(self, *args, **kwargs):
                time.sleep(50)
        client.pipeline()._outbox._delivery._opener = Hanging()
        """,
        GRAPHMETER_ENDPOINT=receiver.url,
        GRAPHMETER_EXIT_TIMEOUT_S="40",
    )
    assert 0 == done.returncode, done.stderr
    assert ["node", "run", "start"] == receiver.kinds()
