"""Waiting for what other tasks and processes do: no longer than it takes, and it may take long on a busy machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

WITHIN_S: Final = 60.0
"""Only what fails takes so long."""


async def until(condition: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def until_true(condition: Callable[[], Awaitable[object]], within_s: float = WITHIN_S) -> None:
    """The same for a condition that has to be asked for."""
    async with asyncio.timeout(within_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
