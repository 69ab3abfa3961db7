"""Usage in streams: what chunks tell goes in, what the whole call used comes out where LangChain's sum is not it.

LangChain adds the usages of all chunks. That is right where a provider tells each part once (Anthropic: input first, output
last), and wrong where a server tells the whole so far on every chunk (vLLM with `continuous_usage_stats`, some that speak
OpenAI's API): ten chunks make ten times the input. Input that is told again is not used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

from graphmeter.usage.shapes import count

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata


class Told:
    """Usages that the chunks of one stream have told so far."""

    __slots__ = ("_alone", "_parts", "_whole")

    def __init__(self, usage: Mapping[str, Any]) -> None:
        self._parts = [usage]
        self._alone = True
        self._whole = True
        """Every chunk so far told the whole call again: only the last one is kept."""

    def add(self, usage: Mapping[str, Any]) -> None:
        """Take the usage of a further chunk."""
        self._alone = False
        if self._whole:
            before, inputs = self._parts[-1], count(usage, "input_tokens")
            self._whole = 0 < inputs == count(before, "input_tokens") and count(before, "output_tokens") <= count(
                usage, "output_tokens"
            )
            if self._whole:
                self._parts.clear()
        self._parts.append(usage)

    @property
    def whole(self) -> Mapping[str, Any] | None:
        """Usage of the whole call, where the chunks repeat it; None where LangChain's sum is right."""
        return None if self._alone or not self._whole else self._parts[-1]

    @property
    def so_far(self) -> Mapping[str, Any]:
        """Usage of a call that ends here: nobody else adds up the parts of a stream that was cancelled."""
        from langchain_core.messages.ai import add_usage  # as it does for streams that end

        return reduce(add_usage, cast("list[UsageMetadata]", self._parts))
