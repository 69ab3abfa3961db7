"""Priced spans in, one transaction, facts out. Postgres or SQLite behind one `Store`; one conformance suite for both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from graphmeter_collector.records import Settling, SpanRecord, Waited, WriteResult
from graphmeter_collector.reports import Decision, Judged, LostRun, StoredReader, Unended, WaitingTrace
from graphmeter_collector.retention import Cutoffs
from graphmeter_collector.store.batch import Given
from graphmeter_collector.store.outbox import Claim


class Store(Protocol):
    """Where facts live. Every method raises `StoreUnavailable` when the database is away."""

    @property
    def reader(self) -> StoredReader:
        """Answers questions, also while a write is under way."""
        ...

    async def open(self) -> None:
        """Connect and take a writer slot. The schema must be at head (see `migrate`).

        Raises:
            StartupError: it cannot be used; `DatabaseAway` if nothing answers, and trying again may help.
        """
        ...

    async def write(self, given: Given, *, destinations: Sequence[str] = ()) -> WriteResult:
        """Store what is new in one durable transaction: spans, bodies, runs, ledger, rollups, outbox.

        And what clients say besides spans (`graphmeter.names.NOTES`): outcomes, tags, topologies, reports, heartbeats.
        All of it as it came, or as deliveries that were sorted out when they came.
        Idempotent by (trace_id, span_id, day): whatever was stored before, by whichever collector, changes nothing.
        A record the database refuses is in `rejected`; the others are stored.
        """
        ...

    async def rehearse(self, records: Sequence[SpanRecord]) -> None:
        """Do all that `write` would do with these spans, none of which is stored, and take it back."""
        ...

    async def settle(self, now_ns: int, wait_ns: int) -> Settling:
        """Settle foreign spans whose ancestors have come, or have not for `wait_ns`: a bounded number, each exactly once.

        What follows from them is written in the same transaction, as `write` does for spans that are complete.
        """
        ...

    async def unsettled(self) -> tuple[int, int]:
        """How many foreign spans wait for their ancestors, and since when the oldest does (0 for none)."""
        ...

    async def mark_lost(self, now_ns: int, lost_after_ns: int) -> list[LostRun]:
        """Turn some running runs that have been silent for too long into lost ones; a late end turns them back.

        No more than a transaction can carry: come again until none is left. With its run, each call is told that was for
        nothing because its attempt never ended. Too long is `lost_after_ns`, or ten heartbeats for a run that promised them,
        whichever is shorter.
        """
        ...

    async def end_waits(self, now_ns: int) -> list[Waited]:
        """Look what the threads of interrupted runs did next; returns the waits that somebody ended with an answer."""
        ...

    async def runs_waiting(self, now_ns: int) -> dict[tuple[str, str, str, str], Unended]:
        """Interrupted runs that nobody has answered, by (service, environment, graph, team)."""
        ...

    async def runs_in_progress(self) -> dict[tuple[str, str, str, str], Unended]:
        """Running runs by (service, environment, graph, team)."""
        ...

    async def retain(self, cutoffs: Cutoffs) -> dict[str, int]:
        """Delete what is older than `cutoffs`.

        Returns what went, by table: rows, but for `span` and `span_body` on Postgres, where it is whole days.
        """
        ...

    def job_lock(self, name: str) -> AbstractAsyncContextManager[bool]:
        """True for at most one collector at a time; the others get False at once."""
        ...

    def outbox_claim(self, destination: str, limit: int, max_bytes: int) -> AbstractAsyncContextManager[Claim]:
        """The oldest spans a destination has not had, at most so many, of at most so many bytes but for a single one.

        Nobody else is given them until the block ends. What was not deleted by then is given again.
        """
        ...

    async def outbox_expire(self, before_day: int) -> dict[str, int]:
        """Delete what is older than the bodies that are kept; returns how many spans, by destination."""
        ...

    async def outbox_oldest(self) -> dict[str, int]:
        """When the oldest span that waits was committed, by destination."""
        ...

    async def traces_waiting(self, quiet_ns: int, oldest_ns: int, after: bytes, limit: int) -> list[WaitingTrace]:
        """Traces of `UNDECIDED` spans that may be judged: quiet since the one, begun before the other, or decided already.

        In order of trace id, those above `after`.
        """
        ...

    async def traces_lost(self, since_ns: int, limit: int) -> list[WaitingTrace]:
        """Traces that were dropped before one of their runs was lost, last heard of since then."""
        ...

    async def decide(
        self,
        decisions: Sequence[Decision],
        late: Sequence[bytes],
        destinations: Sequence[str],
        *,
        revised: Sequence[Decision] = (),
    ) -> Judged:
        """Store decisions, and send the waiting spans of their traces, and of the `late` ones, where those say.

        Of several decisions on one trace the first stands, whichever collector made it. `revised` are decisions to keep
        what was dropped: all spans of such a trace whose bytes are still there are sent.
        """
        ...

    async def outbox_depth(self) -> dict[str, int]:
        """Spans waiting, by destination."""
        ...

    async def table_bytes(self, rest: float = 0.0) -> dict[str, int]:
        """Bytes on disk by table, indexes included (see `store.sizes`).

        Large SQLite files are read for half a minute or more; after each part, `rest` is how many times as long to pause.
        """
        ...

    async def ended_runs(self) -> dict[int, int]:
        """How many runs that have ended are known, by the day (since the epoch) of their start."""
        ...

    async def ping(self) -> None:
        """Raise unless a transaction could be made now."""
        ...

    async def close(self) -> None: ...


def make_store(database_url: str) -> Store:
    """A store that is not open yet.

    Raises:
        StartupError: the URL names no database that can be used.
    """
    # Imported here: whoever only names the protocol needs no database driver.
    from graphmeter_collector.store.engine import is_sqlite, parse
    from graphmeter_collector.store.postgres import PostgresStore
    from graphmeter_collector.store.sqlite import SqliteStore

    url = parse(database_url)
    return SqliteStore(url) if is_sqlite(url) else PostgresStore(url)


async def open_store(database_url: str) -> Store:
    """Connect to a database whose schema is at head; see `graphmeter_collector.store.migrate`.

    Raises:
        StartupError: the URL names no database that can be used, or another collector holds the embedded file.
    """
    store = make_store(database_url)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store
