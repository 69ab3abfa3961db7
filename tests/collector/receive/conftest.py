"""Routes and destinations that end with their test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from collector.receive.fronts import Destination, Front, front


@pytest.fixture
async def routes() -> AsyncIterator[Front]:
    """Routes without a destination for logs and metrics."""
    made, passing = front([])
    async with made.http:
        yield made
    await passing.close()


@pytest.fixture
def destinations() -> Iterator[list[Destination]]:
    """Two real destinations."""
    made = [Destination(), Destination()]
    yield made
    for each in made:
        each.close()
