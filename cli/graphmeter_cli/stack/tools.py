"""Prometheus and Alertmanager on this machine: where they are, and where they can be had if they are not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Final

import click

PROMETHEUS: Final = ("prometheus",)
ALERTMANAGER: Final = ("prometheus-alertmanager", "alertmanager")
"""Debian's package calls it by the first name, the release by the second."""

_DOWNLOAD: Final = "https://prometheus.io/download/"


def find(names: Sequence[str], named: str, option: str) -> str | None:
    """The path of a program: the one that was named, else the first of these on PATH; None if there is none.

    Raises:
        click.BadParameter: one was named and is no program.
    """
    if named:
        if (path := shutil.which(named)) is None:
            raise click.BadParameter(f"{named!r} is not a program that can be run", param_hint=option)
        return path
    return next((path for name in names if (path := shutil.which(name))), None)


def how_to_get(debian: str, brew: str, option: str) -> str:
    """What to type on this kind of machine, and what helps on every other."""
    release = f"the release of {_DOWNLOAD}, on PATH or named with {option}"
    if sys.platform == "darwin":
        return f"brew install {brew}, or {release}"
    if shutil.which("apt-get"):
        return f"apt-get install {debian}, or {release}"
    return release
