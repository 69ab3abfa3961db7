"""How this collector process runs: flags and GRAPHMETER_* variables in, one validated `Settings` out, read once in `app`.

What is measured (SLOs, budgets, prices) is configuration and lives in graphmeter.yaml; this is about the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from graphmeter_collector.keys import BadKeys, Key, configured

MIB = 1024 * 1024
DEFAULT_PORT = 4318
DEFAULT_GRPC_PORT = 4317
"""https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-default-port"""
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
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    """Port for OTLP/HTTP, API and metrics; 0 takes any free one."""
    grpc_port: int | None = Field(None, ge=0, le=65535)
    """Port for OTLP/gRPC; 0 takes any free one. Left out: 4317, but only beside the default `port`, so that a second
    collector on a machine needs one flag, not two."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """A further port, on every address and without keys, for `/metrics`, `/health` and `/ready` alone; 0 takes any."""
    no_grpc: bool = False
    """Do not listen for OTLP/gRPC."""
    database_url: str = ""
    """`postgresql://…` or `sqlite:///…`; empty means a SQLite file in `data_dir`."""
    data_dir: Path = Field(default_factory=default_data_dir)
    spool_dir: Path | None = None
    """Where requests wait while Postgres is away; None means `spool` in `data_dir`. On a local disk that outlives us."""
    assume_database: bool = False
    """Begin also where the database was never reached from here: what comes waits in the spool. For collectors whose volume
    is as new as they are, such as sidecars, so that an outage of Postgres keeps no application from starting."""
    spool_max_bytes: int = Field(1024 * MIB, ge=0)
    """What may wait there before senders are told to come back later; 0 turns the spool off."""
    config: str = ""
    """Path of graphmeter.yaml; empty means `./graphmeter.yaml` if there is one, else the defaults."""
    forward: Annotated[list[str], NoDecode] = []
    """OTLP/HTTP base URLs that get every span, besides the destinations of graphmeter.yaml. With commas in the variable."""
    api_keys: SecretStr = SecretStr("")
    """Keys with commas between: `ingest:SECRET`, `read:SECRET`, `ingest+read:SECRET`, `ingest:TEAM:SECRET`."""
    api_keys_file: Path | None = None
    """A file of such keys, one a line; read again while the collector runs."""
    allow_anonymous: bool = False
    """Take requests without an API key from everywhere, whether there are keys or not."""
    open_metrics: bool = False
    """`/metrics` needs no key."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal, else `json`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    max_body_bytes: int = Field(64 * MIB, gt=0)
    """Largest request body as sent."""
    max_decompressed_bytes: int = Field(128 * MIB, gt=0)
    """Largest request body after decompression."""
    max_bodies_bytes: int = Field(128 * MIB, gt=0)
    """Bytes of the bodies of all requests that are not answered yet, decompressed."""
    body_timeout_s: float = Field(30.0, gt=0)
    """From the first byte of a body to the last."""
    max_spans_per_request: int = Field(50_000, gt=0)
    max_queue_spans: int = Field(50_000, gt=0)
    """Spans that may wait for a commit before senders are told to come back later."""
    max_queue_bytes: int = Field(128 * MIB, gt=0)
    """Bytes of spans that may wait for a commit."""
    drain_timeout_s: float = Field(20.0, gt=0)
    """How long a stopping collector finishes what it has accepted."""

    @field_validator("port", mode="before")
    @classmethod
    def _is_no_service_link(cls, value: object) -> object:
        """Kubernetes gives every pod beside a Service called `graphmeter` a GRAPHMETER_PORT=tcp://10.0.0.7:4318."""
        return DEFAULT_PORT if isinstance(value, str) and value.startswith("tcp://") else value

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, value: SecretStr) -> SecretStr:
        configured(value.get_secret_value(), "key ")
        return value

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

    def keys(self) -> list[Key]:
        """The API keys of variable and file.

        Raises:
            BadKeys: they cannot be read; the message names the file, never a key.
        """
        keys = configured(self.api_keys.get_secret_value(), "GRAPHMETER_API_KEYS")
        if self.api_keys_file is None:
            return keys
        try:
            text = self.api_keys_file.expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise BadKeys(
                f"{self.api_keys_file}, where GRAPHMETER_API_KEYS_FILE says that API keys are: {why}"
            ) from error
        found = configured(text, str(self.api_keys_file))
        if not found:
            # Not as if none had been asked for: that would open the door.
            raise BadKeys(f"{self.api_keys_file}, where GRAPHMETER_API_KEYS_FILE says that API keys are: holds none")
        return keys + found

    def rpc_port(self) -> int | None:
        """Where OTLP/gRPC is taken; None: nowhere."""
        if self.no_grpc:
            return None
        if self.grpc_port is None and self.port == DEFAULT_PORT:
            return DEFAULT_GRPC_PORT
        return self.grpc_port

    def database(self) -> str:
        """SQLAlchemy URL of the database to use."""
        return self.database_url or default_database_url(self.data_dir)

    def spool(self) -> Path | None:
        """Folder of the spool; None if there is none. An embedded database is never away: its disk is the spool's, too."""
        if not self.spool_max_bytes or make_url(self.database()).get_backend_name() == "sqlite":
            return None
        return (self.spool_dir or self.data_dir / "spool").expanduser()

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
