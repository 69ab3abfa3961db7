"""Time zones by name: where days begin."""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator

from graphmeter_config.values import wrong


@cache
def zone(name: str) -> tzinfo:
    """The zone of that name."""
    # UTC needs no time zone database, which slim images lack.
    return UTC if name == "UTC" else ZoneInfo(name)


def _known(value: str) -> str:
    try:
        zone(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong(
            "an unknown time zone", "write a name such as UTC or Europe/Berlin; systems without a list need `tzdata`"
        ) from None
    return value


Timezone = Annotated[str, AfterValidator(_known)]
"""Name of a time zone."""
