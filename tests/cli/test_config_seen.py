"""`graphmeter config check --seen`: an SLO or a budget that selects nothing that was ever measured."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cli.running import failure, json_of, run
from graphmeter_collector.store import open_store
from graphmeter_collector.store.migrate import migrate
from support.records import T0_NS, whole_run

SLOS = """\
version: 1
slos:
  - {name: all, objective: 99%}
  - {name: typo, objective: 99%, select: {graph: suport}}
  - name: parts
    of: nodes
    objective: 99%
    select:
      graph: support
      node: [plan, "ans*", serch]
  - {name: tool, of: tools, objective: 99%, select: {tool: search}}
  - {name: model, of: models, objective: 99%, select: {provider: azure}}
  - {name: said, indicator: quality, objective: 99%, select: {kind: escalated}}
budgets:
  - {name: helpdesk, limit_usd: 5, match: {graph: helpdesk}}
  - {name: known, limit_usd: 5, match: {graph: supp*, "tag:plan": free, team: ""}}
  - {name: searches, limit_usd: 5, match: {model: [search, gpt*]}}
"""


LIMITS = """
thresholds:
  error_rate: {select: {graph: supprt}}
  rate_limited: {overrides: [{select: {provider: bedrock}, above: 9%}, {select: {provider: openai}, above: 9%}]}
anomalies:
  traffic_drop: {select: {team: unattributed}}
  latency_p95: {select: {graph: "desk*"}}
provider_limits:
  - {name: a, provider: anthropic, select: {environment: "*"}, tokens_per_minute: 5}
  - {name: b, provider: openai, requests_per_minute: 5}
"""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with one run of a moment ago; the configuration is in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graphmeter.yaml").write_text(SLOS)

    async def fill(url: str) -> None:
        store = await open_store(url)
        await store.write(whole_run(1, at_s=(time.time_ns() - T0_NS) / 1e9 - 60))
        await store.close()

    url = f"sqlite:///{tmp_path / 'graphmeter.db'}"
    migrate(url)
    asyncio.run(fill(url))
    return url


def test_what_slos_and_budgets_select_has_to_have_been_measured(database: str) -> None:
    result = run("config", "check", "--seen", "--database-url", database)
    assert (1, "") == (result.exit_code, result.stdout)
    assert [
        "graphmeter.yaml:4: slos[1].select.graph is 'suport': no such graph was measured (did you mean 'support'?)",
        "graphmeter.yaml:10: slos[2].select.node[2] is 'serch': no such node was measured (seen were answer, plan)",
        "graphmeter.yaml:12: slos[4].select.provider is 'azure': no such provider was measured (seen were openai)",
        "graphmeter.yaml:15: budgets[0].match.graph is 'helpdesk': no such graph was measured (seen were support)",
    ] == result.stderr.splitlines()


def test_so_has_what_thresholds_anomalies_and_limits_of_providers_select(database: str) -> None:
    Path("graphmeter.yaml").write_text(LIMITS)
    result = run("config", "check", "--seen", "--database-url", database)
    assert (1, "") == (result.exit_code, result.stdout)
    assert [
        "graphmeter.yaml:3: thresholds.error_rate.select.graph is 'supprt': no such graph was measured "
        "(did you mean 'support'?)",
        "graphmeter.yaml:4: thresholds.rate_limited.overrides[0].select.provider is 'bedrock': no such provider was "
        "measured (seen were openai)",
        "graphmeter.yaml:7: anomalies.latency_p95.select.graph is 'desk*': no such graph was measured (seen were support)",
        "graphmeter.yaml:9: provider_limits[0].provider is 'anthropic': no such provider was measured (seen were openai)",
    ] == result.stderr.splitlines()


def test_what_was_never_measured_may_be_tomorrow_unless_somebody_asks(database: str) -> None:
    assert 0 == run("config", "check", "--database-url", database).exit_code


def test_a_file_that_selects_what_was_measured_is_good(database: str) -> None:
    good = (
        SLOS.replace("suport", "s*").replace(", serch", "").replace("azure", "openai").replace("helpdesk}", "support}")
    )
    Path("graphmeter.yaml").write_text(good)
    assert json_of("config", "check", "--seen", "--database-url", database)["ok"]


def test_without_a_database_there_is_nothing_to_compare_with(database: str) -> None:
    assert "nowhere.db" in failure(1, "config", "check", "--seen", "--database-url", "sqlite:///nowhere.db")
