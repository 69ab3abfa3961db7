"""Chance that depends on what it is about, never on when it is asked: the same seed and text give the same draw.

Parallel branches, threads and event loops finish in any order; because no draw has a place in a sequence, the totals of a
workload are the same however it was scheduled.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

T = TypeVar("T")

_NORMAL = NormalDist()


class Luck:
    """Draws keyed by a seed and by the texts they are about. Safe to share between threads."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._key = seed.to_bytes(8, "big", signed=True)
        self._stumbled: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def unit(self, *about: str) -> float:
        """A number in [0, 1)."""
        digest = hashlib.blake2b("\x1f".join(about).encode(), digest_size=8, key=self._key).digest()
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53)

    def between(self, low: int, high: int, *about: str) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self.unit(*about) * (high - low + 1))

    def pick(self, options: Sequence[T], *about: str) -> T:
        return options[self.between(0, len(options) - 1, *about)]

    def spread(self, median: float, sigma: float, *about: str) -> float:
        """A log-normal draw: latencies have a long right tail. `sigma` 0.5 puts p95 at 2.3 times the median."""
        # inv_cdf is undefined at 0, which `unit` can give.
        return median * math.exp(sigma * _NORMAL.inv_cdf(max(self.unit(*about), 1e-9)))

    def stumbles(self, rate: float, *about: str) -> bool:
        """True on the first of two tries for the unlucky `rate` of topics: the retry goes well.

        Tries are paired rather than counted for ever, so memory stays bounded by the failures nobody retried.
        """
        if self.unit(*about, "stumble") >= rate:
            return False
        with self._lock:
            if about in self._stumbled:
                self._stumbled.discard(about)
                return False
            self._stumbled.add(about)
            return True
