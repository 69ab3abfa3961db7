"""What is wrong with a configuration, said so that the reader can repair it: where, which value, what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of one file."""

    file: str
    line: int
    """Counted from 1; 0 where the fault has no line (a file that is missing)."""
    field: str
    """Path in the file, as `slos[0].objective`; empty for the file as a whole."""
    value: str
    """The value as written, shortened; empty where there is none or it may be a secret."""
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        field = f": {self.field}" if self.field else ""
        value = f" is {self.value}" if self.value and self.field else ""
        return f"{place}{field}{value}: {self.message} ({self.remedy})"


class ConfigError(Exception):
    """A configuration that cannot be used; every fault of it is in `problems`, in order of file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
