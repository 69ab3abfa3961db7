"""The demo's reports in, one screen out: nodes, spend, a trace, an SLO, a budget, and where to look next."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console

from graphmeter import names
from graphmeter_cli import objectives, render
from graphmeter_cli.demo.verify import Comparison, Stored
from graphmeter_cli.tree import trace_tree
from graphmeter_cli.units import count, plural
from graphmeter_collector.reports import BudgetRow, CostRow, RunRow, SloRow, SpanRow

_TRACE_LINES = 30  # a trace that fits the screen


def regroup(rows: Sequence[CostRow], *by: str) -> list[CostRow]:
    """Spend grouped by fewer dimensions, dearest first."""
    groups: dict[tuple[str, ...], list[CostRow]] = {}
    for row in rows:
        groups.setdefault(tuple(row.group[name] for name in by), []).append(row)
    summed = [
        CostRow(
            group=dict(zip(by, values, strict=True)),
            calls=sum(row.calls for row in members),
            cache_hits=sum(row.cache_hits for row in members),
            unpriced_calls=sum(row.unpriced_calls for row in members),
            usage_missing_calls=sum(row.usage_missing_calls for row in members),
            tokens={bucket: sum(row.tokens.get(bucket, 0) for row in members) for bucket in names.TOKEN_TYPES},
            cost_nano=sum(row.cost_nano for row in members),
            saved_nano=sum(row.saved_nano for row in members),
            billed_nano=sum(row.billed_nano for row in members),
            wasted_nano=_added(row.wasted_nano for row in members),
            wasted_calls=_added(row.wasted_calls for row in members),
        )
        for values, members in groups.items()
    ]
    return sorted(summed, key=lambda row: (-row.cost_nano, tuple(row.group.values())))


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sums by key."""
    found: dict[str, int] = {}
    for each in counts:
        for key, count_of in each.items():
            found[key] = found.get(key, 0) + count_of
    return found


def telling_run(runs: Sequence[RunRow]) -> RunRow | None:
    """The run whose trace shows most on one screen: ended well after a failed attempt if there is one, else the dearest."""
    shown = [run for run in runs if run.spans <= _TRACE_LINES and run.status == names.OK] or list(runs)
    return max(shown, key=lambda run: (run.node_errors > 0, run.tool_calls > 0, run.cost_nano), default=None)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything the demo shows."""

    stored: Stored
    comparisons: list[Comparison]
    trace: tuple[RunRow, list[SpanRow]] | None
    slos: list[SloRow]
    budgets: list[BudgetRow]

    @property
    def equal(self) -> bool:
        """Whether what was stored is what was run."""
        return all(comparison.equal for comparison in self.comparisons)


def show(console: Console, measured: Measured) -> None:
    """Print what was measured, and the proof."""
    stored = measured.stored
    console.print(render.node_table(stored.nodes, "Nodes: latency of attempts, errors of executions"))
    console.print(render.cost_table(regroup(stored.cost, "model"), ["model"], "Spend per model"))
    console.print(render.cost_table(regroup(stored.cost, "team"), ["team"], "Spend per team"))
    for note in render.cost_notes(stored.cost):
        console.print(note)
    if measured.trace is not None:
        console.print("[bold]One run as a tree[/bold]")
        console.print(trace_tree(*measured.trace, ascii_only=console.options.ascii_only))
        console.print()
    if slos := measured.slos:
        first = [row for row in slos if row.slo == slos[0].slo]
        console.print(objectives.state_table(first, time.time_ns(), "One SLO"))
    if budgets := measured.budgets:
        console.print(render.budget_table([row for row in budgets if row.budget == budgets[0].budget], "One budget"))
    show_comparisons(console, measured.comparisons)


def show_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print every comparison as a line; for one that is not equal, both numbers of each group that differs."""
    console.print("[bold]Stored = run?[/bold]")
    for comparison in comparisons:
        sign = render.mark(names.OK if comparison.equal else names.ERROR, ascii_only=console.options.ascii_only)
        run, stored = comparison.run.total(), comparison.stored.total()
        relation = "=" if run == stored else "≠"
        groups = f"{plural(len(+comparison.run), 'group')} by {', '.join(comparison.by)}"
        console.print(" ", sign, f"{comparison.what:<24} {count(run):>14} {relation} {count(stored):<14} {groups}")
        for group, was_run, was_stored in comparison.differences():
            console.print(f"      {group}: run {count(was_run)}, stored {count(was_stored)}", style="red", markup=False)


def where_next(console: Console, url: str, *, while_it_runs: bool) -> None:
    """Print how to go on: metrics, API, reports, and how to attach Jaeger, Prometheus and Grafana."""
    condition = "" if while_it_runs else ", while `graphmeter demo` runs without --once"
    console.print(f"[bold]Where to look next[/bold]{condition}")
    console.print(
        f"""\
  metrics      {url}/metrics
  API          {url}/docs
  reports      graphmeter runs --url {url}
               graphmeter trace RUN --url {url}
  Jaeger       graphmeter demo --forward http://localhost:14318    (its OTLP/HTTP port)
  Prometheus   scrape_configs:
                 - job_name: graphmeter
                   static_configs: [{{targets: ["{url.partition("://")[2]}"]}}]
               graphmeter rules build --out rules                  (rule_files: [rules/*.rules.yml])
  Grafana      graphmeter dashboards build --out dashboards        (import them, or provision the folder)""",
        markup=False,
        soft_wrap=True,
    )
