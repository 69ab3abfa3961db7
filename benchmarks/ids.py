"""Ids of runs as LangChain makes them."""

from __future__ import annotations

import random
import uuid


def run_id(rng: random.Random, start_ns: int) -> uuid.UUID:
    """RFC 9562, version 7: it begins with the time (ms), so what is new stands together in the indexes of a database.

    Other senders' trace ids are random throughout.
    """
    number = start_ns // 1_000_000 << 80 | rng.getrandbits(80)
    return uuid.UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)
