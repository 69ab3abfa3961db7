"""What most tests of a store begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from collector.store.dump import opened
from graphmeter_collector.store import Store


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """An open store on each kind of database."""
    async with opened(database_url) as made:
        yield made
