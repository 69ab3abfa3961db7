"""Exports of providers in, what they say of each day and model out. A bad row is told, and the others are read.

Read are the columns and fields that the providers document:

- OpenAI, https://platform.openai.com/docs/api-reference/usage: answers of `/v1/organization/costs` and
  `/v1/organization/usage/completions` (JSON, also several pages in a list), and the dashboard's Cost and Usage exports (CSV,
  https://help.openai.com/en/articles/8554956), which have the same names, `amount.value` as `amount_value`.
- Anthropic, https://docs.anthropic.com/en/api/usage-cost-api: answers of `/v1/organizations/cost_report` (amounts are cents)
  and `/v1/organizations/usage_report/messages` (JSON), and the Console's Cost and Usage exports (CSV,
  https://support.anthropic.com/en/articles/9534590).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

PROVIDERS: Final = ("openai", "anthropic")
_DATED: Final = re.compile(r"-(?:\d{4}-\d\d-\d\d|20\d{6})$")
_NANO: Final = 10**9
Key = tuple[str, str]
"""Day (`2026-11-20`, UTC) and model without the date of its snapshot."""


@dataclass(slots=True)
class Theirs:
    """What a provider says of one day and model. None: its export does not say."""

    nano: int | None = None
    requests: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    def add(self, other: Theirs) -> None:
        """Sum; what neither says stays unsaid."""
        for name in ("nano", "requests", "tokens_in", "tokens_out"):
            mine, more = getattr(self, name), getattr(other, name)
            setattr(self, name, more if mine is None else mine if more is None else mine + more)


@dataclass(slots=True)
class Export:
    """What the files say, and what is wrong with them."""

    found: dict[Key, Theirs] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """File, line, column, value and remedy of each row that could not be read."""
    days: set[str] = field(default_factory=set)
    """Days that the files cover, also without any use."""


class BadExport(Exception):
    """A file that is no export of the provider; the message says what it should be."""


class _Bad(Exception):
    """A value of a row: column, value, what it should be."""

    def __init__(self, column: str, value: object, remedy: str) -> None:
        super().__init__(f"column {column} is {str(value)[:60]!r}: {remedy}")


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One shape of rows."""

    needs: frozenset[str]
    """Columns that tell it from others."""
    read: Callable[[Row], tuple[str, str, Theirs] | None]
    """Day, model and figures; None for a row without use."""


def model_key(model: str) -> str:
    """`gpt-4o-2024-08-06` → `gpt-4o`, `Claude Sonnet 4.5` → `claude-sonnet-4-5`: how exports and ledger meet."""
    return _DATED.sub("", re.sub(r"[\s.]+", "-", model.strip().lower()))


def read(export: Export, provider: str, file: Path) -> None:
    """Add what a file says.

    Raises:
        BadExport: the file cannot be read, or is no export of this provider.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadExport(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadExport(f"{file} is not text in UTF-8: export it again as CSV or JSON") from error
    kinds = _KINDS[provider]
    looks_json = text.lstrip()[:1] in ("{", "[")
    kind: _Kind | None = None
    for where, row in _json_rows(text, file) if looks_json else _csv_rows(text, file):
        if where is None:
            with contextlib.suppress(_Bad):  # its results are told, each
                export.days.add(_day(row))
            continue
        kind = kind if kind is not None and kind.needs <= row.keys() else _kind_of(kinds, row, provider, file)
        try:
            told = kind.read(row)
        except _Bad as bad:
            export.faults.append(f"{where}: {bad}")
            continue
        if told is None:
            continue
        day, model, theirs = told
        export.days.add(day)
        export.found.setdefault((day, model), Theirs()).add(theirs)


def _kind_of(kinds: tuple[_Kind, ...], row: Row, provider: str, file: Path) -> _Kind:
    for kind in kinds:
        if kind.needs <= row.keys():
            return kind
    wanted = "; or ".join(", ".join(sorted(kind.needs)) for kind in kinds)
    has = ", ".join(str(name) for name in row)[:300]
    raise BadExport(
        f"{file} is no cost or usage export of {provider} that is known here: it has {has}, but needs {wanted}"
        f"{_grouping(provider)}"
    )


def _grouping(provider: str) -> str:
    how = {
        "openai": "group_by=model, or line_item for costs",
        "anthropic": "group_by[]=model, or description for costs",
    }
    return f" (of the API, ask with {how[provider]})"


def _csv_rows(text: str, file: Path) -> Iterator[tuple[str | None, Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not reader.fieldnames or len(reader.fieldnames) < 2:
        raise BadExport(f"{file} has no columns: export it again as CSV with its header, or as JSON")
    for row in reader:
        yield f"{file}:{reader.line_num}", {name: value or "" for name, value in row.items() if isinstance(name, str)}


def _json_rows(text: str, file: Path) -> Iterator[tuple[str | None, Row]]:
    try:
        # Exact: an amount of 0.06 must not become a float on its way.
        found = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise BadExport(f"{file} is not JSON: {error}") from error
    pages = found if isinstance(found, list) else [found]
    for page_number, page in enumerate(pages):
        buckets = page.get("data") if isinstance(page, dict) else None
        if not isinstance(buckets, list):
            raise BadExport(f"{file} is no answer of a usage or cost API: it has no list `data`")
        if page.get("has_more") and page_number == len(pages) - 1:
            raise BadExport(f"{file} is not all: its last page has has_more; fetch `next_page`, too, pages in one list")
        for number, bucket in enumerate(buckets):
            if not isinstance(bucket, dict) or not isinstance(bucket.get("results"), list):
                raise BadExport(f"{file}: data[{number}] has no list `results`")
            begins = {name: bucket[name] for name in ("start_time", "starting_at") if name in bucket}
            yield None, begins
            for place, result in enumerate(bucket["results"]):
                if isinstance(result, dict):
                    yield f"{file}: data[{number}].results[{place}]", {**begins, **_flat(result)}


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """`{"amount": {"value": 1}}` → `{"amount_value": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{inner}": each for inner, each in value.items()}
        else:
            flat[name] = "" if value is None else value
    return flat


def _day(row: Row) -> str:
    for column in ("start_time", "starting_at", "usage_date_utc"):
        value = row.get(column, "")
        if value == "":
            continue
        try:
            if column == "start_time":
                return datetime.fromtimestamp(int(value), UTC).date().isoformat()
            if column == "usage_date_utc":
                return date.fromisoformat(str(value)).isoformat()
            return datetime.fromisoformat(str(value)).astimezone(UTC).date().isoformat()
        except (ValueError, OverflowError, OSError):
            remedy = "write Unix seconds" if column == "start_time" else "write a date such as 2026-11-20"
            raise _Bad(column, value, remedy) from None
    raise _Bad("start_time", "", "a row needs its day")


def _nano(row: Row, column: str, *, cents: bool = False) -> int | None:
    value = row.get(column, "")
    if value == "":
        return None
    try:
        amount = Decimal(str(value).strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) >= 10**9:
        raise _Bad(column, value, "write an amount such as 1.25")
    return round(amount * _NANO / (100 if cents else 1))


def _count(row: Row, *columns: str) -> int | None:
    """The sum of columns; None where none of them says anything."""
    total: int | None = None
    for column in columns:
        value = row.get(column, "")
        if value == "":
            continue
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            number = Decimal("NaN")
        # The dashboard writes 3.0 for three requests.
        if not number.is_finite() or number != number.to_integral_value() or number < 0:
            raise _Bad(column, value, "write a whole number")
        total = (total or 0) + int(number)
    return total


def _in_usd(row: Row, column: str) -> None:
    currency = str(row.get(column) or "usd")
    if currency.lower() != "usd":
        raise _Bad(column, currency, "only USD can be compared")


def _openai_cost(row: Row) -> tuple[str, str, Theirs] | None:
    nano = _nano(row, "amount_value")
    if nano is None:
        return None
    _in_usd(row, "amount_currency")
    # `gpt-4o-2024-08-06, input`
    item = str(row.get("line_item") or "")
    return _day(row), model_key(item.rpartition(", ")[0] or item), Theirs(nano)


def _openai_usage(row: Row) -> tuple[str, str, Theirs] | None:
    requests = _count(row, "num_model_requests")
    if requests is None:
        return None
    # Totals: cached tokens are part of the input.
    tokens_in, tokens_out = _count(row, "input_tokens"), _count(row, "output_tokens")
    model = str(row.get("model") or "")
    return _day(row), model_key(model), Theirs(None, requests, tokens_in, tokens_out)


def _anthropic_cost(row: Row) -> tuple[str, str, Theirs] | None:
    nano = _nano(row, "cost_usd")
    return None if nano is None else (_day(row), model_key(str(row.get("model") or "")), Theirs(nano))


def _anthropic_report(row: Row) -> tuple[str, str, Theirs] | None:
    nano = _nano(row, "amount", cents=True)
    _in_usd(row, "currency")
    model = str(row.get("model") or row.get("cost_type") or row.get("description") or "")
    return None if nano is None else (_day(row), model_key(model), Theirs(nano))


def _anthropic_usage(row: Row) -> tuple[str, str, Theirs] | None:
    tokens_in = _count(
        row,
        *("usage_input_tokens_no_cache", "usage_input_tokens_cache_read", "usage_input_tokens_cache_write"),
        *("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h"),
        *("uncached_input_tokens", "cache_read_input_tokens"),
        *("cache_creation_ephemeral_5m_input_tokens", "cache_creation_ephemeral_1h_input_tokens"),
    )
    tokens_out = _count(row, "usage_output_tokens", "output_tokens")
    model = str(row.get("model_version") or row.get("model") or "")
    return _day(row), model_key(model), Theirs(None, None, tokens_in, tokens_out)


_KINDS: Final = {
    "openai": (
        _Kind(frozenset({"start_time", "amount_value", "line_item"}), _openai_cost),
        _Kind(frozenset({"start_time", "num_model_requests", "model"}), _openai_usage),
    ),
    "anthropic": (
        _Kind(frozenset({"usage_date_utc", "model", "cost_usd"}), _anthropic_cost),
        _Kind(frozenset({"usage_date_utc", "model_version", "usage_output_tokens"}), _anthropic_usage),
        _Kind(frozenset({"starting_at", "amount", "model"}), _anthropic_report),
        _Kind(frozenset({"starting_at", "output_tokens", "model"}), _anthropic_usage),
    ),
}
