"""graphmeter.yaml and graphmeter.d/*.yaml in, one validated `Config` out, or every fault of all files at once."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from graphmeter_config import document
from graphmeter_config.document import Document, Mark, shown_path
from graphmeter_config.errors import ConfigError, Problem
from graphmeter_config.held import not_held
from graphmeter_config.model import Config
from graphmeter_config.receivers import shown_receiver_url
from graphmeter_config.secret import VARIABLE, shown_url
from graphmeter_config.unseen import Unseen, unseen
from graphmeter_config.values import AT, REMEDY

_NAMED: Final = (
    ("slos",),
    ("budgets",),
    ("provider_limits",),
    ("forward", "destinations"),
    ("sampling", "rules"),
    ("receivers",),
    ("reports",),
    ("maintenance",),
    ("prices", "overrides"),
    ("prices", "discounts"),
    ("prices", "service_tiers"),
    ("alerting", "owners"),
)
"""Lists whose items have a name that must be theirs alone."""
_SECRET: Final = {("forward", "destinations"): ("endpoint", shown_url), ("receivers",): ("url", shown_receiver_url)}
"""Lists whose items may name variables: in this address, shown like this, and in `headers`."""
_TELLING: Final = (("budgets",), ("reports",))
"""Lists whose items may name `receivers`."""
_OWNED: Final = (("slos",), ("budgets",))
"""Lists whose items may name an `owner`."""
_LONGEST_SHOWN: Final = 60


def load(
    path: Path | None,
    seen: Mapping[str, Collection[str]] | None = None,
    warn: Callable[[Problem], object] | None = None,
) -> Config:
    """Read a configuration; None gives the defaults.

    With `seen`, the values measured of each dimension (graph, node, …), an SLO or budget that selects none of them is a
    fault, too. `warn` is told what can be used, but does less than it says.

    Further files `NAME.d/*.yaml` beside `NAME.yaml` are merged in order of their names: lists are appended, other
    settings may be made in one file only.

    Raises:
        ConfigError: a file cannot be read or says something impossible. It holds every fault, not only the first.
    """
    if path is None:
        return Config.default()
    merged = Document()
    for file in _files(path):
        _merge(merged, _read(file))
    if merged.problems:
        raise ConfigError(merged.problems)
    problems = [
        *_misplaced_variables(merged),
        *_duplicates(merged),
        *_unknown_receivers(merged),
        *_unknown_owners(merged),
        *_unknown_slos(merged),
    ]
    try:
        config = Config.model_validate(merged.data, by_alias=True, by_name=False, context={"file": True})
    except ValidationError as error:
        problems += [_problem(detail, merged) for detail in _causes(error.errors(include_url=False))]
    else:
        problems += [_never_measured(one, merged) for one in unseen(config, seen or {})]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: (problem.file, problem.line)))
    if warn is not None:
        for one in not_held(config.prometheus, config.slos, config.anomalies):
            mark = _mark(merged, one.path)
            warn(Problem(mark.file, mark.line, shown_path(one.path), one.value, one.message, one.remedy))
    return config


def _causes(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Faults that follow from no other: a list is not empty because what it holds is wrong."""
    for detail in details:
        path = detail["loc"]
        within = any(other["loc"][: len(path)] == path for other in details if len(other["loc"]) > len(path))
        if detail["type"] != "too_short" or not within:
            yield detail


def _files(path: Path) -> Iterator[Path]:
    yield path
    folder = path.with_suffix(".d")
    if folder.is_dir():
        yield from sorted(file for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))


def _read(file: Path) -> Document:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        fault, remedy = "does not exist", f"write it with: graphmeter init {file}"
    except OSError as error:
        fault, remedy = f"cannot be read: {error.strerror}", "check its path and permissions"
    except UnicodeDecodeError:
        fault, remedy = "is not text in UTF-8", "save it as UTF-8"
    else:
        return document.read(text, str(file))
    return Document(problems=[Problem(str(file), 0, "", "", fault, remedy)])


def _merge(into: Document, other: Document) -> None:
    into.problems += other.problems
    into.marks.setdefault((), other.marks.get((), Mark("graphmeter.yaml", 0)))
    _merge_mapping(into, into.data, other.data, other, ())


def _merge_mapping(
    into: Document, target: dict[str, Any], source: dict[str, Any], other: Document, path: document.Path
) -> None:
    for key, value in source.items():
        here = (*path, key)
        if key == "version" and not path and target.get(key) == value:
            continue  # every file may say which version it is written for
        if key not in target:
            target[key] = value
            _adopt(into, other, here, here)
        elif isinstance(value, dict) and isinstance(target[key], dict):
            _merge_mapping(into, target[key], value, other, here)
        elif isinstance(value, list) and isinstance(target[key], list):
            for index, item in enumerate(value):
                _adopt(into, other, (*here, index), (*here, len(target[key])))
                target[key] = [*target[key], item]
        else:
            first, again = into.marks[here], other.marks[here]
            remedy = f"keep one; the first is in {first.file}:{first.line}"
            into.problems.append(Problem(again.file, again.line, shown_path(here), "", "set twice", remedy))


def _adopt(into: Document, other: Document, old: document.Path, new: document.Path) -> None:
    for path, mark in other.marks.items():
        if path[: len(old)] == old:
            into.marks[*new, *path[len(old) :]] = mark


def _items(merged: Document, section: document.Path) -> list[Any]:
    """What a list of the configuration holds; nothing where there is none, or no list."""
    items: Any = merged.data
    for key in section:
        items = items.get(key) if isinstance(items, dict) else None
    return items if isinstance(items, list) else []


def _duplicates(merged: Document) -> Iterator[Problem]:
    for section in _NAMED:
        first: dict[str, Mark] = {}
        for index, item in enumerate(_items(merged, section)):
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str):
                continue
            path = (*section, index, "name")
            mark = _mark(merged, path)
            if name in first:
                remedy = f"choose another; the first is in {first[name].file}:{first[name].line}"
                yield Problem(mark.file, mark.line, shown_path(path), repr(name), "the name is taken", remedy)
            else:
                first[name] = mark


def _unknown_receivers(merged: Document) -> Iterator[Problem]:
    known = [item.get("name") for item in _items(merged, ("receivers",)) if isinstance(item, dict)]
    for section in _TELLING:
        for index, item in enumerate(_items(merged, section)):
            told = item.get("receivers") if isinstance(item, dict) else None
            for place, name in enumerate(told if isinstance(told, list) else ()):
                if isinstance(name, str) and name not in known:
                    path = (*section, index, "receivers", place)
                    mark = _mark(merged, path)
                    names = ", ".join(str(each) for each in known)
                    remedy = f"write one of {names}" if known else "add it to the list `receivers:`"
                    yield Problem(mark.file, mark.line, shown_path(path), repr(name), "no such receiver", remedy)


def _unknown_owners(merged: Document) -> Iterator[Problem]:
    known = [item.get("name") for item in _items(merged, ("alerting", "owners")) if isinstance(item, dict)]
    for section in _OWNED:
        for index, item in enumerate(_items(merged, section)):
            owner = item.get("owner") if isinstance(item, dict) else None
            if isinstance(owner, str) and owner not in known:
                path = (*section, index, "owner")
                mark = _mark(merged, path)
                names = ", ".join(str(each) for each in known)
                remedy = f"write one of {names}" if known else "add it to the list `alerting.owners:`"
                yield Problem(mark.file, mark.line, shown_path(path), repr(owner), "no such owner", remedy)


def _unknown_slos(merged: Document) -> Iterator[Problem]:
    """Maintenance of what is no objective; patterns may match none yet."""
    known = [item.get("name") for item in _items(merged, ("slos",)) if isinstance(item, dict)]
    known = known if "slos" in merged.data else [slo.name for slo in Config.default().slos]
    for index, item in enumerate(_items(merged, ("maintenance",))):
        about = item.get("slos") if isinstance(item, dict) else None
        for place, name in enumerate([about] if isinstance(about, str) else about if isinstance(about, list) else ()):
            if isinstance(name, str) and not set("*?") & set(name) and name not in known:
                path: document.Path = ("maintenance", index, "slos", *((place,) if isinstance(about, list) else ()))
                mark = _mark(merged, path)
                names = ", ".join(str(each) for each in known)
                remedy = f"write one of {names}" if known else "add it to the list `slos:`"
                yield Problem(mark.file, mark.line, shown_path(path), repr(name), "no such SLO", remedy)


def _never_measured(one: Unseen, merged: Document) -> Problem:
    path: document.Path = (*one.section, one.field)
    if (*path, one.place) in merged.marks:
        path = (*path, one.place)
    mark = _mark(merged, path)
    return Problem(
        mark.file, mark.line, shown_path(path), repr(one.pattern), f"no such {one.field} was measured", one.remedy
    )


def _misplaced_variables(merged: Document) -> Iterator[Problem]:
    for path, value in _texts(merged.data, ()):
        if VARIABLE.search(value) and not _may_name_variables(path):
            mark = _mark(merged, path)
            remedy = (
                "write the value; only endpoint and headers of forward.destinations, and url and headers of receivers, "
                "may name variables"
            )
            yield Problem(mark.file, mark.line, shown_path(path), repr(value), "is not expanded here", remedy)


def _may_name_variables(path: document.Path) -> bool:
    return any(
        path[: len(section)] == section and path[len(section) + 1 : len(section) + 2] in ((address,), ("headers",))
        for section, (address, _) in _SECRET.items()
    )


def _texts(value: Any, path: document.Path) -> Iterator[tuple[document.Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))


def _mark(merged: Document, path: document.Path) -> Mark:
    """Where the value stands, or else the closest thing around it."""
    while path and path not in merged.marks:
        path = path[:-1]
    return merged.marks.get(path, Mark("graphmeter.yaml", 0))


def _problem(detail: ErrorDetails, merged: Document) -> Problem:
    kind, path = detail["type"], detail["loc"]
    given, deeper = detail["input"], detail.get("ctx", {}).get(AT, ())
    if deeper:
        path, given = (*path, *deeper), _value(merged, (*path, *deeper))
    mark = _mark(merged, path)
    # Locations of pydantic also name what stands in no file: `[key]`, members of unions.
    written = path if kind == "missing" else tuple(_written_part(path, merged))
    message, remedy = _explain(detail)
    value = "" if kind in ("missing", "extra_forbidden") else _shown_value(written, given)
    return Problem(mark.file, mark.line, shown_path(written), value, message, remedy)


def _value(merged: Document, path: document.Path) -> Any:
    """What the file says there; None where it says nothing."""
    value: Any = merged.data
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _written_part(path: document.Path, merged: Document) -> Iterable[str | int]:
    end = len(path)
    while end and path[:end] not in merged.marks:
        end -= 1
    return path[:end] or path


def _shown_value(path: document.Path, value: Any) -> str:
    for section, (address, shown) in _SECRET.items():
        if path[: len(section)] == section:
            if "headers" in path or len(path) < len(section) + 2 or isinstance(value, dict | list):
                return ""  # may hold secrets
            if path[-1] == address and isinstance(value, str):
                value = shown(value)
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


_TYPES: Final = {
    "string_type": "write text, in quotes if it looks like a number or yes/no",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "tuple_type": "write a list: each item on a line of its own, after `- `",
    "dict_type": "write a mapping: `key: value` lines, indented",
    "model_type": "write a mapping: `key: value` lines, indented",
    "model_attributes_type": "write a mapping: `key: value` lines, indented",
}


def explained(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """What is wrong with a section that came from elsewhere than a file: `limit_usd: not above zero (write …)`."""
    said = []
    for detail in error.errors(include_url=False):
        message, remedy = _explain(detail, root)
        said.append(f"{shown_path(detail['loc']) or root.__name__.lower()}: {message} ({remedy})")
    return said


def _explain(detail: ErrorDetails, root: type[BaseModel] = Config) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    kind, path = detail["type"], detail["loc"]
    context = detail.get("ctx", {})
    if REMEDY in context:
        return detail["msg"], str(context[REMEDY])
    if kind == "missing":
        return "is missing", f"add `{path[-1]}:`"
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1], root)
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        return "unknown key", f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
    if kind == "too_short" and not context.get("actual_length"):
        return "empty", "write at least one"
    if kind == "literal_error":
        return "not a known value", f"write {context['expected']}"
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    if kind in _TYPES:
        return message, _TYPES[kind]
    bounds = [f"{word} {context[key]}" for key, word in _BOUNDS.items() if key in context]
    return message, f"write a value {' and '.join(bounds)}" if bounds else "see the example of graphmeter init"


_BOUNDS: Final = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}


def _known_keys(path: document.Path, root: type[BaseModel]) -> list[str]:
    """Keys of the section at a path below `root`, as files write them."""
    section: Any = root
    for part in path:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in section.model_fields.items()}
            section = next(_sections(fields[part].annotation))
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section an annotation means: itself, or what a tuple or an option of it holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)
