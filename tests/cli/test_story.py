"""What `runs` and `trace` tell of a run beside its spans: who waited for whom, how it turned out, how it is tagged."""

from __future__ import annotations

import pytest

from cli.running import run
from cli.test_reports import fill
from graphmeter import names
from support.records import answered, note, record

ASKED, ANSWERED = (f"00000000-0000-0000-0000-{of:012d}" for of in (51, 52))


@pytest.fixture
def told(sqlite_url: str) -> str:
    left = [
        record(1, of=61, kind=names.RUN, thread_id="t2", status=names.INTERRUPTED, checkpoint_id="c9"),
        record(1, of=62, kind=names.RUN, at_s=60, thread_id="t2"),
        record(1, of=63, kind=names.RUN, at_s=200, thread_id="t3", status=names.INTERRUPTED),
        record(1, of=64, kind=names.RUN, at_s=300, thread_id="t4", status=names.INTERRUPTED),
        note(9, names.START, of=65, at_s=400, thread_id="t4", status=names.RUNNING),
        record(1, of=66, kind=names.RUN, at_s=500, thread_id="t5", resumed_from="c0"),
    ]
    fill(sqlite_url, [*answered(), *left])
    return sqlite_url


def lines(url: str, of: int) -> list[str]:
    """What follows the tree and its summary."""
    result = run("trace", f"00000000-0000-0000-0000-{of:012d}", "--database-url", url)
    assert 0 == result.exit_code, result.output
    shown = result.stdout.splitlines()
    summary = next(number for number, line in enumerate(shown) if " UTC  " in line)
    return [line.strip() for line in shown[summary + 1 :]]


def test_a_trace_says_whom_it_waited_for_and_how_it_turned_out(told: str) -> None:
    assert [f"resumed by run {ANSWERED} after 3h 00m"] == lines(told, 51)
    assert [
        f"resumes run {ASKED} after 3h 00m",
        "tags late=yes plan=gold",
        "outcome resolved: good, csat: 4.5",
    ] == lines(told, 52)


def test_a_trace_says_what_became_of_a_question_without_an_answer(told: str) -> None:
    new_input = "00000000-0000-0000-0000-000000000062 after 59 s"
    assert [f"left without an answer: the thread got new input in run {new_input}"] == lines(told, 61)
    assert ["waits for an answer since 2026-11-18 11:10:01 UTC"] == lines(told, 63)
    going_on = "00000000-0000-0000-0000-000000000065 after 99 s"
    assert [f"resumed by run {going_on}, which has not ended"] == lines(told, 64)
    assert ["goes on from checkpoint c0"] == lines(told, 66)


def test_runs_say_who_is_waited_for_and_how_they_turned_out(told: str) -> None:
    shown = run("runs", "--database-url", told).stdout
    by_run = {line.split()[2][-2:]: line for line in shown.splitlines() if "support" in line}

    assert "interrupted, answered after 3h 00m" in by_run["51"]
    assert "ok, resumed" in by_run["52"]
    assert "resolved: good, csat: 4.5" in by_run["52"]
    assert "interrupted, left" in by_run["61"]
    assert "interrupted, waiting" in by_run["63"]
    assert "interrupted, going on" in by_run["64"]
