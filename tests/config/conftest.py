"""Property tests run without a deadline: a busy machine is no fault."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("graphmeter", deadline=None)
settings.load_profile("graphmeter")
