"""Rule files in, rules with the lines they stand in out: anybody's, or those that a configuration gives.

Whatever a file gets wrong is a finding, never an exception, so that all faults of all files are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from graphmeter_alerts.build import RULES, build
from graphmeter_config import Config
from graphmeter_config.errors import Problem

_SUFFIXES: Final = (".yml", ".yaml")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a file."""

    file: str
    line: int
    group: str
    kind: Literal["alert", "record"]
    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    for_: str = ""
    keep_firing_for: str = ""

    @property
    def where(self) -> str:
        """`alert NAME`, `record NAME`."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What a file holds, as far as it could be read."""

    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    """Names of groups and the lines they begin in."""


def of_config(config: Config) -> list[Rule]:
    """The rules that a configuration gives."""
    files = {name: text for name, text in build(config).items() if name.endswith(RULES)}
    return [rule for name, text in files.items() for rule in read(text, name).rules]


def files_in(path: Path) -> list[Path]:
    """The file itself, or every rule file of a folder: YAML that has `groups`, sorted by name."""
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.iterdir()) if file.suffix in _SUFFIXES and file.is_file()]
    return [file for file in found if _has_groups(file)]


def _has_groups(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError):
        return True  # read() says why not
    except yaml.YAMLError:
        return file.name.endswith(RULES)
    return isinstance(node, yaml.MappingNode) and any(key.value == "groups" for key, _ in node.value)


def read_file(path: Path) -> RuleFile:
    """Rules of a file."""
    try:
        return read(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        fault, remedy = "does not exist", "write it with: graphmeter rules build"
    except OSError as error:
        fault, remedy = f"cannot be read: {error.strerror}", "check its path and permissions"
    except UnicodeDecodeError:
        fault, remedy = "is not text in UTF-8", "save it as UTF-8"
    return RuleFile((), (Problem(str(path), 0, "", "", fault, remedy),))


def read(text: str, file: str) -> RuleFile:
    """Rules of a text."""
    reader = _Reader(file)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reader.wrong(
            mark.line if mark else 0, "", f"is not YAML: {getattr(error, 'problem', error)}", "check indentation"
        )
    else:
        reader.root(root)
    return RuleFile(tuple(reader.rules), tuple(reader.problems), tuple(reader.groups))


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self.groups: list[tuple[str, int]] = []

    def wrong(self, line: int, path: str, fault: str, remedy: str) -> None:
        self.problems.append(Problem(self._file, line + 1, path, "", fault, remedy))

    def root(self, node: yaml.Node | None) -> None:
        groups = _fields(node).get("groups")
        if groups is None:
            self.wrong(0, "", "has no groups", "write rules below `groups:`, as Prometheus reads them")
        for group in self._items(groups, "groups"):
            fields = _fields(group)
            name = _text(fields.get("name"))
            if not name:
                self.wrong(group.start_mark.line, "groups", "a group without a name", "add `name:`")
            self.groups.append((name, group.start_mark.line + 1))
            for rule in self._items(fields.get("rules"), f"group {name}"):
                self._rule(rule, name)

    def _items(self, node: yaml.Node | None, path: str) -> Iterator[yaml.Node]:
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            self.wrong(node.start_mark.line, path, "is not a list", "begin each item with `- `")
            return
        yield from node.value

    def _rule(self, node: yaml.Node, group: str) -> None:
        fields, line = _fields(node), node.start_mark.line
        kinds: list[Literal["alert", "record"]] = [kind for kind in _KINDS if kind in fields]
        if len(kinds) != 1:
            self.wrong(
                line, f"group {group}", "is neither an alert nor a record", "give it one of `alert:` and `record:`"
            )
            return
        kind, name, expr = kinds[0], _text(fields[kinds[0]]), _text(fields.get("expr"))
        if not name or not expr.strip():
            self.wrong(line, f"group {group}", f"{kind} {name or '?'} has no {'expr' if name else 'name'}", "add it")
            return
        self.rules.append(
            Rule(
                self._file,
                line + 1,
                group,
                kind,
                name,
                expr,
                _texts(fields.get("labels")),
                _texts(fields.get("annotations")),
                _text(fields.get("for")),
                _text(fields.get("keep_firing_for")),
            )
        )


_KINDS: Final[tuple[Literal["alert", "record"], ...]] = ("alert", "record")


def _fields(node: yaml.Node | None) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): value for key, value in node.value}


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _texts(node: yaml.Node | None) -> dict[str, str]:
    return {key: _text(value) for key, value in _fields(node).items()}
