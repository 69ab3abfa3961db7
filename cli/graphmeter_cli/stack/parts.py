"""The three servers: what each is started with, so that they know one another and keep everything in one folder.

DATA/graphmeter.db                 the collector's database, unless another is named
DATA/stack/rules/                  what `graphmeter rules build` writes, made anew at every start
DATA/stack/prometheus.yml          written at every start
DATA/stack/prometheus/, alertmanager/   what the two keep
DATA/stack/*.log                   what they said since the last start
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from graphmeter_alerts import write
from graphmeter_alerts.build import ALERTMANAGER as ALERTMANAGER_YML
from graphmeter_config import Config
from graphmeter_config.values import duration_text

JOB: Final = "graphmeter"
"""The rules know collectors by this job."""
SCRAPE_S: Final = 5
"""Nobody waits for a laptop; the windows of the rules are minutes."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server: how to start it and how to know that it has."""

    name: str
    command: Sequence[str]
    port: int
    ready: str
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return f"{self.name.lower()}.log"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where everything lies."""

    data: Path

    @property
    def stack(self) -> Path:
        return self.data / "stack"

    @property
    def rules(self) -> Path:
        return self.stack / "rules"


def collector(
    folders: Folders,
    *,
    port: int,
    grpc_port: int | None,
    config: Path | None,
    database_url: str,
    forward: Sequence[str],
) -> Server:
    """The collector, on loopback. Its further settings come from the environment, as those of `graphmeter serve` do."""
    command = [sys.executable, "-m", "graphmeter_cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(folders.data)]
    command += ["--no-grpc"] if grpc_port is None else ["--grpc-port", str(grpc_port)]
    # Prometheus brings no key, and nobody else reaches loopback.
    command += ["--open-metrics"]
    environment = dict(os.environ)
    if database_url:
        environment["GRAPHMETER_DATABASE_URL"] = database_url  # not on the command line: it may hold a password
    command += ["--config", str(_defaults(folders) if config is None else config)]
    command += [part for url in forward for part in ("--forward", url)]
    return Server("Collector", command, port, "/ready", environment)


def _defaults(folders: Folders) -> Path:
    """A file that changes nothing: the collector judges by what the rules were made from, wherever it was started."""
    path = folders.stack / "defaults.yaml"
    path.write_text("# Of `graphmeter stack` without a graphmeter.yaml: every setting has its default.\nversion: 1\n")
    return path


def alertmanager(folders: Folders, binary: str, *, port: int) -> Server:
    """Alertmanager with the generated routes and receivers; one instance, so no cluster to gossip with."""
    command = [
        binary,
        f"--config.file={folders.rules / ALERTMANAGER_YML}",
        f"--storage.path={folders.stack / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://localhost:{port}/",
        "--cluster.listen-address=",
    ]
    return Server("Alertmanager", command, port, "/-/ready", dict(os.environ))


def prometheus(
    folders: Folders, binary: str, *, port: int, scrapes: int, alertmanager: int | None, config: Config
) -> Server:
    """Prometheus with the generated rules; `scrapes` is the collector's port, `alertmanager` that one's, if there is one."""
    tells = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}] if alertmanager else []
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [f"{folders.rules.name}/*.rules.yml"],  # beside this file
        "alerting": {"alertmanagers": tells},
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [f"127.0.0.1:{scrapes}"]}]}],
    }
    file = folders.stack / "prometheus.yml"
    file.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")  # JSON is YAML
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={folders.stack / 'prometheus'}",
        f"--storage.tsdb.retention.time={duration_text(config.prometheus.retention_s)}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://localhost:{port}/",
        # Dots on latency panels lead to traces by them.
        "--enable-feature=exemplar-storage",
        # What is said before Alertmanager was found, some seconds after the start, is lost; the default is a minute.
        "--rules.alert.resend-delay=10s",
    ]
    return Server("Prometheus", command, port, "/-/ready", dict(os.environ))


def write_rules(config: Config, folders: Folders) -> int:
    """Rules, their tests and Alertmanager's configuration, as `graphmeter rules build` writes them; how many files."""
    return len(write(config, folders.rules))
