"""Who a run belongs to: LangChain metadata in, the attributes that every span of the run carries out.

The contract for `config={"metadata": {...}}` (and what `meter()` writes there), read once, at the start of a root graph:

| key                      | becomes                                          |
|--------------------------|--------------------------------------------------|
| `graphmeter_graph`       | name of the graph                                |
| `graphmeter_team`        | `graphmeter.team`                                |
| `graphmeter_tenant`      | `graphmeter.tenant`                              |
| `graphmeter_environment` | `graphmeter.environment`                         |
| `graphmeter_release`     | `graphmeter.release`                             |
| `graphmeter_user`, `user_id`       | `graphmeter.user`                      |
| `graphmeter_session`, `session_id` | `graphmeter.session`                   |
| `graphmeter_tag_<name>`  | `graphmeter.tag.<name>`                          |
| `thread_id` (LangGraph copies it from `configurable`) | `gen_ai.conversation.id` |

Metadata wins over the handler's own arguments, those over GRAPHMETER_* variables, those over the OpenTelemetry resource.
LangGraph writes metadata into checkpoints and LangSmith shows it, so nothing secret belongs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from uuid import UUID

from graphmeter import guard, names
from graphmeter.records import Value
from graphmeter.settings import Settings

GRAPH: Final = "graphmeter_graph"
TAG: Final = "graphmeter_tag_"

_KEYS: Final = (
    # Later entries win.
    ("user_id", names.USER),
    ("session_id", names.SESSION),
    ("thread_id", names.CONVERSATION_ID),
    ("graphmeter_team", names.TEAM),
    ("graphmeter_tenant", names.TENANT),
    ("graphmeter_environment", names.ENVIRONMENT),
    ("graphmeter_release", names.RELEASE),
    ("graphmeter_user", names.USER),
    ("graphmeter_session", names.SESSION),
)
_TELLING: Final = frozenset(key for key, _ in _KEYS)
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Attribution:
    """What is known of every run before it starts; empty means not said."""

    graph: str = ""
    team: str = ""
    tenant: str = ""
    environment: str = ""
    release: str = ""
    tags: Mapping[str, Any] = field(default_factory=dict)

    def over(self, settings: Settings) -> Attribution:
        """This, with what it does not say taken from `settings`."""
        return Attribution(
            self.graph,
            self.team or settings.team,
            self.tenant or settings.tenant,
            self.environment or settings.environment,
            self.release or settings.release,
            self.tags,
        )

    def metadata(self) -> dict[str, str]:
        """The same as LangChain metadata, so that it travels with a graph's config."""
        said = {
            GRAPH: self.graph,
            "graphmeter_team": self.team,
            "graphmeter_tenant": self.tenant,
            "graphmeter_environment": self.environment,
            "graphmeter_release": self.release,
        }
        said.update({TAG + name: text(value, TAG + name) for name, value in self.tags.items()})
        return {key: value for key, value in said.items() if value}

    def shared(self) -> dict[str, Value]:
        """The same as span attributes."""
        said: dict[str, Value] = {
            names.TEAM: self.team,
            names.TENANT: self.tenant,
            names.ENVIRONMENT: self.environment,
            names.RELEASE: self.release,
        }
        said.update({names.TAG_PREFIX + name: text(value, name) for name, value in self.tags.items()})
        return {key: value for key, value in said.items() if value}


def read(metadata: Mapping[str, Any], defaults: Mapping[str, Value]) -> dict[str, Value]:
    """Attributes of a run from its metadata, over `defaults` (attributes already)."""
    shared = dict(defaults)
    for key, attribute in () if _TELLING.isdisjoint(metadata) else _KEYS:
        value = metadata.get(key)
        if value is not None and (said := text(value, key)):
            shared[attribute] = said
    for key, value in metadata.items():
        # LangChain lets keys pass that are no texts.
        if isinstance(key, str) and key.startswith(TAG) and (said := text(value, key)):
            shared[names.TAG_PREFIX + key[len(TAG) :]] = said
    return shared


def text(value: object, key: str) -> str:
    """`value` as a short text; what has no plain text form (a list, an object) is refused and counted."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value[:_LONGEST].strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | UUID):
        return str(value)
    guard.noticed(f"unusable metadata {key}", f"{type(value).__name__} is neither text nor number")
    return ""
