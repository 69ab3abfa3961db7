"""What the user sets for the client: GRAPHMETER_* environment variables in, one frozen `Settings` out.

A value that cannot be read is reported once and replaced by its default: a typo in an environment variable must not keep
an application from starting.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_log = logging.getLogger("graphmeter")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the client. The environment variable is `GRAPHMETER_` and the field's name in capitals."""

    endpoint: str = ""
    """Base URL of the collector, `http://collector:4318`; empty: chosen by `graphmeter.destination`."""
    api_key: str = field(default="", repr=False)
    """Sent as `Authorization: Bearer …`; empty: nothing is sent."""
    team: str = ""
    tenant: str = ""
    environment: str = ""
    release: str = ""
    debug: bool = False
    """Print every finished run as a tree to stderr."""
    error_messages: bool = False
    """Send the text of exceptions. Off by default: it often quotes prompts, completions or arguments."""
    queue_spans: int = 8192
    """Most spans held while the collector is slow or away; what comes on top is dropped and counted."""
    flush_interval_s: float = 0.5
    """Longest time a span waits for others to share a request with, in seconds."""
    timeout_s: float = 10.0
    """Patience with one request, in seconds."""
    exit_timeout_s: float = 3.0
    """Longest delay of the interpreter's exit for the sake of unsent spans, in seconds; 0 means do not wait."""
    flush_on_sigterm: bool = False
    """Send unsent spans on SIGTERM, within `exit_timeout_s`, before what SIGTERM does otherwise."""
    topology: bool = True
    """Send nodes and edges of every graph once: names only, no code."""
    mirror: bool = False
    """Hand our spans to the application's own span processors, too."""
    capture: frozenset[str] = frozenset()
    """What happened in the graph: `content`, `media`, `state`, `state_diff`; see `graphmeter.capture`."""
    capture_bytes: int = 8192
    """Most bytes of one captured attribute; a span has at most three."""
    redact: str = ""
    """Built-in patterns that mask what is captured; empty: all. See `graphmeter.redact`."""
    heartbeat_s: float = 30.0
    """Seconds between signs of life of a run that takes longer; 0 means none."""
    report_s: float = 60.0
    """Seconds between reports of what became of the spans, while there are any; 0 means no reports."""
    spool_dir: str = ""
    """Directory where spans wait while the collector is away; empty: they wait in memory."""
    spool_mb: float = 100.0
    """Most megabytes in it, of all processes together."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from `environ` (default: the process environment)."""
        env = os.environ if environ is None else environ
        default = cls()
        return cls(
            endpoint=env.get("GRAPHMETER_ENDPOINT", "").strip(),
            api_key=env.get("GRAPHMETER_API_KEY", "").strip(),
            team=env.get("GRAPHMETER_TEAM", "").strip(),
            tenant=env.get("GRAPHMETER_TENANT", "").strip(),
            environment=env.get("GRAPHMETER_ENVIRONMENT", "").strip(),
            release=env.get("GRAPHMETER_RELEASE", "").strip(),
            debug=_switch(env, "GRAPHMETER_DEBUG", default=default.debug),
            error_messages=_switch(env, "GRAPHMETER_ERROR_MESSAGES", default=default.error_messages),
            capture=_capture(env.get("GRAPHMETER_CAPTURE", "")),
            capture_bytes=min(int(_number(env, "GRAPHMETER_CAPTURE_BYTES", default.capture_bytes, least=256)), 262_144),
            redact=env.get("GRAPHMETER_REDACT", "").strip(),
            queue_spans=int(_number(env, "GRAPHMETER_QUEUE_SPANS", default.queue_spans, least=16)),
            flush_interval_s=_number(env, "GRAPHMETER_FLUSH_INTERVAL_S", default.flush_interval_s, least=0.01),
            timeout_s=_number(env, "GRAPHMETER_TIMEOUT_S", default.timeout_s, least=0.1),
            exit_timeout_s=_number(env, "GRAPHMETER_EXIT_TIMEOUT_S", default.exit_timeout_s, least=0.0),
            flush_on_sigterm=_switch(env, "GRAPHMETER_FLUSH_ON_SIGTERM", default=default.flush_on_sigterm),
            topology=_switch(env, "GRAPHMETER_TOPOLOGY", default=default.topology),
            mirror=_switch(env, "GRAPHMETER_MIRROR", default=default.mirror),
            heartbeat_s=_number(env, "GRAPHMETER_HEARTBEAT_S", default.heartbeat_s, least=0.0),
            report_s=_number(env, "GRAPHMETER_REPORT_S", default.report_s, least=0.0),
            spool_dir=env.get("GRAPHMETER_SPOOL_DIR", "").strip(),
            spool_mb=_number(env, "GRAPHMETER_SPOOL_MB", default.spool_mb, least=1.0),
        )


def _capture(text: str) -> frozenset[str]:
    from graphmeter.capture import KINDS, kinds_of

    known = []
    for name in text.lower().split(","):
        if (name := name.strip()) in KINDS:
            known.append(name)
        elif name not in _FALSE:
            _log.warning("GRAPHMETER_CAPTURE: %r is none of %s; it is left out", name, ", ".join(KINDS))
    return kinds_of(known)


def _switch(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, "").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return default if text == "" else False
    _log.warning("%s=%r is neither on nor off; using %s", name, text, default)
    return default


def _number(env: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if least <= value < float("inf"):
        return value
    _log.warning("%s=%r is not a number of at least %s; using %s", name, text, least, default)
    return default
