"""Everything that runs inside a `with` block is kept in memory, however it is attached, and nothing of it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from graphmeter import attach, client
from graphmeter.hook import HOOK
from graphmeter.testing.spans import InMemorySpans


@contextmanager
def measure(*, capture: str | Iterable[str] | None = None) -> Iterator[InMemorySpans]:
    """Measure every graph of the process meanwhile, metered or not; `graphmeter_*` attribution stays as the code says it.

    What would go to a collector is kept instead, so a test neither needs one nor shows up in a dashboard. Handlers with an
    exporter or tracer provider of their own keep it. For one `with` block at a time.

    Args:
        capture: What graphs that have no handler of ours show besides; see GraphMeterCallbackHandler.
    """
    with InMemorySpans() as kept:
        handler = kept.handler(capture=capture)
        ours = HOOK.everywhere is None
        client.divert(kept)
        if ours:
            attach.instrument(handler)
        try:
            yield kept
        finally:
            if ours:
                attach.uninstrument()
            client.divert(None)
