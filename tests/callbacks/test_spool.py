"""Requests on disk: order, damage, bounds, and who owns the files of whom, with real processes and real kills."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.fakes import FakeChat, asking, chain_of
from callbacks.otlp import Receiver, attributes
from callbacks.test_delivery import BY_HAND, wait_for
from callbacks.test_process import PREAMBLE, TESTS, python
from graphmeter import GraphMeterCallbackHandler, client, guard, names
from graphmeter.settings import Settings
from graphmeter.spool import _HEADER, Spool, _records

MB = 1_000_000


def drained(spool: Spool) -> list[tuple[bytes, int]]:
    found = []
    while (stored := spool.first()) is not None:
        found.append((stored.body, stored.spans))
        assert spool.done(stored)
    return found


def files(directory: Path, suffix: str = "*") -> list[str]:
    return sorted(path.name.rpartition(".")[2] for path in directory.glob(f"*.{suffix}"))


# --- the files ------------------------------------------------------------------------------------------------------


def test_what_is_written_comes_out_in_order_and_leaves_no_trace(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "spans", 10 * MB)
    written = [(os.urandom(400_000), number) for number in range(1, 8)]
    for body, spans in written[:5]:
        spool.write(body, spans)
    first = spool.first()
    assert first is not None
    assert spool.done(first)
    for body, spans in written[5:]:
        spool.write(body, spans)
    assert written[1:] == drained(spool)
    assert not spool.waiting
    spool.close()
    assert [] == files(tmp_path / "spool")


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "spans", MB)
    spool.write(b"x", 1)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").iterdir()}
    assert (0o700, {0o600}) == (stat.S_IMODE((tmp_path / "spool").stat().st_mode), modes)
    spool.close()


def test_the_oldest_give_way_to_the_newest_and_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "spans", 3 * MB)
    for number in range(10):
        spool.write(bytes([number]) * 600_000, 1 + number)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.spool"))
    assert size <= 3 * MB
    lost = spool.take_lost()
    left = drained(spool)
    assert [6, 7, 8, 9] == [body[0] for body, _ in left]
    assert (55 - sum(spans for _, spans in left), 0) == lost
    with pytest.raises(OSError, match="larger than the spool"):
        spool.write(b"x" * 4 * MB, 1)
    spool.close()


@given(
    bodies=st.lists(st.binary(max_size=60), min_size=1, max_size=6),
    at=st.integers(0, 400),
    how=st.sampled_from(["cut", "flip", "zeros", "junk"]),
)
def test_damage_costs_only_the_records_that_it_hit(bodies: list[bytes], at: int, how: str) -> None:
    import struct
    import zlib

    records = []
    for number, body in enumerate(bodies, 1):
        checked = struct.pack(">II", len(body), number)
        records.append(b"GMS1" + checked + struct.pack(">I", zlib.crc32(body, zlib.crc32(checked))) + body)
    data = bytearray(b"".join(records))
    at %= len(data)
    ends = [sum(map(len, records[:number])) for number in range(len(records) + 1)]
    hit = {next(number for number in range(len(records)) if at < ends[number + 1])}
    if how == "cut":
        del data[at:]
        hit |= set(range(min(hit), len(records)))
    elif how == "flip":
        data[at] ^= 0x5A
    elif how == "zeros":
        length = len(data[at : at + 8])
        data[at : at + 8] = bytes(length)
        hit |= {number for number in range(len(records)) if ends[number] < at + 8 and ends[number + 1] > at}
    else:
        data[at:at] = b"GMS1\0\0\0\1"
        hit = set() if at in ends else hit
    found = [record for record in _records(bytes(data)) if record is not None]
    expected = [(body, number) for number, body in enumerate(bodies, 1) if number - 1 not in hit]
    # Bytes that happen to be what they were before hurt nobody.
    assert all(record in found for record in expected)
    assert all(record in list(zip(bodies, range(1, 7), strict=False)) for record in found)


def test_a_torn_record_is_said_once_and_the_others_are_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "spans", MB)
    for number in range(3):
        spool.write(bytes([number]) * 100, 2)
    [path] = tmp_path.glob("*.spool")
    data = bytearray(path.read_bytes())
    data[_HEADER.size + 100 + 30] ^= 1
    path.write_bytes(data)
    assert [0, 2] == [body[0] for body, _ in drained(spool)]
    assert (2, 0) == spool.take_lost()
    assert {"damaged spool record": 1} == guard.faults()
    guard.forget()
    spool.close()


def test_a_file_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "spans", 10 * MB)
    for number in range(3):
        spool.write(bytes([number]) * 600_000, 1)
    second = sorted(tmp_path.glob("*.spool"))[1]
    second.unlink()
    second.mkdir()
    assert [0, 2] == [body[0] for body, _ in drained(spool)]
    assert (1, 0) == spool.take_lost()
    assert {"unreadable spool file": 1, "spool file not removed": 1} == guard.faults()
    guard.forget()
    spool.close()


def test_the_files_of_a_living_process_are_left_alone_and_those_of_a_dead_one_go_to_one(tmp_path: Path) -> None:
    living, other, third = (Spool(tmp_path, "spans", MB) for _ in range(3))
    living.write(b"a", 1)
    other.adopt()
    assert not other.waiting
    living.close()
    other.adopt()
    third.adopt()
    assert (True, False) == (other.waiting, third.waiting)
    stored = other.first()
    assert stored is not None
    assert (b"a", False) == (stored.body, stored.own)
    other.close()  # it was not delivered
    third.adopt()
    assert [(b"a", 1)] == drained(third)
    assert [] == files(tmp_path)
    elsewhere = Spool(tmp_path, "another", MB)
    elsewhere.adopt()
    assert not elsewhere.waiting


def test_files_for_another_collector_are_left_alone(tmp_path: Path) -> None:
    one, other = Spool(tmp_path, "one", MB), Spool(tmp_path, "other", MB)
    one.write(b"a", 1)
    one.close()
    other.adopt()
    assert not other.waiting


def test_a_full_disk_leaves_no_torn_record(tmp_path: Path) -> None:
    # The limit on the size of a file stands in for a full disk: a write is cut short, the next one fails.
    code = f"""
    import resource, signal
    from pathlib import Path
    from graphmeter.spool import Spool
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    spool = Spool(Path({str(tmp_path)!r}), "spans", 1_000_000)
    spool.write(b"a" * 3000, 1)
    try:
        spool.write(b"b" * 3000, 2)
    except OSError as error:
        print("refused", error.errno)
    spool.write(b"c" * 1000, 4)
    """
    done = python(code)
    assert 0 == done.returncode, done.stderr
    assert done.stdout.startswith("refused ")
    heir = Spool(tmp_path, "spans", MB)
    heir.adopt()
    assert [(b"a" * 3000, 1), (b"c" * 1000, 4)] == drained(heir)
    assert {} == guard.faults()


# --- the pipeline -----------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


AWAY = [503] * 10_000
"""Answers of a collector that is away: how often it is asked meanwhile is the pipeline's own affair."""


class Application:
    """A handler whose pipeline has a spool in `directory`; with `url` of the collector to come."""

    def __init__(self, url: str, directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        own = {"flush_interval_s": 0.02, "spool_dir": str(directory), "topology": False}
        chosen = Settings(**{**own, **settings})
        monkeypatch.setattr(client, "_settings", chosen)
        self.url = url
        self.handler = GraphMeterCallbackHandler(endpoint=url)
        self.pipeline = client.pipeline(endpoint=url)

    def run(self, times: int = 1) -> None:
        graph = chain_of(("ask", asking(FakeChat())))
        for _ in range(times):
            assert {"x": 1} == graph.invoke({}, config={"callbacks": [self.handler]})

    def end(self, timeout_s: float = 0.5) -> bool:
        client._pipelines.pop(self.url, None)
        return self.pipeline.shutdown(timeout_s)


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Application]]:
    made: list[Application] = []

    def make(url: str, **settings: Any) -> Application:
        made.append(Application(url, tmp_path / "spool", monkeypatch, **settings))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_during_an_outage_spans_go_to_disk_and_afterwards_to_the_collector(
    receiver: Receiver, application: Callable[..., Application], tmp_path: Path
) -> None:
    receiver.answers = AWAY.copy()
    one = application(receiver.url, queue_spans=16)
    for number in range(10):  # more than memory would hold
        one.run()
        if number < 2:
            assert not one.pipeline.flush(60)
        if number == 7:
            receiver.answers = []
        wait_for(lambda: one.pipeline.counts().queued == 0)
    counts = one.pipeline.counts()
    assert (0, 0, 40) == (counts.dropped, counts.failed, counts.exported + counts.spooled)
    assert ["lock", "spool"] == files(tmp_path / "spool")
    assert one.pipeline.flush(60)
    assert (40, 0, 0, 0, 0) == one.pipeline.counts()
    assert 40 == len({(span.trace_id, span.span_id) for span in receiver.spans}) == len(receiver.spans)
    assert one.end()
    assert [] == files(tmp_path / "spool")
    assert {} == guard.faults()


def test_what_one_process_leaves_the_next_one_sends(
    receiver: Receiver, application: Callable[..., Application], tmp_path: Path
) -> None:
    receiver.answers = AWAY.copy()
    one = application(receiver.url)
    one.run(2)
    assert not one.end()
    assert ["lock", "spool"] == files(tmp_path / "spool")
    receiver.answers = []
    two = application(receiver.url)
    two.run()
    assert two.end(60)
    assert 12 == len({(span.trace_id, span.span_id) for span in receiver.spans})
    assert (12, 0, 0, 0, 0) == two.pipeline.counts()
    assert [] == files(tmp_path / "spool")
    # What the first one said last came along: nothing had been exported, eight were waiting.
    last = [report for report in receiver.reports if report[names.CLIENT_QUEUED]]
    assert [(0, 8)] == [(report[names.CLIENT_EXPORTED], report[names.CLIENT_QUEUED]) for report in last]


def test_a_directory_that_cannot_be_used_is_said_once_and_spans_wait_in_memory(
    receiver: Receiver, application: Callable[..., Application], tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file")
    receiver.answers = AWAY.copy()
    one = application(receiver.url)
    one.run()
    assert not one.pipeline.flush(60)
    assert (0, 0, 0, 4, 0) == one.pipeline.counts()
    receiver.answers = []
    assert one.pipeline.flush(60)
    assert (4, 0, 0, 0, 0) == one.pipeline.counts()
    assert {"spool unusable"} == set(guard.faults())
    guard.forget()


def test_a_full_spool_drops_the_oldest_and_everything_is_accounted_for(
    receiver: Receiver, application: Callable[..., Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphmeter import spool

    monkeypatch.setattr(spool, "_SEGMENT_BYTES", 3000)
    receiver.answers = AWAY.copy()
    one = application(receiver.url, spool_mb=0.01)
    for _ in range(12):
        one.run()
        one.pipeline.flush(60)
    counts = one.pipeline.counts()
    assert 48 == sum(counts)
    assert counts.dropped > 0
    assert counts.spooled > 0
    receiver.answers = []
    assert one.pipeline.flush(60)
    assert (48 - counts.dropped, counts.dropped, 0, 0, 0) == one.pipeline.counts()
    assert {"spooled spans lost"} == set(guard.faults())
    guard.forget()


def test_new_spans_do_not_wait_for_those_on_disk(receiver: Receiver, application: Callable[..., Application]) -> None:
    receiver.answers = AWAY.copy()
    one = application(receiver.url, **BY_HAND)
    for _ in range(30):
        one.run()
        one.pipeline.flush(60)
    old = {span.trace_id for span in receiver.spans}
    assert 120 == one.pipeline.counts().spooled
    one.run()
    receiver.answers = []
    assert one.pipeline.flush(60)
    kinds = [attributes(span)[names.KIND] for span in receiver.spans if span.trace_id not in old]
    newest = receiver.spans[0].trace_id
    assert ["start", "model", "node", "run"] == [
        attributes(span)[names.KIND] for span in receiver.spans if span.trace_id == newest
    ][:4]
    assert 124 == len(kinds)
    times = [span.start_time_unix_nano for span in receiver.spans]
    assert max(times[4:]) < times[0]  # the new run first, then the rest
    starts = [span.start_time_unix_nano for span in receiver.spans if attributes(span)[names.KIND] == "start"][1:]
    assert sorted(starts) == starts  # in the order written


def test_counts_add_up_at_every_moment_whatever_happens_meanwhile(
    receiver: Receiver, application: Callable[..., Application]
) -> None:
    receiver.answers = [200, 503, 400, 200, 503, 503, 200, 503]
    one = application(receiver.url, queue_spans=16)
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(sum(one.pipeline.counts()))

    def flush() -> None:
        while not done.is_set():
            one.pipeline.flush(0.5)

    watchers = [threading.Thread(target=look), threading.Thread(target=flush)]
    for watcher in watchers:
        watcher.start()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: one.run(5), range(6)))
    done.set()
    for watcher in watchers:
        watcher.join()
    assert sorted(seen) == seen
    receiver.answers = []
    one.pipeline.flush(60)
    exported, dropped, failed, queued, spooled = one.pipeline.counts()
    assert (120, 0, 0) == (exported + dropped + failed, queued, spooled)
    assert exported == len({(span.trace_id, span.span_id) for span in receiver.spans})
    guard.forget()


# --- whole processes ---------------------------------------------------------------------------------------------------


def test_without_a_collector_at_exit_nothing_is_lost_and_the_exit_is_quick(receiver: Receiver, tmp_path: Path) -> None:
    code = "meter(chain_of(('n', nothing))).invoke({})\n"
    for patience in ("3", "0"):
        done = python(
            code,
            GRAPHMETER_ENDPOINT="http://127.0.0.1:9",
            GRAPHMETER_SPOOL_DIR=str(tmp_path),
            GRAPHMETER_EXIT_TIMEOUT_S=patience,
            GRAPHMETER_FLUSH_INTERVAL_S="30",
        )
        assert 0 == done.returncode, done.stderr
    assert ["lock", "lock", "spool", "spool"] == files(tmp_path)
    # With something to send at the end, it is given the time to send the rest, too.
    more = {"GRAPHMETER_FLUSH_INTERVAL_S": "30"}
    done = python(code, GRAPHMETER_ENDPOINT=receiver.url, GRAPHMETER_SPOOL_DIR=str(tmp_path), **more)
    assert 0 == done.returncode, done.stderr
    assert ["node"] * 3 + ["run"] * 3 + ["start"] * 3 == receiver.kinds()
    assert [] == files(tmp_path)


def test_a_collector_that_hangs_at_sigterm_or_exit_costs_no_spans(receiver: Receiver, tmp_path: Path) -> None:
    import socket

    ending = {"exit": "", "sigterm": "import signal; signal.raise_signal(signal.SIGTERM)\n"}
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        for how, last in ending.items():
            done = python(
                f"meter(chain_of(('n', nothing))).invoke({{}})\n{last}",
                GRAPHMETER_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
                GRAPHMETER_SPOOL_DIR=str(tmp_path),
                GRAPHMETER_EXIT_TIMEOUT_S="1.5",
                GRAPHMETER_FLUSH_ON_SIGTERM="1",
            )
            assert (0 if how == "exit" else -signal.SIGTERM) == done.returncode, done.stderr
    heir = Spool(tmp_path, "spans", MB)
    heir.adopt()
    # Besides, the report of the one whose exit was orderly.
    assert [3, 3] == sorted(spans for _, spans in drained(heir) if spans)


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GRAPHMETER_", "OTEL_"))}
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE.format(tests=str(TESTS)) + code],
        env={**env, "GRAPHMETER_TOPOLOGY": "0", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


WRITING = """
from pathlib import Path
from graphmeter.spool import Spool
spool = Spool(Path({directory!r}), "spans", 1_000_000_000)
number = 0
while True:
    spool.write(number.to_bytes(4, "big") + bytes(200_000), 1)
    number += 1
    if number == 3:
        print("writing", flush=True)
"""


def test_a_process_killed_while_it_writes_loses_at_most_the_record_it_was_writing(tmp_path: Path) -> None:
    for _ in range(3):
        process = start(WRITING.format(directory=str(tmp_path)))
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02)
        process.kill()
        process.wait()
        process.stdout.close()
        heir = Spool(tmp_path, "spans", 1000 * MB)
        heir.adopt()
        numbers = [int.from_bytes(body[:4], "big") for body, _ in drained(heir)]
        assert list(range(len(numbers))) == numbers
        assert len(numbers) >= 3
        heir.close()
        assert [] == files(tmp_path)
    guard.forget()


def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    process = start(
        f"""
import os, time
from pathlib import Path
import graphmeter.spool
spool = graphmeter.spool.Spool(Path({str(tmp_path)!r}), "spans", 1_000_000)
spool.write(b"parent", 1)
child = os.fork()
if child == 0:
    own = graphmeter.spool.Spool(Path({str(tmp_path)!r}), "spans", 1_000_000)
    own.adopt()
    print("stolen" if own.waiting else "left alone", os.getpid(), flush=True)
    time.sleep(30)
os.waitpid(child, 0)
"""
    )
    assert process.stdout is not None
    answer, _, child = process.stdout.readline().strip().rpartition(" ")
    try:
        assert "left alone" == answer
        process.kill()
        process.wait()
        heir = Spool(tmp_path, "spans", MB)
        heir.adopt()
        assert [(b"parent", 1)] == drained(heir)
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.stdout.close()


def test_two_processes_that_start_together_share_the_inheritance_and_nothing_is_sent_twice(
    receiver: Receiver, tmp_path: Path
) -> None:
    code = "meter(chain_of(('n', nothing))).invoke({})\n"
    for _ in range(3):
        done = python(code, GRAPHMETER_ENDPOINT="http://127.0.0.1:9", GRAPHMETER_SPOOL_DIR=str(tmp_path))
        assert 0 == done.returncode, done.stderr
    heirs = [
        start(
            code,
            GRAPHMETER_ENDPOINT=receiver.url,
            GRAPHMETER_SPOOL_DIR=str(tmp_path),
            GRAPHMETER_EXIT_TIMEOUT_S="20",
            GRAPHMETER_FLUSH_INTERVAL_S="30",
        )
        for _ in range(2)
    ]
    for heir in heirs:
        assert 0 == heir.wait(60)
        assert heir.stdout is not None
        heir.stdout.close()
    assert 15 == len(receiver.spans) == len({(span.trace_id, span.span_id) for span in receiver.spans})
    assert [] == files(tmp_path)
