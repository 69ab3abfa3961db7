"""Usage as the other providers report it. Mistral, Groq and DeepSeek copy OpenAI's shape, which see."""

from __future__ import annotations

from typing import Final

from graphmeter import names
from graphmeter.usage.shapes import Shape

OLLAMA: Final = Shape(
    "ollama",
    "https://github.com/ollama/ollama/blob/main/docs/api.md#response-10",
    # Beside everything else of the answer; what it had in its cache, Ollama may not count.
    marks=(frozenset({"prompt_eval_count"}), frozenset({"eval_count"})),
    counts={names.USAGE_INPUT: ("prompt_eval_count",), names.USAGE_OUTPUT: ("eval_count",)},
)

COHERE: Final = Shape(
    "cohere chat",
    "https://docs.cohere.com/reference/chat#response.body.usage",
    # Billed units leave out what Cohere's own prompts add, `tokens` contain it.
    marks=(frozenset({"billed_units"}),),
    counts={
        names.USAGE_INPUT: ("billed_units.input_tokens",),
        names.USAGE_OUTPUT: ("billed_units.output_tokens",),
    },
)
