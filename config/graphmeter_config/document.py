"""YAML text in, plain data and the line of every value out: what an error message needs to point at the place.

Numbers with a point become exact decimals, dates stay text, and a key written twice is an error instead of a silent win
of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import yaml

from graphmeter_config.errors import Problem

Path = tuple[str | int, ...]
"""Where a value stands: `("slos", 0, "objective")`."""

_MOST_NODES: Final = 100_000
"""Aliases of aliases can unfold a few lines into billions of values."""


@dataclass(slots=True)
class Mark:
    """Where a value was written."""

    file: str
    line: int


@dataclass(slots=True)
class Document:
    """One file. With problems, `data` is what could be read."""

    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """Safe YAML with exact numbers."""


def _exact(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | float | str:
    text = loader.construct_scalar(node)
    digits = str(text).replace("_", "")
    try:
        return Decimal(digits)
    except ArithmeticError:
        return str(text)  # .inf, .nan and 1:30.5 are left to the field, which knows what it wants


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _exact)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)


def read(text: str, file: str) -> Document:
    """Parse one document; every fault is a problem of the result, never an exception."""
    document = Document()
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return document
        if not isinstance(root, yaml.MappingNode):
            found = Problem(
                file, root.start_mark.line + 1, "", "", "is not a mapping", "write sections such as `slos:`"
            )
            document.problems.append(found)
            return document
        _Marker(document, file).mark(root, (), ())
        if not document.problems:
            document.data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        line = place.line + 1 if place else 0
        document.problems.append(Problem(file, line, "", "", f"is not YAML: {error.problem}", "check the indentation"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        document.problems.append(Problem(file, 0, "", "", f"is not YAML: {error}", "write a text file in UTF-8"))
    finally:
        loader.dispose()
    return document


class _Marker:
    def __init__(self, document: Document, file: str) -> None:
        self._document = document
        self._file = file
        self._nodes = 0

    def mark(self, node: yaml.Node, path: Path, above: tuple[int, ...]) -> None:
        """Note the line of every value under a node; `above` holds the ids of the nodes around it."""
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise ValueError("aliases unfold into too many values")
        if id(node) in above:
            raise ValueError(f"line {node.start_mark.line + 1} contains itself through an alias")
        above = (*above, id(node))
        self._document.marks.setdefault(path, Mark(self._file, node.start_mark.line + 1))
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.mark(item, (*path, index), above)
        elif isinstance(node, yaml.MappingNode):
            self._mapping(node, path, above)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[int, ...]) -> None:
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                self.mark(value, (*path, "<<"), above)
                continue
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not name or key.tag != "tag:yaml.org,2002:str":
                self._problem(
                    line, (*path, name or "?"), "a key that is not text", "write a plain name, quoted if need be"
                )
                continue
            if name in first:
                remedy = f"keep one; the first is in line {first[name]}"
                self._problem(line, (*path, name), "written twice", remedy)
                continue
            first[name] = line
            self._document.marks[*path, name] = Mark(self._file, line)
            self.mark(value, (*path, name), above)

    def _problem(self, line: int, path: Path, message: str, remedy: str) -> None:
        self._document.problems.append(Problem(self._file, line, shown_path(path), "", message, remedy))


def shown_path(path: Path) -> str:
    """`("slos", 0, "objective")` → `slos[0].objective`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
