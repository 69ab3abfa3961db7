"""What a call says of provider, model and server in, what price books know it by out.

Exact names only. The catalogue also knows looser patterns (anything that contains `openai`), but a gateway or a local
server whose name happens to match would be billed at somebody else's price; unpriced is seen, wrongly priced is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from graphmeter_config.matching import Names, provider_names
from graphmeter_config.providers import canonical, plain

_GATEWAYS: Final = frozenset({"", "litellm", "litellm-proxy"})
"""Say nothing of who answers; the model's prefix may: `anthropic/claude-sonnet-4-5`."""
_AWS_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+")
_CROSS_REGION: Final = re.compile(r"(us-gov|us|eu|apac|ap|jp|au|ca|sa|global)\.[a-z0-9-]+\.")
"""How ids of Bedrock's inference profiles begin. https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html"""
_VERTEX: Final = re.compile(r"(?:([a-z]+-[a-z]+\d+)-)?aiplatform\.googleapis\.com")
_AZURE: Final = re.compile(r"([a-z]+\d?)\.api\.cognitive\.microsoft\.com")
_TIER_PREFIX: Final = "on_demand_"
"""How Vertex AI's traffic types begin: `ON_DEMAND_PRIORITY`."""


class Call(NamedTuple):
    """What decides the price of a model call, its time and its size aside."""

    provider: str
    """As instrumentations write it."""
    model: str
    """The one that answered."""
    request_model: str = ""
    service_tier: str = ""
    server: str = ""
    """Host that was asked."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names to look for in a catalogue, the best first: providers answer with dated names that it may not have yet."""
        return tuple(dict.fromkeys(bare(name) for name in (self.model, self.request_model) if name))

    @property
    def tier(self) -> str:
        """The tier of service in one spelling; empty for the usual one."""
        return self.service_tier.lower().removeprefix(_TIER_PREFIX)

    @property
    def names(self) -> Names:
        """What patterns are held against."""
        models = [name.lower() for name in self.models]
        provider = self.provider
        if is_gateway(provider):
            prefixed = [name.split("/", 1) for name in models if "/" in name]
            provider = prefixed[0][0] if prefixed else provider
            models += [rest for _, rest in prefixed]
        asked = self.request_model or self.model
        return Names(
            deployment=(bare(asked).lower(),) if asked else (),
            model=tuple(models),
            region=_regions(self.server.lower(), (self.model, self.request_model)),
            provider=provider_names(provider),
        )


def bare(model: str) -> str:
    """The model without the ARN around Bedrock's ids; what AWS names by an id of the account's own keeps its kind."""
    if not model.startswith("arn:"):
        return model
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
    resource = model.split(":", 5)[-1]
    kind, _, name = resource.partition("/")
    return name if name and kind in ("foundation-model", "inference-profile") else resource


def _regions(server: str, models: Iterable[str]) -> tuple[str, ...]:
    found = [label for label in server.split(".") if _AWS_REGION.fullmatch(label)] if "amazonaws" in server else []
    if match := _VERTEX.fullmatch(server):
        found.append(match[1] or "global")
    elif match := _AZURE.fullmatch(server):
        found.append(match[1])
    for model in models:
        if model.startswith("arn:"):
            found.append(model.split(":")[3])
        if match := _CROSS_REGION.match(bare(model).lower()):
            found.append(match[1])
    return tuple(dict.fromkeys(region for region in found if region))


def by_plain_name(ids: Iterable[str]) -> dict[str, str]:
    """Catalogue ids by their plain names: what `resolve` looks up in."""
    return {plain(name): name for name in ids}


def resolve(provider: str, model: str, known: Mapping[str, str]) -> tuple[str, str]:
    """Catalogue id of the provider, empty when it cannot be told, and the model without what only names a provider."""
    if is_gateway(provider) and "/" in model:
        prefix, rest = model.split("/", 1)
        if found := known.get(canonical(prefix), ""):
            return found, rest
    found = known.get(canonical(provider), "")
    if found == "google":
        # `models/gemini-2.5-pro`, `projects/p/locations/l/publishers/google/models/gemini-2.5-pro`
        model = model.rpartition("models/")[2]
    return found, model


def is_gateway(provider: str) -> bool:
    """Whether the provider's name leaves open who answers."""
    return plain(provider) in _GATEWAYS
