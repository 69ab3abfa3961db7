"""The demo from beginning to end: a collector, the example graphs through it with the real client, the proof, the screen.

The client is set up as any application sets it up, by environment variables; each demo is a service of its own
(`graphmeter-demo-1f2e3d4c`), so that it finds its own runs again on a database that holds others.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import graphmeter
from graphmeter_cli.api import HttpReader
from graphmeter_cli.demo import collector as own
from graphmeter_cli.demo import summary, verify
from graphmeter_cli.units import plural, usd
from graphmeter_examples.models import Models, ProviderUnavailable, choose_models
from graphmeter_examples.tally import Tally
from graphmeter_examples.workload import DEFAULT_TIME_SCALE, Workload, run_workload

SERVICE = "graphmeter-demo"
ENVIRONMENT = "demo"
QUEUE_SPANS = 200_000  # the proof is of what was run, not of what a small queue could hold
CONFIG = """\
# What the demo's collector measures against: the example models fail on purpose, and cost next to nothing.
version: 1
slos:
  - name: demo-availability
    objective: 75%
budgets:
  - name: demo-team-monthly
    limit_usd: 0.50
    per_team: true
"""
FLUSH_WITHIN_S = 60.0
STORED_WITHIN_S = 60.0  # after the collector has acknowledged everything: one commit, but not on every machine


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for."""

    runs: int
    seed: int
    model: str = ""
    """A real `provider:model`; empty for the stand-ins."""
    port: int = 4318
    endpoint: str = ""
    """A collector that runs already; empty for one of the demo's own."""
    database_url: str = ""
    data_dir: Path | None = None
    forward: Sequence[str] = ()
    once: bool = False
    loop: bool = False


def demo(plan: Plan, console: Console) -> bool:
    """Run the demo; True when what was stored equals what was run.

    Raises:
        click.ClickException: it could not be run at all.
    """
    try:
        models = choose_models(plan.model, seed=plan.seed, time_scale=DEFAULT_TIME_SCALE)
    except ProviderUnavailable as problem:
        raise click.ClickException(str(problem)) from problem
    # Endless load is one service, however often it is restarted; a proof has to find its own runs.
    service = SERVICE if plan.loop else f"{SERVICE}-{secrets.token_hex(4)}"
    with _collector(plan, console) as (url, collector):
        _configure_client(url, service)
        if plan.loop:
            _until_interrupted(lambda: _endlessly(plan, console))
            return True
        equal = _measured(plan, models, url, service, console)
        if collector is not None and not plan.once:
            _until_interrupted(lambda: _outlive(collector, console))
        return equal


@contextmanager
def _collector(plan: Plan, console: Console) -> Iterator[tuple[str, own.Collector | None]]:
    """The URL of the collector to use, and the collector if it is our own; that one lives as long as the block."""
    if plan.endpoint:
        console.print(f"Collector at {plan.endpoint}")
        yield plan.endpoint.rstrip("/"), None
        return
    port = own.free_port(plan.port)
    if plan.port not in (port, 0):
        console.print(f"Port {plan.port} is busy: using {port}.")
    with tempfile.TemporaryDirectory(prefix="graphmeter-demo-") as temporary:
        data_dir = plan.data_dir or Path(temporary)
        data_dir.mkdir(parents=True, exist_ok=True)
        arguments = ["--config", str(_config(data_dir))]
        arguments += [part for url in plan.forward for part in ("--forward", url)]
        if plan.database_url:
            arguments += ["--database-url", plan.database_url]
        with own.running(port, data_dir, arguments) as collector:
            database = "the given database" if plan.database_url else f"SQLite in {data_dir}"
            console.print(f"Collector on {collector.url}, storing in {database}")
            yield collector.url, collector


def _config(data_dir: Path) -> Path:
    """The collector's own configuration, whatever ./graphmeter.yaml says: its SLO and budget suit the examples."""
    path = data_dir / "demo.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def _configure_client(url: str, service: str) -> None:
    """As an application would be: in the environment, before the first graph runs. Our own, not the user's service's."""
    for name in [name for name in os.environ if name.startswith(("GRAPHMETER_", "OTEL_"))]:
        del os.environ[name]
    os.environ["GRAPHMETER_ENDPOINT"] = url
    os.environ["GRAPHMETER_QUEUE_SPANS"] = str(QUEUE_SPANS)
    os.environ["OTEL_SERVICE_NAME"] = service
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = f"deployment.environment.name={ENVIRONMENT}"
    # A proxy knows nothing of our loopback.
    os.environ["no_proxy"] = ",".join(
        filter(None, [os.environ.get("no_proxy", os.environ.get("NO_PROXY")), "127.0.0.1"])
    )


def _measured(plan: Plan, models: Models, url: str, service: str, console: Console) -> bool:
    """Run the workload once, compare, show; True when everything is equal."""
    since_ns = time.time_ns()
    tally = _run(plan, models, console, prefix=f"{service}-")
    if not graphmeter.flush(FLUSH_WITHIN_S):
        raise click.ClickException(f"the collector at {url} did not take everything within {FLUSH_WITHIN_S:g} s")
    measured = asyncio.run(_ask(url, service, since_ns, tally, exact=models.exact))
    console.print()
    summary.show(console, measured)
    if (stats := graphmeter.stats()).dropped or stats.failed:
        console.print(
            f"The client dropped {plural(stats.dropped, 'span')} and failed to send {stats.failed}.", style="red"
        )
    console.print()
    summary.where_next(console, url, while_it_runs=bool(plan.endpoint) or not plan.once)
    return measured.equal


def _run(plan: Plan, models: Models, console: Console, *, prefix: str) -> Tally:
    """Drive the example graphs, with a progress bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Running the example graphs", total=None)
        return run_workload(
            graphmeter.meter,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            workload=Workload(seed=plan.seed, runs=plan.runs, prefix=prefix),
            models=models,
        )


async def _ask(url: str, service: str, since_ns: int, tally: Tally, *, exact: bool) -> summary.Measured:
    """Everything there is to show about this demo, as the collector's API tells it."""
    async with HttpReader(url, os.environ.get("GRAPHMETER_API_KEY", "")) as reader:
        comparisons = await verify.until_equal(reader, service, since_ns, tally, exact=exact, within_s=STORED_WITHIN_S)
        stored = await verify.fetch(reader, service, since_ns)
        run = summary.telling_run(stored.runs)
        return summary.Measured(
            stored,
            comparisons,
            trace=None if run is None else (run, await reader.spans(run.trace_id)),
            slos=await reader.slos(),
            budgets=await reader.budgets(),
        )


def _endlessly(plan: Plan, console: Console) -> None:
    """Workload after workload, each with the next seed, until the process is told to stop."""
    seed = plan.seed
    while True:
        models = choose_models(plan.model, seed=seed, time_scale=DEFAULT_TIME_SCALE)
        tally = run_workload(
            graphmeter.meter, workload=Workload(seed=seed, runs=plan.runs, prefix=f"{seed}-"), models=models
        )
        graphmeter.flush(FLUSH_WITHIN_S)  # no faster than the collector takes it
        console.print(f"{plural(tally.runs.total(), 'run')}, {usd(tally.cost_nano.total())} (seed {seed})")
        seed += 1


def _outlive(collector: own.Collector, console: Console) -> None:
    """Wait for the collector to end, which it only does on a fault: we are the one who stops it."""
    # Said here, where Ctrl-C is understood, and not a moment before.
    console.print("The collector keeps running; Ctrl-C ends the demo.", style="bold")
    code = collector.wait()
    raise click.ClickException(f"the collector ended with {code}; the end of its log:\n{collector.last_words()}")


def _until_interrupted(work: Callable[[], None]) -> None:
    """Work until Ctrl-C, which is how such work is meant to end."""
    try:
        work()
    except KeyboardInterrupt:
        click.echo()
