"""Several prompts in one request: plain text models are asked for all at once, and answer with one usage for all.

LangChain makes a run of each prompt, gives the first the usage of the whole request and the others an empty one
(`LLMResult.flatten`). Divided by prompt it would be a guess; so the first call carries the sum, the others nothing, and each
says how many prompts the request had. Where the first has no usage either, it is missing, once.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from graphmeter import names
from graphmeter.models import Facts


class Request:
    """What the calls of one request share."""

    __slots__ = ("__weakref__", "answered", "params")

    def __init__(self, params: object) -> None:
        self.params = params
        """LangChain passes one and the same object to every call of a request: kept, so that its id stays its own."""
        self.answered = False
        """Whether the first call has ended, with whatever usage there was."""


_OPEN: WeakValueDictionary[int, Request] = WeakValueDictionary()
"""Requests by the id of their parameters; their runs keep them alive."""


def request_of(params: object) -> Request:
    """The request that was made with `params`."""
    found = _OPEN.get(id(params))
    if found is None:
        found = _OPEN.setdefault(id(params), Request(params))
    return found


def settle(facts: Facts, request: Request, response: Any) -> None:
    """Correct the usage among `facts` of one call of `request`, which has been answered by `response`."""
    first, request.answered = not request.answered, True
    if first or names.USAGE_MISSING not in facts:
        return
    if (response.llm_output or {}).get("token_usage") == {}:
        del facts[names.USAGE_MISSING]
        facts[names.USAGE_INPUT] = facts[names.USAGE_OUTPUT] = 0
