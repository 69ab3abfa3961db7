"""One message in, the body of a POST out: blocks for Slack, JSON or Markdown for any other webhook.

A message is written once, for people (title, text, table) and for machines (data); the receiver's kind decides what of it
is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

Format = Literal["slack", "json", "markdown"]

SCHEMA_VERSION: Final = 1
"""Of the JSON body; it grows when a field changes its meaning."""
_SLACK_HEADER: Final = 150
_SLACK_TEXT: Final = 3000
"""Characters of a header and of a section: https://docs.slack.dev/reference/block-kit/blocks/"""
_SLACK_LINES: Final = 10_000
"""Characters of the table, over several sections: a message takes 50 blocks, and nobody reads more in a chat."""
_FENCE: Final = "```"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; columns named in `right` are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()
    """Columns, from 0, that are aligned to the right."""


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody is told. All of it is plain text: formats escape what they have to."""

    kind: str
    """A word for machines: `report`, `budget`."""
    title: str
    """One line."""
    text: str = ""
    """Sentences, a line each."""
    table: Table | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines, JSON-able."""


class Body(NamedTuple):
    """What is posted."""

    content_type: str
    text: str


def body(message: Message, form: Format) -> Body:
    """The message in one format."""
    match form:
        case "slack":
            return Body("application/json", _json(_slack(message)))
        case "json":
            said = {"version": SCHEMA_VERSION, "kind": message.kind, "title": message.title, "text": message.text}
            return Body("application/json", _json({**said, "data": message.data}))
        case "markdown":
            return Body("text/markdown; charset=utf-8", markdown(message))


def markdown(message: Message) -> str:
    """The message as GitHub-flavoured Markdown."""
    parts = [f"## {_escaped(message.title)}"]
    if message.text:
        parts.append("  \n".join(_escaped(line) for line in message.text.splitlines()))
    if message.table is not None:
        parts.append(markdown_table(message.table))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """A table as GitHub-flavoured Markdown."""
    rule = ["---:" if column in table.right else "---" for column in range(len(table.header))]
    rows = [[_cell(value) for value in row] for row in (table.header, *table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def _slack(message: Message) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(message.title, _SLACK_HEADER)}}
    ]
    if message.text:
        blocks.append(_section(_cut(_for_slack(message.text), _SLACK_TEXT)))
    if message.table is not None:
        blocks += [_section(f"{_FENCE}\n{part}\n{_FENCE}") for part in _slack_parts(message.table)]
    # `text` is what a notification on a phone shows.
    return {"text": _for_slack(message.title), "blocks": blocks}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _slack_parts(table: Table) -> list[str]:
    """The table's lines in as few blocks as they fit in; what is too much is counted in the last line."""
    lines, room = [], _SLACK_LINES
    aligned = list(_aligned(table))
    for number, line in enumerate(aligned):
        shown = _cut(_for_slack(line.replace(_FENCE, "'''")), _SLACK_TEXT // 2)
        room -= len(shown) + 1
        if room < 0:
            lines.append(f"… and {len(aligned) - number} more")
            break
        lines.append(shown)
    parts: list[str] = []
    for line in lines:
        if parts and len(parts[-1]) + len(line) + 2 * len(_FENCE) + 3 <= _SLACK_TEXT:
            parts[-1] += f"\n{line}"
        else:
            parts.append(line)
    return parts


def _aligned(table: Table) -> Iterable[str]:
    rows = [[" ".join(value.split()) for value in row] for row in (table.header, *table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    for row in rows:
        cells = (
            value.rjust(width) if column in table.right else value.ljust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _for_slack(text: str) -> str:
    """https://docs.slack.dev/messaging/formatting-message-text/#escaping"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cell(value: str) -> str:
    return _escaped(" ".join(value.split()))


def _escaped(text: str) -> str:
    """Names come from applications: none of them shall become a link, a table cell or HTML."""
    special = str.maketrans({each: f"\\{each}" for each in "\\`*_[]<>|~#"})
    return text.translate(special)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
