"""Questions to an embedded database in, their answers out; one that nobody waits for any more is finished all the same.

aiosqlite answers from a thread. When whoever waits for the answer is cancelled, SQLAlchemy closes the connection, which
waits for that thread; cancelled again, as at the end of a process, the thread answers into a loop that is closed, or the
loop waits for ever for a thread that has ended. So nobody's cancellation reaches the driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_Answer = TypeVar("_Answer")

REST_WITHIN_S: Final = 10.0
"""What the end waits for questions that are under way; longer than a busy file is waited for."""


class Calm:
    """The questions under way to one engine."""

    def __init__(self, *, needed: bool) -> None:
        """With `needed` false, cancelling a question cancels it: a server is told, and need not finish the work."""
        self._needed = needed
        self._running: set[asyncio.Task[Any]] = set()

    async def ask(self, question: Coroutine[Any, Any, _Answer]) -> _Answer:
        """The answer."""
        if not self._needed:
            return await question
        task = asyncio.create_task(question)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def rest(self) -> None:
        """Return when nothing is under way."""
        if self._running:
            await asyncio.wait(self._running, timeout=REST_WITHIN_S)
