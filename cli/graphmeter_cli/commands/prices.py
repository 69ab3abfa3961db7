"""`graphmeter prices`: which price a model has and why, the prices in force, and the catalogue as it is published now."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphmeter import names
from graphmeter_cli import options, render, repricing, simulating
from graphmeter_cli.configuration import configured
from graphmeter_cli.repricing import price_book
from graphmeter_config import Config
from graphmeter_config.values import decimal_text

if TYPE_CHECKING:
    from graphmeter_collector.price.book import PriceBook
    from graphmeter_collector.price.explain import Explanation
    from graphmeter_collector.price.rates import Rates

_FETCH_S = 60.0
_DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="GRAPHMETER_DATA_DIR",
    help="Folder of the collector, where a fetched catalogue is. [env: GRAPHMETER_DATA_DIR]",
)


@click.group("prices", short_help="Explain and update prices; price calls again.")
def command() -> None:
    """Explain, list and update prices, and price calls again. All but `update` works without a network."""


command.add_command(repricing.command)
command.add_command(simulating.command)


@command.command("show", short_help="Explain the price of a model.")
@click.argument("model")
@click.option("--provider", default="", metavar="NAME", help="Who answers, in any spelling: openai, aws.bedrock.")
@click.option(
    "--at", "at_ns", type=options.since, metavar="WHEN", help="At this time, 2026-03-01 (UTC).  [default: now]"
)
@click.option("--tier", default="", metavar="NAME", help="Served at this tier: batch, flex, priority.")
@click.option("--deployment", default="", metavar="NAME", help="Name that was asked for, where it is another.")
@click.option("--server", default="", metavar="HOST", help="Host that was asked; tells the region.")
@_DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def show(
    *,
    model: str,
    provider: str,
    at_ns: int | None,
    tier: str,
    deployment: str,
    server: str,
    data_dir: Path | None,
    as_json: bool,
    config: Config,
) -> None:
    """Show which price calls of MODEL have, from which source and version, and what else was considered.

    Exit code 1 if nobody knows a price; then names that look like it are shown.

    \b
    Examples:
      graphmeter prices show gpt-4o
      graphmeter prices show us.anthropic.claude-sonnet-4-5-20250929-v1:0 --provider bedrock --at 2026-03-01
      graphmeter prices show gpt-5 --tier flex --json
    """
    from graphmeter_collector.price.explain import explain
    from graphmeter_collector.price.providers import Call

    if not model.strip():
        raise click.UsageError("'MODEL' is empty: name the model, as in `graphmeter prices show gpt-4o`")
    at = time.time_ns() if at_ns is None else at_ns
    book = price_book(config, data_dir)
    told = explain(book, Call(provider, model, deployment, tier, server), at)
    if as_json:
        render.print_json(_as_json(told))
    else:
        for line in _lines(told, book):
            click.echo(line)
    if told.price is None:
        click.get_current_context().exit(1)


@command.command("list", short_help="List prices of one's own, and what is in force.")
@_DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON: what a collector's /api/prices says of overrides.")
@configured
def list_(*, data_dir: Path | None, as_json: bool, config: Config) -> None:
    """List the entries of `prices:` in graphmeter.yaml, and the catalogue that comes after them.

    \b
    Examples:
      graphmeter prices list
      graphmeter prices list --config deploy/graphmeter.yaml --json
    """
    from graphmeter_collector.price.listing import effective

    book, now_ns = price_book(config, data_dir), time.time_ns()
    if as_json:
        render.print_json(effective(book, (), now_ns))
        return
    prices = config.prices
    sections: tuple[tuple[str, Any], ...] = (
        ("override", prices.overrides),
        ("discount", prices.discounts),
        ("service tier", prices.service_tiers),
    )
    for what, entries in sections:
        for entry in entries:
            when = f"from {entry.valid_from or 'ever'} to {entry.valid_to or 'ever'}"
            in_force = "in force" if entry.since_ns <= now_ns < entry.until_ns else "not in force"
            click.echo(f"{what:<13} {entry.name:<24} {in_force:<13} {when}")
    if prices.hash:
        click.echo(f"{'source':<13} {prices.source}")
    click.echo(f"{'catalogue':<13} {book.catalogue}")


@command.command("update", short_help="Fetch the catalogue as it is published now.")
@_DATA_DIR
@click.option("--from", "url", metavar="URL", help="A mirror, or a file.  [default: where genai-prices gets it]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def update(*, data_dir: Path | None, url: str | None, as_json: bool) -> None:
    """Fetch the genai-prices catalogue as it is published now, check it, and keep it in the data folder.

    A collector uses it from its next start or SIGHUP on, until a later release of genai-prices is installed. Where there
    is no network nothing changes, exit code 1.

    \b
    Examples:
      graphmeter prices update
      graphmeter prices update --from data.json --data-dir /var/lib/graphmeter
    """
    from graphmeter_collector.price import published
    from graphmeter_collector.settings import default_data_dir

    folder = data_dir or default_data_dir()
    source = url or published.URL
    try:
        fetched = asyncio.run(_fetch(source, published.MOST_BYTES)) if "://" in source else _file(Path(source))
        found = published.keep(fetched, folder)
    except published.BadPublication as problem:
        raise click.ClickException(f"{source}: {problem}; prices stay as they are") from problem
    except OSError as problem:
        raise click.ClickException(f"cannot write {published.file_in(folder)}: {problem.strerror}") from problem
    if as_json:
        file = str(published.file_in(folder))
        render.print_json({"catalogue": found.name, "models": found.models, "sha256": found.sha256, "file": file})
    else:
        click.echo(f"{found.name}: {found.models} models; collectors use it from their next start or SIGHUP on")


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise click.ClickException(f"cannot read {path}: {problem.strerror}; prices stay as they are") from problem


async def _fetch(url: str, most_bytes: int) -> bytes:
    import aiohttp

    try:
        timeout = aiohttp.ClientTimeout(total=_FETCH_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as answer:
            if answer.status != 200:
                raise click.ClickException(f"{url} answers {answer.status}; prices stay as they are")
            body = await answer.content.read(most_bytes + 1)
            while len(body) <= most_bytes and (more := await answer.content.read(most_bytes + 1 - len(body))):
                body += more
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        why = str(problem) or type(problem).__name__
        raise click.ClickException(
            f"cannot fetch {url}: {why}; prices stay as they are. Without a network, fetch that file elsewhere and give "
            "it with --from FILE"
        ) from problem
    if len(body) > most_bytes:
        raise click.ClickException(f"{url} answers more than {most_bytes >> 20} MiB; prices stay as they are")
    return body


def _as_json(told: Explanation) -> dict[str, Any]:
    from graphmeter_collector.price.explain import price_json

    return {
        "provider": told.provider,
        "model": told.model,
        "at_ns": told.at_ns,
        "service_tier": told.tier,
        "price": None if told.price is None else price_json(told.price),
        "buckets": list(names.TOKEN_TYPES),
        "currency": told.currency,
        "considered": [asdict(each) for each in told.considered],
        "nearest": list(told.nearest),
    }


def _lines(told: Explanation, book: PriceBook) -> list[str]:
    at = datetime.fromtimestamp(told.at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    of = f"{told.provider}/{told.model}" if told.provider else told.model
    lines = [f"{of} at {at}" + (f", tier {told.tier}" if told.tier else "")]
    price = told.price
    if price is None:
        lines.append("  no price is known: calls are counted as unpriced")
    else:
        lines += [f"  price   {price.name}", f"  source  {price.source}"]
        if told.currency:
            lines.append(f"  in      {told.currency}")
        for start, tariff in zip((0, *price.starts_ns), price.tariffs, strict=True):
            if price.starts_ns:
                lines.append(f"  from {timedelta(microseconds=start // 1_000)} UTC")
            for above, rates in zip((None, *tariff.starts), tariff.tiers, strict=True):
                if above is not None:
                    lines.append(f"  prompts above {above} tokens")
                lines += _rate_lines(rates)
    if told.considered:
        lines.append("considered")
        lines += [f"  {each.what:<12}  {each.name:<32}  {each.verdict}" for each in told.considered]
    urls = next((found for source in book.sources if (found := getattr(source, "urls", _none)(told.provider))), [])
    if urls and price is not None:
        lines += ["published at", *(f"  {url}" for url in urls)]
    if told.nearest:
        lines += ["did you mean", *(f"  {name}" for name in told.nearest)]
    if told.worthless:
        lines.append(f"add a rate of {told.worthless} from then or earlier to prices.currencies in graphmeter.yaml")
    elif price is None:
        lines.append("declare it under prices.overrides in graphmeter.yaml, or run `graphmeter prices update`")
    return lines


def _none(_: str) -> list[str]:
    return []


def _rate_lines(rates: Rates) -> list[str]:
    if rates.free:
        return ["    free"]
    lines = []
    if rates.needs_usage:
        for index, bucket in enumerate(names.TOKEN_TYPES):
            shown = "no rate" if index in rates.missing else _usd(rates.per_token[index] * 1_000_000, rates.scale)
            lines.append(f"    {bucket:<16} {shown}" + ("" if index in rates.missing else " USD per million tokens"))
    for what, amount, unit in (
        ("per call", rates.per_request, 1),
        ("per image", rates.per_image, 1),
        ("per second", rates.per_ns, 1_000_000_000),
    ):
        if amount:
            lines.append(f"    {what:<16} {_usd(amount * unit, rates.scale)} USD")
    return lines


def _usd(nano: int, scale: int) -> str:
    """Exact to twelve decimals."""
    return decimal_text(round(Decimal(nano) / scale / names.NANO_PER_USD, 12))
