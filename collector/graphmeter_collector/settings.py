"""How this collector process runs: flags and GRAPHMETER_* variables in, one validated `Settings` out, read once in `app`.

What is measured (SLOs, budgets, prices) is configuration and lives in graphmeter.yaml; this is about the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

MIB = 1024 * 1024
DEFAULT_CONFIG = Path("graphmeter.yaml")


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/graphmeter`, else `~/.local/share/graphmeter`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "graphmeter"


def default_database_url(data_dir: Path) -> str:
    """The SQLAlchemy URL of the embedded database in `data_dir`."""
    path = data_dir.expanduser().resolve() / "graphmeter.db"
    # Not an f-string: a path may hold characters that mean something in a URL.
    return URL.create("sqlite", database=str(path)).render_as_string()


class Settings(BaseSettings):
    """Every field is also a variable: `GRAPHMETER_PORT`. Arguments win over variables."""

    model_config = SettingsConfigDict(env_prefix="GRAPHMETER_", extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", min_length=1)
    """Address to listen on."""
    port: int = Field(4318, ge=0, le=65535)
    """Port for OTLP/HTTP, API and metrics; 0 takes any free one."""
    database_url: str = ""
    """`postgresql://…` or `sqlite:///…`; empty means a SQLite file in `data_dir`."""
    data_dir: Path = Field(default_factory=default_data_dir)
    config: str = ""
    """Path of graphmeter.yaml; empty means `./graphmeter.yaml` if there is one, else the defaults."""
    forward: Annotated[list[str], NoDecode] = []
    """OTLP/HTTP base URLs that get every span, besides the destinations of graphmeter.yaml. With commas in the variable."""
    allow_anonymous: bool = False
    """Listen beyond this machine although nobody has to prove who they are."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal, else `json`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    max_body_bytes: int = Field(64 * MIB, gt=0)
    """Largest request body as sent."""
    max_decompressed_bytes: int = Field(128 * MIB, gt=0)
    """Largest request body after decompression."""
    max_spans_per_request: int = Field(50_000, gt=0)
    max_queue_spans: int = Field(50_000, gt=0)
    """Spans that may wait for a commit before senders are told to come back later."""
    max_queue_bytes: int = Field(128 * MIB, gt=0)
    """Bytes of spans that may wait for a commit."""
    drain_timeout_s: float = Field(20.0, gt=0)
    """How long a stopping collector finishes what it has accepted."""

    @field_validator("forward", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return list(value) if isinstance(value, tuple) else value

    @field_validator("forward")
    @classmethod
    def _are_urls(cls, value: list[str]) -> list[str]:
        for url in value:
            if not _is_http_url(url):
                shown = repr(url) if "@" not in url else "one of them"  # what comes before an @ may be a password
                raise ValueError(f"{shown} is not an OTLP/HTTP URL: write http://host:4318")
        return [url.rstrip("/") for url in value]

    @field_validator("database_url")
    @classmethod
    def _is_known_database(cls, value: str) -> str:
        # The value may hold a password: no message repeats it.
        if not value:
            return value
        try:
            backend = make_url(value).get_backend_name()
        except (ArgumentError, ValueError):
            backend = ""
        if backend not in ("sqlite", "postgres", "postgresql"):
            raise ValueError(
                "not a database URL this collector knows: write postgresql://user@host/name or sqlite:///path"
            )
        return value

    def database(self) -> str:
        """SQLAlchemy URL of the database to use."""
        return self.database_url or default_database_url(self.data_dir)

    def shown_database(self) -> str:
        """The database for logs: no password, wherever it stands in the URL."""
        url = make_url(self.database())
        return url.set(query={}).render_as_string(hide_password=True)

    def config_path(self) -> Path | None:
        """The configuration file to load; None means the defaults. A file that was named need not exist: loading says so."""
        if self.config:
            return Path(self.config).expanduser()
        return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
