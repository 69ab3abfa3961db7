"""API keys in both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphmeter_collector.errors import StoreUnavailable
from graphmeter_collector.keys import INGEST, READ, make
from graphmeter_collector.store.engine import parse, sqlite_path
from graphmeter_collector.store.keys import KeyTable


async def test_a_key_comes_back_as_it_was_stored_and_revoking_it_happens_once(database_url: str) -> None:
    token, key = make(frozenset({INGEST}), now_ns=5, team="cx", name="shop", expires_ns=2**62)
    other = make(frozenset({INGEST, READ}), now_ns=4).key
    table = KeyTable(database_url)
    assert not await table.exist()
    await table.add(key)
    await table.add(other)
    assert (True, [other, key]) == (await table.exist(), await table.all())
    assert (await table.all())[1].fits(token)

    first, again, nobody = [await table.revoke(each, now) for each, now in ((key.id, 9), (key.id, 10), ("x", 9))]
    assert (9, 9, None) == (first and first.revoked_ns, again and again.revoked_ns, nobody)
    await table.used({key.id: 60, other.id: 50, "gone": 1})
    await table.used({key.id: 59})
    assert [(0, 50), (9, 60)] == [(each.revoked_ns, each.used_ns) for each in await table.all()]
    await table.close()


async def test_a_database_without_tables_has_no_keys(empty_postgres_url: str, tmp_path: Path) -> None:
    for url in (empty_postgres_url, f"sqlite:///{tmp_path}/none.db"):
        table = KeyTable(url)
        assert not await table.exist()
        with pytest.raises(StoreUnavailable, match=r"cannot use the keys in|there is no database"):
            await table.all()
        await table.close()
    assert not sqlite_path(parse(url)).exists()
