"""`graphmeter trace`: a run's id in, its tree out: every span with time, tokens, cost, attempts and errors."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from graphmeter_cli import conversation, reading, render
from graphmeter_cli.options import Source, reads_reports
from graphmeter_cli.tree import trace_tree
from graphmeter_cli.units import count, duration, moment, plural, usd
from graphmeter_collector.reports import ContentRow, Reader, RunRow, SpanRow

_SHORTEST_PREFIX = 8  # characters; the Reader's own limit


@click.command("trace", short_help="Show one run as a tree.")
@click.argument("run")
@click.option("--content", is_flag=True, help="Also what was captured: messages, arguments, results, written states.")
@reads_reports
def command(*, run: str, content: bool, source: Source, as_json: bool) -> None:
    """Show RUN as a tree: status, duration, tokens, cost, attempts and errors of every span.

    RUN is a run id, a trace id, or the beginning of either (8 characters or more) where only one run has it.

    \b
    Examples:
      graphmeter trace 019aa2f0-6f0e-7d10-a6a3-3e0c3a52a1de
      graphmeter trace 019aa2f0 --content
      graphmeter trace 019aa2f0 --json
    """
    if len(run) < _SHORTEST_PREFIX:
        raise click.BadParameter(f"{run!r} is too short: give {_SHORTEST_PREFIX} characters or more", param_hint="RUN")
    row, spans, said = reading.ask(source, lambda reader: _look_up(reader, run, content=content))
    if as_json:
        render.print_json({"run": row, "spans": spans, **({"content": said} if content else {})})
        return
    console = render.console()
    console.print(trace_tree(row, spans, ascii_only=console.options.ascii_only))
    click.echo()
    console.print(render.status_text(row.status), _summary(row), sep="  ")
    for line in _story(row):
        console.print(render.plain(line))
    if row.outcomes:
        console.print("outcome ", render.outcome_text(row.outcomes), sep="")
    if content:
        _print_content(console, spans, said)


def _print_content(console: Console, spans: Sequence[SpanRow], said: Sequence[ContentRow]) -> None:
    console.print()
    if not said:
        console.print(
            'nothing was captured: capture="content,state_diff" in the application switches it on', style="dim"
        )
    of_span = {one.span_id: one.attributes for one in said}
    for span in spans:
        if (attributes := of_span.get(span.span_id)) is not None:
            node = f"  {span.node}" if span.node else ""
            console.print(Text.assemble(render.plain(span.name, "bold"), render.plain(node, "dim")))
            for line in conversation.lines(attributes):
                console.print(line)


async def _look_up(reader: Reader, reference: str, *, content: bool) -> tuple[RunRow, list[SpanRow], list[ContentRow]]:
    row = await reader.run(reference)
    if row is None:
        raise click.ClickException(f"no run {reference!r}: `graphmeter runs` lists them")
    return row, await reader.spans(row.trace_id), await reader.content(row.trace_id) if content else []


def _story(row: RunRow) -> list[str]:
    """What else is known of the run: whom it waited for, what it resumes, how it is tagged."""
    lines = []
    if row.resumed_run_id:
        lines.append(f"resumes run {row.resumed_run_id}{_after(row.resumed_after_ns)}")
    elif row.resumed_from:
        lines.append(f"goes on from checkpoint {row.resumed_from}")
    if (wait := row.wait) is not None:
        waited_ns = None if wait.until_ns is None else wait.until_ns - wait.since_ns
        if waited_ns is None:
            lines.append(f"waits for an answer since {moment(wait.since_ns)} UTC")
        elif wait.resumed is False:
            lines.append(
                f"left without an answer: the thread got new input in run {wait.next_run_id}{_after(waited_ns)}"
            )
        else:
            going = "" if wait.resumed else ", which has not ended"
            lines.append(f"resumed by run {wait.next_run_id}{_after(waited_ns)}{going}")
    if row.tags:
        lines.append("tags " + " ".join(f"{name}={value}" for name, value in sorted(row.tags.items())))
    return lines


def _after(waited_ns: int | None) -> str:
    return "" if waited_ns is None else f" after {duration(waited_ns)}"


def _summary(row: RunRow) -> str:
    parts = [
        f"{moment(row.started_ns)} UTC",
        duration(row.duration_ns),
        plural(row.steps, "step"),
        plural(row.model_calls, "model call"),
        plural(row.tool_calls, "tool call"),
        f"{count(row.input_tokens)} tokens in, {count(row.output_tokens)} out",
        usd(row.cost_nano) + (f" and {plural(row.unpriced_calls, 'unpriced call')}" if row.unpriced_calls else ""),
    ]
    return "  ".join(parts)
