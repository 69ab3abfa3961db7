"""Waiting for what other tasks and processes do, never for longer than a few seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def until_true(condition: Callable[[], Awaitable[object]], within_s: float = 5.0) -> None:
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
