"""The workload's totals depend on its seed alone."""

from __future__ import annotations

import functools

from graphmeter import names
from graphmeter_examples.luck import Luck
from graphmeter_examples.tally import Tally, by
from graphmeter_examples.workload import TEAMS, Graph, Workload, run_workload, unmeasured


@functools.cache
def truth(seed: int = 7, asynchronous: bool | None = None, workers: int = 8) -> Tally:
    return run_workload(workload=Workload(seed, 120, asynchronous=asynchronous), time_scale=0.0, workers=workers)


def test_the_same_seed_gives_the_same_totals() -> None:
    again = run_workload(workload=Workload(7, 120), time_scale=0.001, workers=3)
    assert truth().counts() == again.counts()


def test_sync_and_async_give_the_same_totals() -> None:
    assert truth(asynchronous=False).counts() == truth(asynchronous=True).counts()


def test_one_worker_gives_the_same_totals_as_many() -> None:
    assert truth(workers=1).counts() == truth().counts()


def test_another_seed_gives_other_totals() -> None:
    assert truth(seed=8) != truth()


async def test_it_may_be_called_with_an_event_loop_running() -> None:
    tally = run_workload(workload=Workload(7, 8), time_scale=0.0)
    assert tally.runs.total() > 4


def test_the_default_workload_has_everything_worth_measuring() -> None:
    tally = run_workload(time_scale=0.0)
    runs = by(tally.runs, "status")
    for status in (names.OK, names.ERROR, names.INTERRUPTED, names.CANCELLED):
        assert runs[status,] > 0, status
    assert {key.team for key in tally.runs} == set(TEAMS)
    assert len({key.graph for key in tally.runs}) == 4
    used = {bucket for (bucket,) in by(tally.tokens, "type")}
    assert used == {"input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"}
    attempts = by(tally.attempts, "status", "final")
    assert attempts[names.ERROR, "False"] > 0  # retried
    assert attempts[names.ERROR, "True"] > 0  # and given up
    assert attempts[names.INTERRUPTED, "True"] > 0
    assert tally.executions.total() < tally.attempts.total()
    for calls in (by(tally.tool_calls, "status"), by(tally.retriever_calls, "status"), by(tally.model_calls, "status")):
        assert calls[names.ERROR,] > 0
        assert calls[names.OK,] > 0
    assert tally.cost_nano.total() == sum(by(tally.cost_nano, "team").values()) > 0
    assert by(tally.cost_nano, "team")[("",)] > 0  # spend that nobody owns


def test_planned_runs_are_as_many_as_asked_for() -> None:
    jobs = list(Workload(7, 50).jobs())
    assert sum(1 + len(job.answers) for job in jobs) == 50
    threads = {job.config["configurable"]["thread_id"] for job in jobs}
    assert len(threads) == len(jobs)
    assert {job.streaming for job in jobs} == {job.asynchronous for job in jobs} == {True, False}


def test_every_graph_is_attached_once_per_team_and_progress_ends_at_the_total() -> None:
    attached: list[tuple[str, str]] = []
    seen: list[tuple[int, int]] = []

    def attach(graph: Graph, /, *, name: str, team: str) -> Graph:
        attached.append((name, team))
        return unmeasured(graph, name=name, team=team)

    tally = Tally()
    given = run_workload(
        attach, tally, lambda done, of: seen.append((done, of)), workload=Workload(7, 20), time_scale=0.0
    )
    assert given is tally
    assert len(attached) == len(set(attached)) == 16
    assert {team for _, team in attached} == {"cx", "growth", "platform", ""}
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]


def test_luck_is_even() -> None:
    luck = Luck(7)
    draws = [luck.unit(str(i)) for i in range(4000)]
    assert 0.0 <= min(draws) < 0.01 < 0.99 < max(draws) < 1.0
    assert 0.48 < sum(draws) / len(draws) < 0.52
    assert {luck.between(1, 3, str(i)) for i in range(50)} == {1, 2, 3}
    assert 0.08 < sum(luck.stumbles(0.1, str(i)) for i in range(4000)) / 4000 < 0.12
