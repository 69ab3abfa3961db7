"""Snapshots of odd and large values, and how they are cut: valid JSON, within the limit, never half a secret."""

from __future__ import annotations

import enum
import json
from collections import deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from pydantic import BaseModel, Field, SecretStr

from graphmeter.capture import fit
from graphmeter.capture.messages import asked, message
from graphmeter.capture.plain import Walk, plain
from graphmeter.redact import Redactor, Where

WHERE = Where("gen_ai.tool.call.result", "g", "n", "t")


def fitted(value: Any, limit: int = 8192, redactor: Redactor | None = None) -> Any:
    said = fit.as_json(plain(value), redactor or Redactor(), WHERE, limit)
    assert len(said.encode()) <= limit
    return json.loads(said)


class Colour(enum.Enum):
    RED = "red"


class Hidden(BaseModel):
    name: str = "n"
    key: SecretStr = SecretStr("hunter2")
    internal: str = Field("x", exclude=True)


@dataclass
class Account:
    name: str
    pin: str = field(repr=False)


class Lazy(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise AssertionError("evaluated")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("evaluated")

    def __len__(self) -> int:
        raise AssertionError("evaluated")

    def __repr__(self) -> str:
        raise AssertionError("evaluated")


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "é"], 3: ("t",)}, {"a": [1, 2.5, None, True, "é"], "3": ["t"]}),
        (float("nan"), "nan"),
        (Colour.RED, "red"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (deque([1]), [1]),
        (frozenset({"a"}), ["a"]),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (Decimal("1.50"), "1.50"),
        (Path("/a/b"), "/a/b"),
        (SecretStr("hunter2"), "**********"),
        (Hidden(), {"name": "n", "key": "**********", "internal": "[hidden]"}),
        (Account("a", "1234"), {"name": "a", "pin": "[hidden]"}),
        (b"12345", "[bytes: 5 bytes]"),
        ([0.5] * 1536, "[1536 numbers]"),
        (ValueError("no", 1), {"error": "ValueError", "args": ["no", 1]}),
        (int, "[type]"),
        ((x for x in "ab"), "[generator]"),
        ("QUJD" * 1000, "[base64: 4000 characters]"),
        ("data:image/png;base64,QUJD", "[data:image/png;base64: 26 characters]"),
        (HumanMessage("hi"), {"role": "user", "parts": [{"type": "text", "content": "hi"}]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_has_a_plain_form(value: Any, expected: Any) -> None:
    assert expected == fitted(value)


def test_nothing_lazy_is_evaluated() -> None:
    assert {"rows": f"[{__name__}.Lazy]"} == fitted({"rows": Lazy()})


def test_arrays_and_tables_appear_by_their_shape() -> None:
    numpy = pytest.importorskip("numpy")
    assert {"m": "[numpy.ndarray: 3×4]"} == fitted({"m": numpy.zeros((3, 4))})


def test_a_value_inside_itself_ends() -> None:
    loop: dict[str, Any] = {"a": 1}
    loop["self"] = loop
    assert {"a": 1, "self": "[recursion]"} == fitted(loop)
    deep: Any = "end"
    for _ in range(5_000):
        deep = [deep]
    assert "…[cut: list]" in json.dumps(fitted(deep), ensure_ascii=False)


def test_long_lists_and_mappings_say_what_is_missing() -> None:
    assert "…[cut: 800 of 1000 items]" == fitted(["a"] * 1000, 100_000)[-1]
    assert "…[cut: 800 of 1000 keys]" == fitted({str(number): 1 for number in range(1000)}, 100_000)["…"]


def test_a_long_text_says_how_much_is_missing_in_bytes() -> None:
    said = fitted({"text": "row " * 5_120}, 8192)["text"]
    kept = len(said.partition("…")[0])
    assert f"…[cut: {20_480 - kept} of 20480 bytes]" == said[kept:]
    assert 7168 == kept


def test_a_cut_never_falls_into_a_character() -> None:
    for limit in range(300, 308):
        said = fitted({"text": "日本語" * 1000}, limit)["text"]
        assert set(said.partition("…")[0]) <= set("日本語")
        assert said.endswith(" of 9000 bytes]")


def test_half_a_surrogate_pair_and_nul_are_no_trouble() -> None:
    assert {"a": "?", "b": "\0"} == fitted({"a": "\ud83d", "b": "\0"})
    assert "a?b" == fit.text("a\ud83d\0b", Redactor(), WHERE, 100)


def test_many_small_things_are_thinned_out() -> None:
    said = fitted({str(number): ["word"] * 100 for number in range(100)}, 512)
    assert said["…"].startswith("…[cut: ")


def test_whatever_the_limit_the_json_is_valid() -> None:
    value = {
        "rows": [{"name": "ü" * number, "n": number, "l": list("abc")} for number in range(100)],
        "text": "t" * 9000,
    }
    for limit in (256, 300, 511, 1024, 3000, 8192):
        fitted(value, limit)


def test_a_secret_at_the_cut_does_not_lose_its_end_and_so_its_pattern() -> None:
    for before in range(480, 530):
        said = fitted({"text": " " * before + "someone@example.com " + "x" * 20_000}, 512)["text"]
        assert "someone" not in said


def test_texts_in_json_are_masked_and_the_json_stays_whole() -> None:
    value = {
        "to": 'say "hi" to bob@example.com',
        "card": 4111111111111111,
        "order": 12345678901,
        "raw": '{"mail": "bob@example.com", "n": 1}',
        "bob@example.com": 1,
        "password": "swordfish",
        "api_key": 123,
    }
    assert {
        "to": 'say "hi" to [redacted:email]',
        "card": "[redacted:card]",
        "order": 12345678901,
        "raw": '{"mail": "[redacted:email]", "n": 1}',
        "[redacted:email]": 1,
        "password": "[redacted:key]",
        "api_key": "[redacted:key]",
    } == fitted(value)


def test_the_structure_of_messages_is_not_the_users_to_redact() -> None:
    seen = []

    def shout(text: str, where: Where) -> str:
        seen.append(text)
        return text.upper()

    said = json.loads(fit.conversation([message(HumanMessage("hi"), Walk())], 0, Redactor(shout), WHERE, 8192))
    assert [{"role": "user", "parts": [{"type": "text", "content": "HI"}]}] == said
    assert ["hi"] == seen


def conversation(messages: list[Any], limit: int) -> Any:
    said, _, older = asked(messages, "openai", Walk(characters=4 * limit))
    text = fit.conversation(said, older, Redactor(), WHERE, limit)
    assert len(text.encode()) <= limit
    return json.loads(text)


def test_the_oldest_messages_go_first_and_are_counted() -> None:
    said = conversation([HumanMessage(f"{number} " + "x" * 100) for number in range(50)], 1024)
    assert {"role": "graphmeter", "parts": [{"type": "text", "content": "…[cut: 45 older messages]"}]} == said[0]
    assert ["45", "46", "47", "48", "49"] == [one["parts"][0]["content"][:2] for one in said[1:]]


def test_a_last_message_that_is_too_long_is_cut_by_itself() -> None:
    said = conversation([HumanMessage("question"), ToolMessage("row\n" * 10_000, tool_call_id="c1")], 1024)
    assert "…[cut: 1 older message]" == said[0]["parts"][0]["content"]
    part = said[1]["parts"][0]
    assert ("tool_call_response", "c1") == (part["type"], part["id"])
    assert part["response"].endswith(" of 40000 bytes]")


def test_a_very_long_conversation_is_not_walked_to_its_beginning() -> None:
    messages = [HumanMessage("x" * 1000) for _ in range(10_000)]
    said, _, older = asked(messages, "openai", Walk(characters=4 * 8192))
    assert 10_000 == len(said) + older
    assert 33 == len(said)
