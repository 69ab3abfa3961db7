"""`graphmeter init`: an annotated graphmeter.yaml out, for a person to edit."""

from __future__ import annotations

from pathlib import Path

import click

from graphmeter_config import annotated


@click.command("init", short_help="Write an annotated graphmeter.yaml.")
@click.argument("path", type=click.Path(path_type=Path), default="graphmeter.yaml")
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
def command(path: Path, *, force: bool) -> None:
    """Write an annotated graphmeter.yaml to PATH: every setting, its default and what it does.

    \b
    Examples:
      graphmeter init
      graphmeter init deploy/graphmeter.yaml
    """
    if path.is_dir():
        path /= "graphmeter.yaml"
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(annotated())
    except FileExistsError as problem:
        raise click.ClickException(f"{path} exists: --force overwrites it") from problem
    except OSError as problem:
        raise click.ClickException(f"cannot write {path}: {problem.strerror}") from problem
    click.echo(f"wrote {path}; after editing: graphmeter config check {path}")
