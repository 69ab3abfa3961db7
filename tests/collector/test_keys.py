"""API keys as text: how they look, what is kept of them, and how people write their own."""

from __future__ import annotations

import pytest

from graphmeter_collector import keys
from graphmeter_collector.keys import BadKeys, configured, id_in, make

BOTH = frozenset({keys.INGEST, keys.READ})
SECRET = "0123456789abcdef"


def test_a_made_key_is_recognisable_and_only_its_hash_is_kept() -> None:
    token, key = make(BOTH, now_ns=7, name="page")
    assert (True, key.id, token[-4:]) == (token.startswith("gm_"), id_in(token), key.last4)
    assert (True, False) == (key.fits(token), key.fits(token[:-1] + ("a" if token[-1] != "a" else "b")))
    assert token.rpartition("_")[2] not in repr(key)


def test_no_two_keys_share_secret_salt_or_hash() -> None:
    made = [make(BOTH, now_ns=7) for _ in range(50)]
    for part in ([new.token for new in made], [new.key.salt for new in made], [new.key.digest for new in made]):
        assert 50 == len(set(part))


@pytest.mark.parametrize("text", ["", "gm_", "gm_abcdefgh_", "gm_abcdefgh_" + "a" * 33, "gm_ABCDEFGH_" + "a" * 32])
def test_other_texts_hold_no_id(text: str) -> None:
    assert "" == id_in(text)


def test_people_write_scope_team_and_secret() -> None:
    text = f"ingest:{SECRET}1, ingest:cx:{SECRET}2,read:{SECRET}3\n# of the page\nread+ingest:{SECRET}==  # mine\n\n"
    assert [
        ("KEYS#1", "ingest", "", True),
        ("KEYS#2", "ingest", "cx", True),
        ("KEYS#3", "read", "", True),
        ("KEYS#4", "ingest+read", "", True),
    ] == [
        (key.id, keys.scopes_text(key.scopes), key.team, key.fits(SECRET + end))
        for key, end in zip(configured(text, "KEYS"), ("1", "2", "3", "=="), strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"ingest:{SECRET},{SECRET}", "KEYS#2 says no scope: write ingest:SECRET"),
        (
            f"{SECRET}:ingest",
            "KEYS#1 has an unknown scope: use ingest, read, admin, or several with + between: ingest+read",
        ),
        (f"owner:{SECRET}", "KEYS#1 has an unknown scope"),
        ("read:short", "KEYS#1 has a secret of 5 characters, fewer than 16"),
        ("read:", "KEYS#1 says no scope"),
        (f"read:with space {SECRET}", "KEYS#1 has a secret that no HTTP header can carry"),
        (f"ingest+read:cx:{SECRET}", "KEYS#1 is bound to a team and may read"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_number_and_never_repeated(text: str, said: str) -> None:
    with pytest.raises(BadKeys) as problem:
        configured(text, "KEYS")
    assert (True, False) == (str(problem.value).startswith(said), SECRET in str(problem.value))


def test_a_key_is_active_until_it_expires_or_is_revoked() -> None:
    key = make(BOTH, now_ns=7, expires_ns=100).key
    assert ["active", "expired"] == [key.state(99), key.state(100)]
