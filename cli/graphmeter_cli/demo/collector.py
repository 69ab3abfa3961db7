"""A real collector as a child process, which listens to the flags it is given and to nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from graphmeter_cli import children
from graphmeter_cli.children import Child as Collector
from graphmeter_cli.children import free_port

__all__ = ["Collector", "free_port", "running"]


@contextmanager
def running(port: int, data_dir: Path, arguments: Sequence[str]) -> Iterator[Collector]:
    """Run `graphmeter serve` until the block ends; ready when the block begins.

    Raises:
        click.ClickException: it ended or did not become ready; the message shows the end of its log.
    """
    command = [sys.executable, "-m", "graphmeter_cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    with children.running(
        "the collector",
        [*command, *arguments],
        f"http://127.0.0.1:{port}",
        "/ready",
        data_dir / "collector.log",
        _clean_environment(),
    ) as collector:
        yield collector


def _clean_environment() -> dict[str, str]:
    """Without settings meant for the user's own collector: the demo's listens to the demo's flags alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GRAPHMETER_", "OTEL_"))}
