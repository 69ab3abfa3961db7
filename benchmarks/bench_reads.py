"""How long answers take when thirty days with ten million spans are stored: every report and filter of the API, over HTTP.

The month is that of `month.py`, stored by the pipeline (`fill_month.py`). Questions are asked one after the other on one
connection, of a collector as `graphmeter serve` starts it. `cold`: once, after database and collector were started anew and
their files dropped from the system's cache. Then each so many times: the median, the worst, and the CPU that an answer takes
of collector and database together, which is what stays true where others work on the machine, too. Processors are kept awake
meanwhile (see `awake`).
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import asyncpg
from awake import awake
from bench_ingest import collector, databases, server_process
from fill_month import fill, last_hour_ns
from month import DAY, HOUR, Month

from graphmeter_collector.reports import COST_DIMENSIONS

RUN_LIST_MS = 100
PERCENTILES_MS = 300
"""The floors of docs/benchmarks.md; the goal of the latter is 50."""
USD = 10**9
S = 10**9


class Question(NamedTuple):
    """What is asked."""

    label: str
    path: str
    floor_ms: float | None = None


def questions(month: Month, run: dict[str, Any]) -> list[Question]:
    """All that can be asked, worst cases included; `run` is one from the middle of the month."""
    at = {"since_ns": month.end_ns - month.days * DAY, "until_ns": month.end_ns}

    def ask(label: str, path: str, floor_ms: float | None = None, **how: object) -> Question:
        return Question(label, f"/api/{path}?{urlencode(how)}", floor_ms)

    def runs(label: str, **how: object) -> Question:
        return ask(f"runs, {label}", "runs", RUN_LIST_MS, **how)

    return [
        ask("SLOs, with the windows of their alerts", "slos"),
        ask("SLOs, report of 30 days", "slos/report", since="30d"),
        ask("nodes, 30 days", "nodes", PERCENTILES_MS, since="30d"),
        ask(
            "nodes, 30 days, one graph and team", "nodes", PERCENTILES_MS, since="30d", graph="ingest", team="platform"
        ),
        ask("nodes, 30 days, ends in mid-day", "nodes", PERCENTILES_MS, **at | {"until_ns": month.end_ns - HOUR}),
        ask("nodes, 7 days", "nodes", since="7d"),
        ask("nodes, 24 hours (exact)", "nodes", since="24h"),
        runs("newest"),
        runs("graph: common", graph="support"),
        runs("graph: rare", graph="ingest"),
        runs("graph: none such", graph="nobody"),
        runs("team: common", team="cx"),
        runs("team: rare", team="platform"),
        runs("team: none such", team="nobody"),
        *(runs(f"status: {status}", status=status) for status in ("ok", "error", "interrupted", "cancelled", "lost")),
        runs("status: running", status="running"),
        *(runs(f"cost: from {usd} USD", min_cost_nano=round(usd * USD)) for usd in (0.001, 0.05, 1000)),
        *(runs(f"duration: from {s} s", min_duration_ns=s * S) for s in (1, 30, 100_000)),
        runs("since an hour", since="1h"),
        runs("until the first day's end", until_ns=at["since_ns"] + DAY),
        runs("until before the first", until_ns=at["since_ns"]),
        runs(
            "a day in the middle, rare team",
            team="platform",
            since_ns=run["started_ns"] - DAY,
            until_ns=run["started_ns"],
        ),
        runs("rare team and status", team="platform", status="cancelled"),
        runs("common team and status, cost of nobody", team="cx", status="ok", min_cost_nano=1000 * USD),
        runs("common graph, unlucky team and status", graph="support", team="platform", status="cancelled"),
        runs(
            "errors that cost, of a first day", status="error", min_cost_nano=USD // 30, until_ns=at["since_ns"] + DAY
        ),
        runs(
            "everything at once",
            graph="support",
            team="cx",
            status="ok",
            min_cost_nano=USD // 20,
            min_duration_ns=30 * S,
            **at,
        ),
        ask("1,000 runs", "runs", limit=1000),
        ask("one run by its id", f"runs/{run['run_id']}"),
        # What begins with the time needs more of it than a random id does; pages show as much.
        ask("one run by the beginning of its run id", f"runs/{run['run_id'][:13]}"),
        ask("one run by its trace id", f"runs/{run['trace_id']}"),
        ask("its trace", f"runs/{run['run_id']}/trace"),
        ask("cost, 30 days, in all", "cost", by="", **at),
        *(ask(f"cost, 30 days, by {each}", "cost", by=each, **at) for each in COST_DIMENSIONS[:9]),
        ask("cost, 30 days, by team and model", "cost", by="team,model", **at),
        ask("cost, 24 hours, by team", "cost", by="team", since="24h"),
        ask("cost, an hour, by run", "cost", by="run_id", since="1h"),
        ask("runs by status, 30 days", "run_counts", **at),
        ask("series, 30 days", "series", since="30d"),
        ask("budgets", "budgets"),
        ask("error budgets", "slos"),
    ]


class Asking:
    """One connection to a collector."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)

    def ask(self, path: str) -> tuple[float, Any]:
        """Milliseconds until the whole answer is there, and what it says."""
        began = time.perf_counter()
        self._http.request("GET", path)
        answer = self._http.getresponse()
        body = answer.read()
        took_ms = (time.perf_counter() - began) * 1e3
        if answer.status != 200:
            raise AssertionError(f"{path}: {answer.status} {body[:200]!r}")
        return took_ms, json.loads(body)


def one_run(url: str, month: Month) -> dict[str, Any]:
    """A run from the middle of the month."""
    middle = month.end_ns - month.days * DAY // 2
    _, [run] = Asking(url).ask(f"/api/runs?{urlencode({'until_ns': middle, 'limit': 1})}")
    return dict(run)


def measure(database_url: str, month: Month, rounds: int, begin_cold: Callable[[], int]) -> None:
    """Print a table; `begin_cold` makes files and database cold, and gives the process id of its server (0: none)."""
    with collector(database_url) as running:
        run = one_run(running.url, month)
    asked = questions(month, run)
    database = begin_cold()
    cold = {}
    with awake(), collector(database_url, database) as running:
        ready_s = running.ready_s
        once = Asking(running.url)
        for question in asked:
            cold[question], _ = once.ask(question.path)
        once = Asking(running.url)
        print(f"{'ms':<46} {'rows':>6} {'cold':>8} {'median':>8} {'worst':>8} {'CPU':>8} {'floor':>7}")
        for question in asked:
            took, answer = [], None
            before = sum(running.cpu())
            for _ in range(rounds):
                ms, answer = once.ask(question.path)
                took.append(ms)
            cpu_ms = (sum(running.cpu()) - before) / rounds * 1e3
            floor = "" if question.floor_ms is None else f"{question.floor_ms:.0f}"
            missed = "  missed" if question.floor_ms is not None and statistics.median(took) > question.floor_ms else ""
            print(
                f"{question.label:<46} {len(answer or ()) if isinstance(answer, list) else 1:>6} {cold[question]:>8.1f} "
                f"{statistics.median(took):>8.1f} {max(took):>8.1f} {cpu_ms:>8.1f} {floor:>7}{missed}",
                flush=True,
            )
    print(f"\nready {ready_s:.1f} s after a cold start\n")


def drop_cached(files: Path) -> None:
    """Have the system forget what it remembers of files."""
    os.sync()
    for path in [files] if files.is_file() else files.rglob("*"):
        if path.is_file():
            opened = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(opened)


async def _files_of(postgres_url: str) -> Path:
    connection = await asyncpg.connect(postgres_url)
    try:
        return Path(await connection.fetchval("SHOW data_directory"))
    finally:
        await connection.close()


def cold_sqlite(database_url: str) -> Callable[[], int]:
    """Drops the file from the cache."""

    def begin() -> int:
        drop_cached(Path(database_url.removeprefix("sqlite:///")))
        return 0

    return begin


def cold_postgres(database_url: str, stop: Callable[[], None], start: Callable[[], None]) -> Callable[[], int]:
    """Starts the server anew, its files dropped from the cache; one that cannot be, keeps what is in its own memory."""

    def begin() -> int:
        files = asyncio.run(_files_of(database_url))
        stop()
        drop_cached(files)
        start()
        return server_process(database_url)

    return begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("", "sqlite", "postgres"), default="", help="one of the two only")
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7, help="times that each question is asked, besides the cold one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--database-url", default="", help="measure what `fill_month.py` has stored there, fill nothing"
    )
    parser.add_argument("--end-ns", type=int, default=last_hour_ns(), help="end of the month that is there")
    given = parser.parse_args()
    month = Month(given.spans, given.end_ns, given.seed)
    if url := given.database_url:
        nothing: Callable[[], None] = lambda: None  # noqa: E731
        begin_cold = cold_sqlite(url) if url.startswith("sqlite") else cold_postgres(url, nothing, nothing)
        measure(url, month, given.rounds, begin_cold)
        return
    with databases(given.store) as found:
        for database in found:
            url = database.fresh()
            print(f"{database.name}: {month.spans:,} spans of {month.days} days\n")
            asyncio.run(fill(url, month, database=database.process))
            begin_cold = cold_postgres(url, database.stop, database.start) if database.process else cold_sqlite(url)
            measure(url, month, given.rounds, begin_cold)


if __name__ == "__main__":
    main()
