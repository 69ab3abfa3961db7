"""An answer is read later than it is given, in the exporter's thread: what the application writes in it is not billed."""

from __future__ import annotations

import pytest

from callbacks.fakes import FakeChat, State, chain_of
from graphmeter import names
from graphmeter.testing import InMemorySpans

pytestmark = pytest.mark.usefixtures("no_faults")


def test_usage_that_the_application_adds_up_in_the_answer_itself_is_that_of_the_call(spans: InMemorySpans) -> None:
    model = FakeChat(
        usage={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"cache_read": 4}}
    )

    def node(state: State) -> State:
        answer = model.invoke("hi")
        assert answer.usage_metadata is not None
        answer.usage_metadata["input_tokens"] += 1_000
        answer.usage_metadata["input_token_details"]["cache_read"] += 1_000
        answer.response_metadata["model_name"] = "mine"
        return {"x": 1}

    chain_of(("n", node)).invoke({}, config={"callbacks": [spans.handler()]})
    said = spans.one("model").attributes
    expected = 10, 4, "gpt-4o-mini-2026-01-01"
    assert expected == (said[names.USAGE_INPUT], said[names.USAGE_CACHE_READ], said[names.RESPONSE_MODEL])
