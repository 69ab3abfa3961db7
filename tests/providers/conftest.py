"""What tests of integrations get: a provider on this machine, spans kept in memory, and no fault left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from providers.calls import Exported
from providers.server import Provider, provider
from support.measured import alone, no_faults, spans

__all__ = ["clean", "exported", "no_faults", "server", "spans"]

_KEYS = ("OPENAI_", "AZURE_", "ANTHROPIC_", "AWS_", "GOOGLE_")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, proxy or tracing of the developer's shell."""
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    with alone(monkeypatch, *_KEYS):
        yield


@pytest.fixture
def exported() -> Iterator[Exported]:
    """As `spans`, also as the collector reads them."""
    with Exported() as kept:
        yield kept


@pytest.fixture
def server() -> Iterator[Provider]:
    with provider() as here:
        yield here
