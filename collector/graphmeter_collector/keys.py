"""API keys: how one looks, what it may do, and what is kept of it, which is never the key itself.

A key that we make is `gm_<id>_<secret>`: the prefix lets scanners of repositories and logs recognise it, the id finds
its row, the secret is 190 random bits. Kept is a salted BLAKE2b of the whole. A slow hash, as passwords need, would
protect nothing here: nobody guesses 190 bits, however quick a guess is, and every request would pay for it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

INGEST: Final = "ingest"
"""May send, and ask strict budgets for room: `/v1/*`, `/api/budgets/*/reservations`."""
READ: Final = "read"
"""May read: API, page, metrics."""
ADMIN: Final = "admin"
"""May change what collectors go by, such as budgets: whatever else than reading `/api/*` takes."""
SCOPES: Final = (INGEST, READ, ADMIN)

PREFIX: Final = "gm"
LEAST_SECRET: Final = 16
"""Characters of a secret that people choose themselves."""
_ID_CHARACTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # none that looks like another
_ID_LENGTH: Final = 8
_SECRET_CHARACTERS: Final = string.ascii_letters + string.digits
_SECRET_LENGTH: Final = 32
_SALT_BYTES: Final = 16
_PERSON: Final = b"graphmeter key"
_MADE: Final = re.compile(rf"{PREFIX}_([{_ID_CHARACTERS}]{{{_ID_LENGTH}}})_[A-Za-z0-9]{{{_SECRET_LENGTH}}}")
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # https://www.rfc-editor.org/rfc/rfc6750#section-2.1


@dataclass(frozen=True, slots=True)
class Key:
    """What a collector knows of a key. Times are ns since the epoch, 0 for never."""

    id: str
    scopes: frozenset[str]
    salt: bytes
    digest: bytes
    team: str = ""
    """Whose spans come with it, whatever they claim; empty: whatever they claim."""
    name: str = ""
    last4: str = ""
    """The end of the key, to tell keys apart by."""
    created_ns: int = 0
    used_ns: int = 0
    """To the minute."""
    expires_ns: int = 0
    revoked_ns: int = 0

    def fits(self, token: str) -> bool:
        """Whether `token` is this key; takes the same time however much of it is right."""
        return hmac.compare_digest(self.digest, _digest(token, self.salt))

    def state(self, now_ns: int) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_ns:
            return "revoked"
        return "expired" if 0 < self.expires_ns <= now_ns else "active"


class New(NamedTuple):
    """A key just made; `token` exists nowhere else."""

    token: str
    key: Key


class BadKeys(ValueError):
    """Configured keys that cannot be read. The message tells which one by its number and never repeats it."""


def make(scopes: frozenset[str], *, now_ns: int, team: str = "", name: str = "", expires_ns: int = 0) -> New:
    """A new random key.

    Raises:
        BadKeys: a team's key that may read: answers are not limited to a team.
    """
    _check(scopes, team)
    key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    secret = "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(_SECRET_LENGTH))
    token, salt = f"{PREFIX}_{key_id}_{secret}", secrets.token_bytes(_SALT_BYTES)
    key = Key(key_id, scopes, salt, _digest(token, salt), team, name, token[-4:], now_ns, 0, expires_ns)
    return New(token, key)


def id_in(token: str) -> str:
    """The id in a key that looks as ours do; empty for any other text."""
    found = _MADE.fullmatch(token)
    return found[1] if found else ""


def configured(text: str, source: str) -> list[Key]:
    """Keys written by people: `SCOPES:SECRET` or `SCOPES:TEAM:SECRET`, one a line or with commas, `#` begins a comment.

    `source` names where they stand. Scopes are `ingest`, `read`, `admin`, or several with `+` between.

    Raises:
        BadKeys: one of them cannot be read.
    """
    written = [part.strip() for line in text.splitlines() for part in line.partition("#")[0].split(",")]
    return [_configured(part, f"{source}#{number}") for number, part in enumerate(filter(None, written), 1)]


def _configured(text: str, source: str) -> Key:
    scopes_text, _, rest = text.partition(":")
    team, _, secret = rest.rpartition(":")
    try:
        if not rest:
            raise BadKeys("says no scope: write ingest:SECRET, read:SECRET, ingest+read:SECRET or ingest:TEAM:SECRET")
        scopes = scopes_of(scopes_text)
        if not _BEARER.fullmatch(secret):
            raise BadKeys("has a secret that no HTTP header can carry: use letters, digits and -._~+/")
        if len(secret) < LEAST_SECRET:
            raise BadKeys(f"has a secret of {len(secret)} characters, fewer than {LEAST_SECRET}: openssl rand -hex 24")
        _check(scopes, team)
    except BadKeys as problem:
        raise BadKeys(f"{source} {problem}") from None
    salt = secrets.token_bytes(_SALT_BYTES)
    return Key(source, scopes, salt, _digest(secret, salt), team.strip(), last4=secret[-4:])


def scopes_of(text: str) -> frozenset[str]:
    """`ingest+read` → both.

    Raises:
        BadKeys: something else than known scopes.
    """
    scopes = frozenset(part.strip() for part in text.split("+"))
    if not scopes <= set(SCOPES):
        # Not repeated: what stands in the wrong place may be the secret.
        raise BadKeys("has an unknown scope: use ingest, read, admin, or several with + between: ingest+read")
    return scopes


def scopes_text(scopes: frozenset[str]) -> str:
    """How scopes are written."""
    return "+".join(scope for scope in SCOPES if scope in scopes)


def _check(scopes: frozenset[str], team: str) -> None:
    if team and ADMIN in scopes:
        raise BadKeys("is bound to a team and may change things, which are everybody's: bind ingest keys only")
    if team and READ in scopes:
        raise BadKeys("is bound to a team and may read, but answers are not limited to a team: bind ingest keys only")


def _digest(token: str, salt: bytes) -> bytes:
    return blake2b(token.encode("utf-8", "replace"), digest_size=32, salt=salt, person=_PERSON).digest()
