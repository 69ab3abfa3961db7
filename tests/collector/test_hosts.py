"""DNS rebinding: which Host headers a collector on loopback answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.served import served
from graphmeter_collector.hosts import is_private


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:4318",
        "localhost.:4318",
        "127.0.0.1",
        "127.0.0.1:4318",
        "[::1]",
        "[::1]:4318",
        "10.0.0.7:4318",
        "collector:4318",
        "app.localhost:4318",
        "host.docker.internal:4318",
    ],
)
def test_names_that_nobody_can_own_are_private(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4318",
        "EVIL.example.:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example:4318",
        "evil.example:localhost",
        "[evil.example]:4318",
        "evil.example@localhost",
        "notlocalhost.com",
    ],
)
def test_names_that_somebody_may_own_are_not(host: str) -> None:
    assert not is_private(host)


@pytest.mark.parametrize("path", ["/", "/api/runs", "/metrics", "/docs", "/nothing"])
async def test_a_page_from_elsewhere_reads_nothing(tmp_path: Path, path: str) -> None:
    url = f"sqlite:///{tmp_path / 'graphmeter.db'}"
    async with served(url) as it:
        answer = await it.http.get(path, headers={"host": "evil.example:4318"})
        assert (421, True) == (answer.status_code, "use localhost" in answer.json()["detail"])
        sent = await it.http.post("/v1/traces", content=b"", headers={"host": "evil.example"})
        assert 421 == sent.status_code
        assert 421 != (await it.http.get(path, headers={"host": "localhost:4318"})).status_code


async def test_behind_a_proxy_the_collector_answers_to_any_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'graphmeter.db'}"
    async with served(url, allow_anonymous=True) as it:
        answer = await it.http.get("/health", headers={"host": "graphmeter.example.com"})
        assert 200 == answer.status_code
