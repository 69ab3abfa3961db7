"""Prices of graphmeter.yaml in a whole collector: in force, reloaded, refused when faulty, shown to clients."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from collector.served import Served, served
from graphmeter import names
from graphmeter_collector.app import running
from graphmeter_collector.settings import Settings
from graphmeter_config import ConfigError
from support import otlp
from support.records import SECOND

TOKENS = {names.USAGE_INPUT: 1_000, names.USAGE_OUTPUT: 100}


def written(folder: Path, usd: str) -> str:
    path = folder / "graphmeter.yaml"
    overrides = (
        f"[{{name: mine, model: gpt-4o, rates: {{input: {usd}, output: 8}}}}, {{name: t, tool: web, per_call: 0.01}}]"
    )
    path.write_text(f"prices:\n  overrides: {overrides}\n")
    return str(path)


def spent(rows: list[dict[str, Any]]) -> int:
    return sum(int(row["cost_nano"]) for row in rows)


async def spend(it: Served, number: int) -> int:
    """Cost of one more model call."""
    said: dict[str, Any] = {names.PROVIDER: "openai", names.REQUEST_MODEL: "gpt-4o", **TOKENS}
    before = spent(await it.get("/api/cost"))
    assert b"" == (await it.send(otlp.own(number, names.MODEL, said, start_ns=time.time_ns() - 60 * SECOND))).content
    return spent(await it.get("/api/cost")) - before


async def test_a_reload_prices_later_calls_and_a_faulty_file_keeps_the_prices(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url, config=written(tmp_path, "2"), data_dir=tmp_path) as it:
        assert 2_800_000 == await spend(it, 1)
        written(tmp_path, "3")
        it.collector.reload()
        assert 3_800_000 == await spend(it, 2)
        written(tmp_path, "-3")
        with capture_logs() as logged:
            it.collector.reload()
        assert "prices.overrides[0].rates.input is -3: negative" in logged[0]["error"]
        assert 3_800_000 == await spend(it, 3)


async def test_a_collector_does_not_start_on_faulty_prices(sqlite_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=sqlite_url, config=written(tmp_path, "-2"), data_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"graphmeter.yaml:2: prices.overrides\[0\].rates.input is -2: negative"):
        async with running(settings):
            raise AssertionError("it started")


async def test_the_price_book_is_shown_and_asking_again_is_cheap(sqlite_url: str, tmp_path: Path) -> None:
    async with served(sqlite_url, config=written(tmp_path, "2"), data_dir=tmp_path) as it:
        await spend(it, 1)
        first = await it.http.get("/api/prices", params={"model": ["anthropic/claude-sonnet-4-5", "nobody/nothing"]})
        listed = first.json()
        models = {(each["provider"], each["model"]): each["price"] for each in listed["models"]}
        assert "mine" == models["openai", "gpt-4o"]["name"]
        assert "anthropic/claude-sonnet-4-5" == models["anthropic", "claude-sonnet-4-5"]["name"]
        assert models["nobody", "nothing"] is None
        assert ["mine", "t"] == [override["name"] for override in listed["overrides"]]

        plain = await it.http.get("/api/prices")
        again = await it.http.get("/api/prices", headers={"If-None-Match": plain.headers["etag"]})
        assert (304, b"") == (again.status_code, again.content)
        assert plain.headers["etag"] == again.headers["etag"]

        written(tmp_path, "3")
        it.collector.reload()
        changed = await it.http.get("/api/prices", headers={"If-None-Match": plain.headers["etag"]})
        assert 200 == changed.status_code


async def test_the_price_book_is_behind_the_read_key(sqlite_url: str, tmp_path: Path) -> None:
    secret = "r" * 32
    async with served(sqlite_url, data_dir=tmp_path, api_keys=f"read:{secret}") as it:
        assert 401 == (await it.http.get("/api/prices")).status_code
        answer = await it.http.get("/api/prices", headers={"authorization": f"Bearer {secret}"})
        assert 200 == answer.status_code
