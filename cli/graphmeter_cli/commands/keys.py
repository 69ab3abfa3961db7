"""`graphmeter keys`: API keys of a database, made, listed and revoked; collectors that use it follow within seconds."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from graphmeter_cli import options, render
from graphmeter_cli.process import settings_from
from graphmeter_cli.units import moment
from graphmeter_collector.door.keyring import STOPS_WITHIN_S
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.keys import ADMIN, INGEST, READ, BadKeys, Key, id_in, make, scopes_of, scopes_text
from graphmeter_collector.store.keys import KeyTable
from graphmeter_collector.store.migrate import current, migrate, require_head

_Answer = TypeVar("_Answer")
_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group("keys", short_help="Make, list and revoke API keys.")
def command() -> None:
    """Make, list and revoke API keys. Where a database has keys, its collectors let in nobody without one."""


def _on_a_database(function: _Function) -> _Function:
    """Add --database-url and --data-dir; the command receives `database_url: str`."""

    @click.option(
        "--database-url", metavar="URL", help="postgresql://… or sqlite:///…  [default: a file in --data-dir]"
    )
    @click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded SQLite database.")
    @functools.wraps(function)
    def with_database(*, database_url: str | None, data_dir: Path | None, **rest: Any) -> Any:
        settings = settings_from({"database_url": database_url, "data_dir": data_dir})
        return function(database_url=settings.database(), **rest)

    return with_database  # type: ignore[return-value]


@command.command("create", short_help="Make a key and print it, once.")
@click.option(
    "--scope",
    type=click.Choice([INGEST, READ, ADMIN, f"{INGEST}+{READ}", f"{READ}+{ADMIN}", f"{INGEST}+{READ}+{ADMIN}"]),
    required=True,
    help="What it may do: send spans, read reports and metrics, change budgets.",
)
@click.option("--team", default="", help="Bind it to a team: whatever spans come with it are that team's.")
@click.option("--name", default="", help="What it is for, to recognise it by.")
@click.option(
    "--expires", type=options.duration, metavar="DURATION", help="How long it works: 90d.  [default: for ever]"
)
@_on_a_database
def create(*, scope: str, team: str, name: str, expires: int | None, database_url: str) -> None:
    """Make a key and print it on stdout, this once: the database keeps a hash of it.

    \b
    Examples:
      graphmeter keys create --scope ingest --team cx --name "cx production"
      graphmeter keys create --scope read --expires 90d
      GRAPHMETER_API_KEY=$(graphmeter keys create --scope ingest+read)
    """
    now_ns = time.time_ns()
    try:
        token, key = make(
            scopes_of(scope), now_ns=now_ns, team=team.strip(), name=name, expires_ns=now_ns + expires if expires else 0
        )
    except BadKeys as problem:
        raise click.UsageError(f"this key {problem}") from problem

    async def add(table: KeyTable) -> bool:
        first = not await table.exist()
        await table.add(key)
        return first

    first = _work(database_url, add, may_make=True)
    click.echo(token)
    bound = f", team {team.strip()}" if team.strip() else ""
    click.echo(
        f"Key {key.id} ({scope}{bound}) works within {STOPS_WITHIN_S} seconds. It is shown this once: keep it now.",
        err=True,
    )
    if first:
        click.echo(
            "It is the first key here: from now on collectors on this database refuse whoever shows none "
            "(unless they run with --allow-anonymous).",
            err=True,
        )


@command.command("list", short_help="List keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_on_a_database
def show(*, as_json: bool, database_url: str) -> None:
    """List keys, the oldest first: what they may do, when they were last used, how they end.

    \b
    Examples:
      graphmeter keys list
      graphmeter keys list --json
    """
    keys = _work(database_url, lambda table: table.all())
    now_ns = time.time_ns()
    if as_json:
        render.print_json([_row(key, now_ns) for key in keys])
    elif keys:
        found = render.table(
            "id!", "name", "may!", "team", "key!", "created (UTC)!", "last used!", "expires!", "state!"
        )
        for key in keys:
            times = (moment(at) if at else "never" for at in (key.created_ns, key.used_ns, key.expires_ns))
            texts = (key.name, scopes_text(key.scopes), key.team, f"…{key.last4}", *times, key.state(now_ns))
            found.add_row(render.plain(key.id), *(render.plain(text) for text in texts))
        render.console().print(found)
    else:
        click.echo("No keys: collectors on this database let in whoever reaches them, from this machine only.")


@command.command("revoke", short_help="Revoke a key for good.")
@click.argument("key")
@_on_a_database
def revoke(*, key: str, database_url: str) -> None:
    """Revoke KEY, an id from `graphmeter keys list` or the key itself, for good.

    \b
    Examples:
      graphmeter keys revoke 7gk2mwq9
    """
    key_id = id_in(key.strip()) or key.strip()
    found = _work(database_url, lambda table: table.revoke(key_id, time.time_ns()))
    if found is None:
        # Not repeated: it may be a key.
        raise click.ClickException("there is no such key in this database: `graphmeter keys list` shows the ids")
    click.echo(f"Key {found.id} opens nothing any more, on any collector, within {STOPS_WITHIN_S} seconds.")


def _row(key: Key, now_ns: int) -> dict[str, Any]:
    """A key in JSON: times in ns, null for never; neither salt nor hash."""
    times = {name: getattr(key, name) or None for name in ("created_ns", "used_ns", "expires_ns", "revoked_ns")}
    scopes = sorted(key.scopes)
    said = {"id": key.id, "name": key.name, "scopes": scopes, "team": key.team, "last4": key.last4}
    return {**said, **times, "state": key.state(now_ns)}


def _work(database_url: str, work: Callable[[KeyTable], Awaitable[_Answer]], *, may_make: bool = False) -> _Answer:
    """Do something with the keys of a database at this version's schema; an empty one gets it, if it may be made."""

    async def run() -> _Answer:
        table = KeyTable(database_url)
        try:
            return await work(table)
        finally:
            await table.close()

    try:
        at = current(database_url)
        if at is None and may_make:
            migrate(database_url)
        else:
            # A collector that runs there brings the schema up to date itself, at a time of its owner's choice.
            require_head(at, "with the keys")
        return asyncio.run(run())
    except CollectorError as problem:
        raise click.ClickException(str(problem)) from problem
