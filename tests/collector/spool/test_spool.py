"""A spool on a real disk: durable in groups, bounded, in order, shared by processes, adopted from dead ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from graphmeter_collector.errors import SpoolFull
from graphmeter_collector.records import Caller
from graphmeter_collector.spool import spool as module
from graphmeter_collector.spool.folder import target
from graphmeter_collector.spool.frames import Spooled
from graphmeter_collector.spool.spool import Spool
from support.full_disk import no_file_larger_than

DATABASE = "postgresql://graphmeter:secret@db.example:5432/graphmeter"
MIB = 1 << 20


def request(number: int, size: int = 10) -> Spooled:
    return Spooled(b"%d " % number * size, Caller("key", "cx"), 1_000 + number, 1)


@asynccontextmanager
async def spool_in(folder: Path, limit: int = MIB, database: str = DATABASE) -> AsyncIterator[Spool]:
    spool = Spool(folder, database, limit)
    try:
        yield spool
    finally:
        await spool.close()


async def drained(spool: Spool, max_spans: int = 1_000) -> list[Spooled]:
    """Everything that waits, taken as replay takes it."""
    found: list[Spooled] = []
    while (batch := await spool.next(max_spans, MIB)) is not None:
        found += batch.requests
        await spool.done(batch)
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.spool"))


async def test_requests_come_back_in_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    requests = [request(number) for number in range(50)]
    async with spool_in(tmp_path) as spool:
        for each in requests:
            await spool.append(each)
        assert (False, True) == (spool.empty, spool.oldest_s() < 60)
        assert requests == await drained(spool, max_spans=7)
        assert (True, 0, 0.0, []) == (spool.empty, spool.size, spool.oldest_s(), files(tmp_path))
    assert [] == list((tmp_path / target(DATABASE)).iterdir())


async def test_what_arrives_during_one_sync_shares_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []

    def counted(file: int) -> None:
        syncs.append(os.fstat(file).st_size)
        os.fsync(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    async with spool_in(tmp_path) as spool:
        await asyncio.gather(*(spool.append(request(number)) for number in range(100)))
        assert (100, True) == (len(await drained(spool)), len(syncs) <= 2)


async def test_segments_are_removed_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 500)
    requests = [request(number, 100) for number in range(6)]
    async with spool_in(tmp_path) as spool:
        for each in requests:
            await spool.append(each)
        counts = [len(files(tmp_path))]
        found: list[Spooled] = []
        while (batch := await spool.next(1, MIB)) is not None:
            assert batch is await spool.next(1, MIB)  # until it is done
            found += batch.requests
            await spool.done(batch)
            counts.append(len(files(tmp_path)))
        assert requests == found
        assert (sorted(counts, reverse=True), 0) == (counts, counts[-1])
        assert counts[0] > 1


async def test_a_full_spool_refuses_until_there_is_room(tmp_path: Path) -> None:
    async with spool_in(tmp_path, limit=1_000) as spool:
        await spool.append(request(1, 200))
        with pytest.raises(SpoolFull, match="limit of 1000 bytes"):
            await spool.append(request(2, 400))
        await spool.append(request(3, 10))
        assert [request(1, 200), request(3, 10)] == await drained(spool)
        await spool.append(request(2, 400))
        assert [request(2, 400)] == await drained(spool)


async def test_a_full_disk_refuses_what_did_not_fit_and_keeps_the_rest(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        await spool.append(request(1, 100))
        with no_file_larger_than(1_000), capture_logs() as logged:
            with pytest.raises(SpoolFull, match="cannot be written"):
                await spool.append(request(2, 1_000))
            assert (False, ["spool_write_failed"]) == (spool.accepts, [line["event"] for line in logged])
            await spool.append(request(3, 10))
        await spool.append(request(4, 1_000))
        assert [request(1, 100), request(3, 10), request(4, 1_000)] == await drained(spool)
        assert [] == files(tmp_path)


async def test_a_disk_without_any_room_leaves_no_file(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as spool:
        with no_file_larger_than(0), capture_logs(), pytest.raises(SpoolFull):
            await spool.append(request(1))
        assert ([], 0, True) == (files(tmp_path), spool.size, spool.empty)


async def test_two_processes_share_a_directory_and_the_living_are_left_alone(tmp_path: Path) -> None:
    async with spool_in(tmp_path) as other:
        await other.append(request(1))
        async with spool_in(tmp_path) as spool:
            await spool.append(request(2))
            assert 0 == await spool.adopt()
            assert [request(2)] == await drained(spool)
        assert [request(1)] == await drained(other)


async def test_what_a_killed_process_left_is_adopted_once_in_the_order_of_receipt(tmp_path: Path) -> None:
    for number in (1, 2):
        leave(tmp_path, number)
    async with spool_in(tmp_path) as first, spool_in(tmp_path) as second:
        await second.append(request(3))
        assert await first.adopt() > 0
        assert 0 == await second.adopt()
        assert [1, 2] == [each.received_ns for each in await drained(first)]
        assert [request(3)] == await drained(second)
        assert [] == files(tmp_path)
    assert [] == list((tmp_path / target(DATABASE)).iterdir())


async def test_databases_do_not_get_what_was_meant_for_others(tmp_path: Path) -> None:
    leave(tmp_path, 1)
    async with spool_in(tmp_path, database="postgresql://db.example:5432/staging") as other:
        assert (False, 0, [target(DATABASE)]) == (other.known, await other.adopt(), other.others())
    async with spool_in(tmp_path, database="postgresql+asyncpg://somebody@db.example:5432/graphmeter?ssl=on") as same:
        assert (True, True, []) == (same.known, await same.adopt() > 0, same.others())


async def test_a_damaged_segment_loses_only_its_damaged_records(tmp_path: Path) -> None:
    leave(tmp_path, 1, 2, 3)
    [file] = files(tmp_path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data + b"torn")
    async with spool_in(tmp_path) as spool:
        await spool.adopt()
        batch = await spool.next(10, MIB)
        assert batch is not None
        assert [1, 3] == [each.received_ns for each in batch.requests]
        assert [(False, len(data) // 3), (True, 4)] == [(damage.torn, damage.size) for damage in batch.damage]


async def test_a_segment_that_cannot_be_read_is_kept_and_holds_nothing_up(tmp_path: Path) -> None:
    leave(tmp_path, 1)
    [file] = files(tmp_path)
    file.unlink()
    file.mkdir()
    async with spool_in(tmp_path) as spool:
        with capture_logs() as logged:
            await spool.adopt()
            await spool.append(request(2))
            assert [request(2)] == await drained(spool)
        assert (["spool_adopted", "spool_unreadable"], [file]) == ([line["event"] for line in logged], files(tmp_path))
        assert 0 == await spool.adopt()


def leave(folder: Path, *numbers: int) -> None:
    """Requests in the spool of a process that was killed."""
    program = f"""
import asyncio, os, signal
from pathlib import Path
from graphmeter_collector.records import ANONYMOUS
from graphmeter_collector.spool.frames import Spooled
from graphmeter_collector.spool.spool import Spool

async def leave():
    spool = Spool(Path({str(folder)!r}), {DATABASE!r}, 1 << 20)
    for number in {numbers!r}:
        await spool.append(Spooled(b"body", ANONYMOUS, number, 1))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(leave())
"""
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", program], check=False).returncode
