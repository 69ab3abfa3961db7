"""The stack from its first server to its last: start, say where everything is, wait, end in the order that loses nothing."""

from __future__ import annotations

import fcntl
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from graphmeter_cli import children
from graphmeter_cli.leash import Leash, leash
from graphmeter_cli.stack import parts, tools
from graphmeter_collector.settings import DEFAULT_GRPC_PORT, DEFAULT_PORT
from graphmeter_config import Config

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that is closed."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Port:
    """A port, and whether the user wants this one and no other."""

    number: int
    demanded: bool
    option: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user asked for."""

    data_dir: Path
    config: Config
    config_path: Path | None
    """None: the defaults."""
    database_url: str
    forward: Sequence[str]
    collector: Port
    prometheus: Port
    alertmanager: Port
    prometheus_binary: str | None
    alertmanager_binary: str | None


def stack(plan: Plan, console: Console) -> None:
    """Run everything until Ctrl-C, SIGTERM or the end of the terminal.

    Raises:
        click.ClickException: a server did not start, or ended by itself; the others have been ended as well.
        OSError: the folder cannot be written to.
    """
    folders = parts.Folders(plan.data_dir.expanduser().resolve())
    folders.stack.mkdir(parents=True, exist_ok=True)
    for number in ENDS:
        # What is ignored on purpose stays so: `nohup graphmeter stack &`.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        with ExitStack() as servers:
            servers.enter_context(_alone(folders))
            held = servers.enter_context(leash())
            started: list[children.Child] = []
            for server in _servers(plan, folders, console):
                started.append(servers.enter_context(_running(server, folders, held)))
                console.print(f"{server.name:<13} http://localhost:{server.port}", highlight=False)
            _say_the_rest(plan, folders, started, console)
            _watch(started)
    except KeyboardInterrupt:
        console.print("Everything has ended.")


@contextmanager
def _alone(folders: parts.Folders) -> Iterator[None]:
    """Nobody else may write rules and logs into the folder meanwhile; the system lets go when we end, however we do."""
    with (folders.stack / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"another `graphmeter stack` keeps its data in {folders.data}: stop that one, or name another --data-dir"
            ) from None
        yield


def _servers(plan: Plan, folders: parts.Folders, console: Console) -> Iterator[parts.Server]:
    """Each is made when the one before it runs, so that a port is looked for when it is needed."""
    parts.write_rules(plan.config, folders)
    port = _port(plan.collector, console)
    grpc_port = _grpc_port(port, console)
    yield parts.collector(
        folders,
        port=port,
        grpc_port=grpc_port,
        config=plan.config_path,
        database_url=plan.database_url,
        forward=plan.forward,
    )
    tells = None
    if plan.alertmanager_binary:
        tells = _port(plan.alertmanager, console)
        yield parts.alertmanager(folders, plan.alertmanager_binary, port=tells)
    if plan.prometheus_binary:
        yield parts.prometheus(
            folders,
            plan.prometheus_binary,
            port=_port(plan.prometheus, console),
            scrapes=port,
            alertmanager=tells,
            config=plan.config,
        )


def _port(wanted: Port, console: Console) -> int:
    """The port that was asked for, or another one where nobody asked for this one."""
    found = children.free_port(wanted.number)
    if found != wanted.number and wanted.number:
        if wanted.demanded:
            raise click.ClickException(f"{wanted.option} {wanted.number}: somebody listens there already")
        console.print(f"Port {wanted.number} is busy: using {found}.")
    return found


def _grpc_port(port: int, console: Console) -> int | None:
    """As `graphmeter serve`: beside the default port only, so that a second stack needs no further flag."""
    if port != DEFAULT_PORT:
        return None
    if children.free_port(DEFAULT_GRPC_PORT) != DEFAULT_GRPC_PORT:
        console.print(f"Port {DEFAULT_GRPC_PORT} is busy: no OTLP/gRPC.")
        return None
    return DEFAULT_GRPC_PORT


@contextmanager
def _running(server: parts.Server, folders: parts.Folders, held: Leash) -> Iterator[children.Child]:
    log = folders.stack / server.log
    with children.running(
        server.name, server.command, server.url, server.ready, log, server.environment, leash=held
    ) as child:
        yield child


def _say_the_rest(plan: Plan, folders: parts.Folders, started: Sequence[children.Child], console: Console) -> None:
    """What there is to see, what is missing and how to get it, and how to go on."""
    console.print(f"Data, rules and logs: {folders.data}", highlight=False, soft_wrap=True)
    if not plan.prometheus_binary:
        how = tools.how_to_get("prometheus", "prometheus", "--prometheus")
        console.print(f"No Prometheus, so no rules are evaluated: {how}", style="yellow", soft_wrap=True)
    if not plan.alertmanager_binary:
        how = tools.how_to_get("prometheus-alertmanager", "alertmanager", "--alertmanager")
        console.print(f"No Alertmanager, so nobody is told of alerts: {how}", style="yellow", soft_wrap=True)
    url = started[0].url
    for line in _where_alerts_are(started):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(
        f"""\
Send something    GRAPHMETER_ENDPOINT={url} python app.py
                  graphmeter demo --endpoint {url} --loop
Alerts and SLOs   from {plan.config_path or "the defaults; graphmeter init writes a graphmeter.yaml to change"}
Dashboards        graphmeter dashboards build --out dashboards    (for a Grafana; docker compose brings one)
Ctrl-C ends everything.""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _where_alerts_are(started: Sequence[children.Child]) -> Iterator[str]:
    """Debian's packages have the pages of old Prometheus, and none of Alertmanager."""
    urls = {child.name: child.url.replace("127.0.0.1", "localhost") for child in started}
    if url := urls.get("Prometheus"):
        page = "/alerts" if children.answers(f"{url}/alerts") else "/classic/alerts"
        yield f"See alerts        {url}{page}"
    if (url := urls.get("Alertmanager")) and shutil.which("amtool"):
        yield f"                  amtool --alertmanager.url={url} alert"


def _watch(started: Sequence[children.Child]) -> None:
    """Block until a server ends by itself, which none does but on a fault."""
    while True:
        for child in started:
            if (code := child.process.poll()) is not None:
                raise click.ClickException(f"{child.name} ended with {code}; the end of its log:\n{child.last_words()}")
        time.sleep(_POLL_S)


def _end(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second Ctrl-C in the middle of stopping would leave somebody behind.
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
