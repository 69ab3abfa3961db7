"""Metadata as attribution: what is read, what is refused, what wins."""

from __future__ import annotations

from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from callbacks.fakes import chain_of, nothing
from graphmeter import guard, names
from graphmeter.attribution import Attribution, read, text
from graphmeter.settings import Settings
from graphmeter.testing import InMemorySpans


class Plan(Enum):
    FREE = "free"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cx", "cx"),
        (" cx ", "cx"),
        (7, "7"),
        (True, "true"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Plan.FREE, "free"),
        ("x" * 1000, "x" * 256),
        (["a"], ""),
        (object(), ""),
    ],
)
def test_values_become_short_texts_or_nothing(value: Any, expected: str) -> None:
    assert expected == text(value, "key")


def test_what_is_no_text_is_counted() -> None:
    guard.forget()
    assert {} == read({"graphmeter_team": ["a", "b"]}, {})
    assert {"unusable metadata graphmeter_team": 1} == guard.faults()


def test_our_own_keys_win_over_general_ones() -> None:
    said = read({"graphmeter_user": "a", "user_id": "b", "session_id": "c"}, {names.TEAM: "cx"})
    assert {names.USER: "a", names.SESSION: "c", names.TEAM: "cx"} == said


def test_arguments_win_over_the_environment() -> None:
    settings = Settings(team="env", release="1")
    said = Attribution(team="cx").over(settings)
    assert {names.TEAM: "cx", names.RELEASE: "1"} == said.shared()


def test_odd_metadata_does_not_touch_the_graph(spans: InMemorySpans) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ZeroDivisionError

    metadata = {"graphmeter_team": Odd(), "user_id": "\ud800 lone \0", "graphmeter_tag_x": {"a": 1}}
    config: Any = {"callbacks": [spans.handler()], "metadata": metadata}
    assert {"x": 1} == chain_of(("n", nothing)).invoke({}, config=config)
    assert "run demo ok\n  node n ok" == spans.tree()
    assert "? lone" == spans.one("run").attributes[names.USER].strip()
    guard.forget()
