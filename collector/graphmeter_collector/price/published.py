"""The catalogue as its authors publish it now: fetched by hand, checked, kept in the data folder, used while it is newer.

What was fetched while a release of genai-prices was installed is newer than that release; a release that was installed since
then is taken to be newer than what was fetched. Nothing is fetched unless somebody asks for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from genai_prices.types import Provider, _providers_from_raw
from genai_prices.update_prices import DEFAULT_UPDATE_URL

from graphmeter_collector.errors import CollectorError
from graphmeter_collector.price.catalogue import Catalogue

URL: Final = DEFAULT_UPDATE_URL
"""Where the library itself gets its updates."""
MOST_BYTES: Final = 64 * 1024 * 1024
_LEAST_SHARE: Final = 0.5
"""Of the models that are known already: less is a broken file, not a smaller market."""


class BadPublication(CollectorError):
    """What was fetched, or kept, is no catalogue."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A catalogue that was fetched."""

    fetched: str
    """Day, UTC."""
    sha256: str
    library: str
    """Release of genai-prices that was installed then."""
    providers: Sequence[Provider]

    @property
    def name(self) -> str:
        """Catalogue and version: `genai-prices 2026-11-21 1a2b3c4d`."""
        return f"genai-prices {self.fetched} {self.sha256[:8]}"

    @property
    def models(self) -> int:
        return sum(len(provider.models) for provider in self.providers)

    def catalogue(self) -> Catalogue:
        return Catalogue(self.providers, self.name)


def file_in(data_dir: Path) -> Path:
    """Where the fetched catalogue is kept."""
    return data_dir.expanduser() / "prices" / "genai-prices.json"


def read(body: bytes, *, fetched: str = "", library: str = "") -> Publication:
    """A catalogue from its JSON, every price of it usable.

    Raises:
        BadPublication: it is not one.
    """
    try:
        raw = json.loads(body)
        if not isinstance(raw, list):
            raise ValueError("not a list of providers")
        providers = _providers_from_raw(raw)
        catalogue = Catalogue(providers, "checked")
        catalogue.check()
    except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, RecursionError) as fault:
        raise BadPublication(f"not a price catalogue: {str(fault)[:200]}") from fault
    found = Publication(
        fetched or datetime.now(UTC).date().isoformat(),
        hashlib.sha256(body).hexdigest(),
        library or installed(),
        providers,
    )
    known = Catalogue().models
    if found.models < known * _LEAST_SHARE:
        raise BadPublication(f"not a whole price catalogue: {found.models} models, and {known} are known")
    return found


def keep(body: bytes, data_dir: Path) -> Publication:
    """Check a fetched catalogue and put it where collectors look for it; what was there stays if it is bad.

    Raises:
        BadPublication: it is no catalogue.
        OSError: it cannot be written.
    """
    found = read(body)
    path = file_in(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"fetched": found.fetched, "library": found.library, "catalogue": body.decode()}
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(about, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return found


def kept(data_dir: Path) -> Publication | None:
    """The fetched catalogue, if there is one and no later release of the library was installed since.

    Raises:
        BadPublication: there is one, and it cannot be used.
    """
    path = file_in(data_dir)
    try:
        about: Any = json.loads(path.read_text(encoding="utf-8"))
        fetched, library, body = str(about["fetched"]), str(about["library"]), str(about["catalogue"]).encode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise BadPublication(f"{path} cannot be read: {fault}") from fault
    return read(body, fetched=fetched, library=library) if library == installed() else None


def installed() -> str:
    """The release of genai-prices that is installed."""
    return version("genai-prices")
