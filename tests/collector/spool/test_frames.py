"""What is on the disk: frames come back as they were, and damage costs only what it hit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphmeter_collector.records import ANONYMOUS, Caller
from graphmeter_collector.spool.frames import Damage, Spooled, decode, encode

MARK = bytes.fromhex("00ff5ce1d0a7b2c4")
THREE = [Spooled(b"body %d" % number, ANONYMOUS, 1_000 + number, number) for number in (1, 2, 3)]


def written(requests: list[Spooled]) -> tuple[bytes, list[int]]:
    """A segment, and where its frames begin."""
    frames = [encode(request, MARK) for request in requests]
    return b"".join(frames), [sum(map(len, frames[:number])) for number in range(len(frames))]


@given(
    st.lists(
        st.builds(
            Spooled,
            st.binary(max_size=200),
            st.builds(Caller, st.text(max_size=20), st.text(max_size=20)),
            st.integers(0, 2**63),
            st.integers(0, 2**31),
        ),
        max_size=8,
    )
)
def test_requests_come_back_as_they_were(requests: list[Spooled]) -> None:
    assert requests == list(decode(written(requests)[0], MARK))


def test_a_frame_torn_anywhere_costs_only_itself() -> None:
    data, starts = written(THREE)
    for end in range(starts[2] + 1, len(data)):
        assert [*THREE[:2], Damage(starts[2], end - starts[2], torn=True)] == list(decode(data[:end], MARK))


def test_a_byte_flipped_anywhere_in_the_middle_costs_only_its_frame() -> None:
    data, starts = written(THREE)
    for at in range(starts[1], starts[2]):
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        found = list(decode(bytes(damaged), MARK))
        assert [THREE[0], Damage(starts[1], starts[2] - starts[1], torn=False), THREE[2]] == found, at


def test_bytes_of_a_sender_are_never_taken_for_a_frame() -> None:
    inner = encode(Spooled(b"forged", Caller("key", "another team"), 1, 1), bytes(8))
    data, starts = written([Spooled(inner, ANONYMOUS, 1, 1), THREE[1]])
    damaged = bytearray(data)
    damaged[starts[0] + 10] ^= 1
    assert [Damage(0, starts[1], torn=False), THREE[1]] == list(decode(bytes(damaged), MARK))


@pytest.mark.parametrize("data", [b"", b"garbage", MARK, MARK * 3], ids=["empty", "garbage", "mark", "marks"])
def test_what_holds_no_frame_gives_none(data: bytes) -> None:
    assert ([Damage(0, len(data), torn=True)] if data else []) == list(decode(data, MARK))
