"""Senders that never give up: they send runs until told to stop, each request until it is acknowledged."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from acceptance.processes import Collector, until
from graphmeter import names
from support import otlp
from support.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

SENDERS = 4
_GONE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def body(number: int) -> bytes:
    """One run of four spans, every tenth failed with its node; the same bytes whenever it is made within one load."""
    status = names.ERROR if number % 10 == 0 else names.OK
    spans = otlp.run(number, start_ns=_BEGAN_NS, status=status)
    _, node, _, _ = spans
    [said] = [attribute for attribute in node.attributes if attribute.key == names.STATUS]
    said.value.string_value = status
    return otlp.request(*spans).SerializeToString()


_BEGAN_NS = time.time_ns() - 60 * SECOND


class Load:
    """What has been sent so far."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        """Runs whose sender has been answered with 200."""
        self.refused: list[int] = []
        """Statuses other than 200."""
        self.stopping = threading.Event()
        self._numbers = itertools.count(1)

    def send(self, to: Collector) -> None:
        """Send run after run until told to stop; the last one, too, until it is acknowledged."""
        while not self.stopping.is_set():
            number = next(self._numbers)
            request = body(number)
            while True:
                try:
                    status, _ = to.post(request)
                except _GONE:
                    status = 0
                if status == 200:
                    self.acknowledged.append(number)
                    break
                if status:
                    self.refused.append(status)
                time.sleep(0.02)

    def wait_for(self, more: int) -> None:
        """Until so many more are acknowledged."""
        goal = len(self.acknowledged) + more
        until(f"{more} more acknowledgements", lambda: len(self.acknowledged) >= goal)


@contextmanager
def load(to: Collector) -> Iterator[Load]:
    """Load on whatever listens at this collector's address, until the block ends; a collector must be there then."""
    sent = Load()
    with ThreadPoolExecutor(SENDERS) as senders:
        running = [senders.submit(sent.send, to) for _ in range(SENDERS)]
        try:
            yield sent
        finally:
            sent.stopping.set()
    for each in running:
        each.result()


def deliver_calmly(to: Collector, sent: Load) -> None:
    """The same runs, one after another, to a collector whom nothing happens to."""
    assert len(set(sent.acknowledged)) == len(sent.acknowledged)
    for number in sorted(sent.acknowledged):
        assert (200, b"") == to.post(body(number))
