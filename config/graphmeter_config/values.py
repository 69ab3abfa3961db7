"""Values as people write them in graphmeter.yaml, parsed exactly: durations, percents, money, names, globs.

Each type turns text or a number into one exact Python value, or fails with what is wrong and what to write instead.
Errors made by `wrong` carry the remedy in their context; `load` puts it behind the file and line.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from graphmeter import names

REMEDY: Final = "remedy"
AT: Final = "at"
"""Where within the value the fault is, for validators of several fields."""
SECONDS_PER_DAY: Final = 86_400

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[smhdw]))+")
_PART: Final = re.compile(r"(\d+)(ms|[smhdw])")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_MS: Final = 3650 * _UNITS_MS["d"]


def wrong(message: str, remedy: str, *at: str | int) -> PydanticCustomError:
    """A fault of a value, for a validator to raise; `at` is the way to it from what is validated, as files write it."""
    # Both texts travel as context: pydantic would read braces in a template.
    return PydanticCustomError("graphmeter", "{message}", {"message": message, REMEDY: remedy, AT: at})


def duration_ms(text: str) -> int:
    """`90s`, `15m`, `1h30m`, `30d`, `2w` → milliseconds.

    Raises:
        ValueError: the text is no duration.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration")
    return sum(int(count) * _UNITS_MS[unit] for count, unit in _PART.findall(text))


def duration_text(seconds: float) -> str:
    """Seconds → the shortest exact duration text: 5400 → `1h30m`."""
    rest, parts = round(seconds * 1000), []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _from_file(info: ValidationInfo) -> bool:
    """Code may pass plain numbers, whose parameter names say the unit; a file has to write it."""
    return bool(info.context)


def seconds_of(value: Any, info: ValidationInfo) -> float:
    """A duration as files write it (`30d`), in seconds."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        if _from_file(info):
            raise wrong("a duration without a unit", f"write {value}s, {value}m, {value}h or {value}d")
        milliseconds = round(value * 1000)
    else:
        try:
            milliseconds = duration_ms(value.strip())
        except (AttributeError, ValueError):
            raise wrong("not a duration", "write a number and a unit: 15m, 6h, 30d") from None
    if not 0 < milliseconds <= _LONGEST_MS:
        raise wrong("out of range", "write a duration above zero and at most 3650d")
    return milliseconds / 1000


def decimal_of(value: Any, remedy: str) -> Decimal:
    """An exact number from what a file holds."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise wrong("not a number", remedy)
    try:
        # str() of a float is its shortest exact text: 99.9 stays 99.9.
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise wrong("not a number", remedy) from None
    if not number.is_finite():
        raise wrong("not a finite number", remedy)
    return number


def decimal_text(value: Decimal) -> str:
    """99.50 → `99.5`, 1E+2 → `100`."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent_text(value: Decimal) -> str:
    """99.50 → `99.5%`."""
    return decimal_text(value) + "%"


def _percent(value: Any) -> Decimal:
    remedy = "write a percentage: 99.5 or 99.5%"
    return decimal_of(value.strip().removesuffix("%") if isinstance(value, str) else value, remedy)


def _share(value: Any, info: ValidationInfo) -> Decimal:
    """A share, written as percent: a bare number in a file could mean either."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return _percent(value) / 100
    if _from_file(info):
        raise wrong("not a percentage", "write a percentage with its sign: 80%")
    return decimal_of(value, "pass a share: 0.8")


def _usd(value: Any) -> Decimal:
    remedy = "write an amount in USD: 250 or 99.50"
    amount = decimal_of(value.strip().removeprefix("$") if isinstance(value, str) else value, remedy)
    if amount <= 0:
        raise wrong("not above zero", remedy)
    if amount >= 10**9:
        raise wrong("more than a billion USD", remedy)
    if amount * names.NANO_PER_USD % 1:
        raise wrong("finer than a nano-USD", "write at most nine decimals")
    return amount


_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]i?)?B")
_SIZES: Final = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "ki": 1024, "Mi": 1024**2, "Gi": 1024**3}


def size_text(value: int) -> str:
    """5000000 → `5MB`, 4194304 → `4MiB`, 1500 → `1500B`."""
    for unit in ("Gi", "G", "Mi", "M", "ki", "k"):
        if value and value % _SIZES[unit] == 0:
            return f"{value // _SIZES[unit]}{unit}B"
    return f"{value}B"


def _size(value: Any, info: ValidationInfo) -> int:
    remedy = "write a number and a unit: 500kB, 5MB, 4MiB"
    if isinstance(value, int) and not isinstance(value, bool) and not _from_file(info):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise wrong("not a size", remedy)
    size = Decimal(match[1]) * _SIZES[match[2] or ""]
    if size <= 0 or size % 1 or size > 2**50:
        raise wrong("not a whole number of bytes above zero, of at most a million GB", remedy)
    return int(size)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise wrong(
            "not a name", "write lower-case letters, digits and hyphens, at most 63: it becomes a label and a file name"
        )
    return value


def _globs(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    remedy = 'write text, where * stands for anything and ? for one character: "support-*", or a list of such'
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise wrong("not text", remedy)
    if not texts:
        raise wrong("an empty list matches nothing", 'write "*" to match everything')
    if any(_CONTROL.search(text) for text in texts):
        raise wrong("holds control characters", remedy)
    return tuple(texts)


def _share_text(value: Decimal) -> str:
    return percent_text(value * 100)


_NUMBER: Final = {"anyOf": [{"type": "number"}, {"type": "string"}]}

# Serialized as files write them, and each value in one way only, so that a hash of them is a hash of the meaning.
Seconds = Annotated[
    float,
    BeforeValidator(seconds_of),
    PlainSerializer(duration_text),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(ms|[smhdw]))+$", "examples": ["15m"]}),
]
"""A duration in seconds, written with its unit."""
Percent = Annotated[
    Decimal,
    BeforeValidator(_percent),
    PlainSerializer(percent_text),
    WithJsonSchema({**_NUMBER, "examples": [99.5, "99.5%"]}),
]
"""0 to 100, written with or without %."""
Share = Annotated[
    Decimal,
    BeforeValidator(_share),
    PlainSerializer(_share_text),
    WithJsonSchema({"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$", "examples": ["80%"]}),
]
"""0 to 1 and beyond, written as percent: `80%` is Decimal("0.8")."""
Usd = Annotated[
    Decimal,
    BeforeValidator(_usd),
    PlainSerializer(decimal_text),
    WithJsonSchema({**_NUMBER, "examples": [250, "99.50"]}),
]
"""An amount of money, exact to the nano-USD."""
Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(size_text),
    WithJsonSchema({"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kMG]i?)?B\s*$", "examples": ["5MB"]}),
]
"""Bytes, written with their unit; kB, MB, GB are decimal."""
Name = Annotated[str, AfterValidator(_name)]
"""A name that can be a label, a file name and part of a URL."""
Globs = Annotated[
    tuple[str, ...],
    BeforeValidator(_globs),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
"""One or several patterns; a value matches when one of them does."""
