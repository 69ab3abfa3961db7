"""Destinations behind https: whom a collector trusts, how it proves itself, and that every signal goes the same way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest

from collector.forward.backend import Backend, Received, eventually
from collector.served import Served, configured, served
from collector.store.dump import opened
from graphmeter import names
from graphmeter_collector import jobs as jobs_module
from graphmeter_collector.errors import StartupError
from graphmeter_collector.forward import forwarder as forwarder_module
from graphmeter_collector.forward import sampling as sampling_module
from graphmeter_collector.outbound import outbound
from graphmeter_config import Destination
from support import otlp
from support.certificates import Authority
from support.records import trace


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def backend(tls: SSLContext) -> AsyncIterator[Backend]:
    made = Backend(tls=tls)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def forwarding(to: Backend, *settings: str) -> str:
    lines = [f"- name: {to.name}", f"  endpoint: {to.endpoint}", *(f"  {setting}" for setting in settings)]
    return "\n".join(f"    {line}" for line in lines)


def destinations(*each: str) -> str:
    return "forward:\n  destinations:\n" + "\n".join(each) + "\n"


async def test_traces_logs_and_metrics_go_to_a_backend_of_an_own_authority_that_asks_who_we_are(
    sqlite_url: str, tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("collector")
    tls = f"tls: {{ca_file: {authority.ca_file}, cert_file: {certificate}, key_file: {key}}}"
    async with backend(authority.server(asks=True)) as to:
        text = destinations(forwarding(to, tls, "headers: {X-Tenant: shop}", "compression: none"))
        async with served(sqlite_url, config=configured(tmp_path, text)) as it:
            await it.send(*otlp.run(1, start_ns=time.time_ns()))
            for signal in ("logs", "metrics"):
                answer = await it.http.post(f"/v1/{signal}", content=b"", headers={"content-type": otlp.PROTOBUF})
                assert 200 == answer.status_code

            def ours() -> list[Received]:
                return [each for each in to.received if each.path != "/v1/traces" or len(each.spans) == 3]

            await eventually(lambda: len({request.path for request in ours()}) == 3)
    assert {"/v1/logs", "/v1/metrics", "/v1/traces"} == {request.path for request in ours()}
    assert {"shop"} == {request.headers["x-tenant"] for request in ours()}


async def test_whoever_is_not_vouched_for_gets_nothing_and_nothing_is_lost(
    sqlite_url: str, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "FIRST_BACKOFF_S", 0.02)
    stranger = Authority(tmp_path, "stranger")
    async with backend(authority.server()) as to:
        text = destinations(forwarding(to, f"tls: {{ca_file: {stranger.ca_file}}}"))
        async with served(sqlite_url, config=configured(tmp_path, text)) as it:
            await it.send(*otlp.run(1, start_ns=time.time_ns()))
            failed = it.collector.metrics.value
            await eventually(lambda: failed(names.COLLECTOR_FORWARD_FAILED, to.name) > 0)
            answer = await it.http.post("/v1/logs", content=b"", headers={"content-type": otlp.PROTOBUF})
            assert (503, []) == (answer.status_code, to.received)
        text = destinations(forwarding(to, "tls: {insecure_skip_verify: true}"))
        async with served(sqlite_url, config=configured(tmp_path, text)) as it:
            await eventually(lambda: len(to.accepted) == 3)


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"ca_file": "nowhere.pem"}, r"'jaeger': ca_file \(nowhere.pem\) cannot be used: No such file or directory"),
        ({"ca_file": "text.pem"}, r"ca_file \(text.pem\) cannot be used"),
        ({"cert_file": "ca.pem", "key_file": "other.key"}, r"\(ca.pem and other.key\) cannot be used: KEY_VALUES_MISM"),
    ],
)
def test_certificates_that_cannot_be_used_keep_the_collector_from_starting(
    tls: dict[str, str], expected: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pem").write_text("no certificate")
    authority.issue("other")
    configured = Destination.model_validate({"name": "jaeger", "endpoint": "https://j:4318", "tls": tls})
    with pytest.raises(StartupError, match=expected):
        outbound(configured)


SAMPLING = "sampling:\n  quiet: 1s\n  rules:\n  - {name: all, keep: 0%}\n"


async def test_two_collectors_with_half_of_each_trace_keep_or_drop_it_whole(
    postgres_url: str, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling_module, "ROUND_EVERY_S", 0.05)
    monkeypatch.setattr(forwarder_module, "POLL_S", 0.1)
    monkeypatch.setattr(jobs_module, "SAMPLING_ASK_EVERY_S", 0.05)
    async with AsyncExitStack() as stack:
        # Nobody judges as long as somebody else seems to.
        judging = await stack.enter_async_context(AsyncExitStack())
        another = await stack.enter_async_context(opened(postgres_url))
        assert await judging.enter_async_context(another.job_lock("sampling"))
        sampled = await stack.enter_async_context(backend(authority.server()))
        whole = await stack.enter_async_context(backend(authority.server("second")))
        sampled.name, whole.name = "sampled", "whole"
        tls = f"tls: {{ca_file: {authority.ca_file}}}"
        text = destinations(forwarding(sampled, tls), forwarding(whole, tls, "sampled: false")) + SAMPLING
        settings: dict[str, Any] = {"config": configured(tmp_path, text)}
        one: Served = await stack.enter_async_context(served(postgres_url, **settings))
        two: Served = await stack.enter_async_context(served(postgres_url, **settings))
        began = time.time_ns()
        for of in range(1, 9):
            spans = otlp.run(of, start_ns=began, status=names.OK if of % 2 else names.ERROR)
            await asyncio.gather(one.send(*spans[:2]), two.send(*spans[2:]))
        # Who wants all has all before the others are judged.
        await eventually(lambda: len(whole.accepted) == 24)
        assert [] == sampled.accepted
        await judging.aclose()
        await eventually(lambda: len(sampled.accepted) == 12)
        # A late span of each trace, to the collector that did not have its node.
        await two.send(*(otlp.own(7, names.TOOL, of=of, start_ns=began) for of in range(1, 9)))
        await eventually(lambda: len(sampled.accepted) == 16 and len(whole.accepted) == 32)
        await asyncio.sleep(0.2)
        kept = {
            span.trace_id
            for request in sampled.received
            for resource in request.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        assert ({trace(of) for of in (2, 4, 6, 8)}, 16) == (kept, len(sampled.accepted))

        async def all_is_done() -> bool:
            await one.collector.jobs.refresh_backlog()
            shown = await one.scrape()
            return {0.0} == {value for name, value in shown.items() if "outbox_age_seconds" in name}

        await eventually(all_is_done)
