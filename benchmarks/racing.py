"""Contestants in processes of their own, which take turns: one works while the others sleep, so that a noisy machine is
noisy for all. Where a process happens to have its memory moves its figures by a tenth for as long as it lives, hence several
series, each with new processes for all.
"""

from __future__ import annotations

import multiprocessing
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

Entrant = TypeVar("Entrant")
ORDER: Final = random.Random(20_261_121)  # noqa: S311 - no secret


class Runner:
    """A contestant's process, seen from here.

    Args:
        name: Of the contestant.
        work: What the process does: `work(name, *args, pipe)`. It sends what it has to say of itself, then an answer for
            everything that it is asked, until that is None.
    """

    def __init__(self, name: str, work: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        theirs: Connection
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(name, *args, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.name = name
        self.said = self._pipe.recv()

    def ask(self, question: object) -> Any:
        """Its answer."""
        self._pipe.send(question)
        return self._pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(10)


def runners(names: Sequence[str], work: Callable[..., None], *args: Any) -> list[Runner]:
    """A new process for each, in the order of the names; begun in another one, lest the first has the best of the memory.

    A name may be there several times: what all others are compared with deserves more processes than one.
    """
    order = ORDER.sample(range(len(names)), len(names))
    made = {index: Runner(names[index], work, *args) for index in order}
    return [made[index] for index in range(len(names))]


def shuffled(entrants: Sequence[Entrant]) -> Iterator[Entrant]:
    """All of them, in another order each time; the same orders whenever the benchmark is run."""
    yield from ORDER.sample(entrants, len(entrants))


def calm(figures: Sequence[float]) -> float:
    """The lower quartile: what others do on the same machine only ever adds, in bursts."""
    return statistics.quantiles(figures, n=4)[0] if len(figures) > 1 else figures[0]
