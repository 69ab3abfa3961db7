"""Configuration of Prometheus, Alertmanager, Grafana and Jaeger: read by the real programs where there are any, and
consistent with one another: the same ports, names, uids and paths on both sides."""

from __future__ import annotations

import configparser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphmeter import names
from graphmeter_config import Config, load
from graphmeter_dashboards import datasources
from support import promtool

Services = dict[str, dict[str, Any]]


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _mounted(services: Services, name: str) -> dict[str, str]:
    """Path inside the container → path in the project."""
    return {target: source for source, target, *_ in (volume.split(":") for volume in services[name]["volumes"])}


@pytest.fixture
def prometheus(root: Path) -> Any:
    return _yaml(root / "deploy" / "prometheus" / "prometheus.yml")


@pytest.fixture
def sources(root: Path) -> dict[str, Any]:
    """Provisioned data sources by uid."""
    provisioned = _yaml(root / "dashboards" / "provisioning" / "datasources" / "graphmeter.yaml")
    return {source["uid"]: source for source in provisioned["datasources"]}


@pytest.fixture
def jaeger(root: Path) -> Any:
    return _yaml(root / "deploy" / "jaeger" / "config.yaml")


def test_prometheus_accepts_its_configuration_and_the_generated_rules(
    services: Services, root: Path, tmp_path: Path
) -> None:
    for target, source in _mounted(services, "prometheus").items():
        if source.startswith("."):
            place = tmp_path / Path(target).relative_to("/etc/prometheus")
            copy = shutil.copytree if (root / source).is_dir() else shutil.copy
            copy(root / source, place)
    checked = promtool.run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert checked.ok, checked.output
    assert re.search(r"[1-9]\d* rules found", checked.output), "no rule file was loaded"


def test_alertmanager_accepts_its_configuration(services: Services, root: Path) -> None:
    source = _mounted(services, "alertmanager")["/etc/alertmanager/alertmanager.yml"]
    checked = promtool.check_alertmanager(root / source)
    assert checked.ok, checked.output


def test_prometheus_scrapes_the_collector_and_tells_alertmanager(prometheus: Any, services: Services) -> None:
    (job,) = prometheus["scrape_configs"]
    assert job["job_name"] == "graphmeter"
    assert job["static_configs"] == [{"targets": ["collector:4318"]}]
    assert prometheus["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
    assert {"collector", "alertmanager"} <= set(services)


def test_grafana_knows_how_often_prometheus_scrapes(prometheus: Any, sources: dict[str, Any]) -> None:
    assert sources["graphmeter-prometheus"]["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_every_data_source_of_the_dashboards_is_provisioned(sources: dict[str, Any]) -> None:
    assert {source["type"] for source in sources.values()} == set(datasources.VARIABLES.values())
    assert [source["name"] for source in sources.values() if source.get("isDefault")] == ["Prometheus"]


def test_data_sources_point_at_services_of_the_stack(sources: dict[str, Any], services: Services) -> None:
    hosts = {re.sub(r"^https?://|:\d+$", "", source["url"]) for source in sources.values()}
    assert hosts == {"prometheus", "jaeger", "postgres"}
    assert hosts <= set(services)


def test_data_sources_link_to_one_another(sources: dict[str, Any]) -> None:
    (exemplar,) = sources["graphmeter-prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplar["datasourceUid"] in sources
    assert exemplar["name"] == "trace_id"
    metrics = sources["graphmeter-jaeger"]["jsonData"]["tracesToMetrics"]
    assert metrics["datasourceUid"] in sources
    assert [tag["key"] for tag in metrics["tags"]] == [names.GRAPH, names.NODE_PATH]
    assert f"{names.NODE_DURATION.name}_bucket{{$$__tags}}" in metrics["queries"][0]["query"]
    assert sources["graphmeter-jaeger"]["jsonData"]["spanBar"]["tag"] == names.NODE_PATH


def test_grafana_reads_postgres_as_the_role_that_may_only_read(sources: dict[str, Any], root: Path) -> None:
    source = sources["graphmeter-postgres"]
    assert source["secureJsonData"] == {"password": "$GRAFANA_DB_PASSWORD"}
    made = (root / "deploy" / "postgres" / "init" / "10-roles.sql").read_text(encoding="utf-8")
    assert f"CREATE ROLE {source['user']} " in made
    assert f"CONNECT ON DATABASE {source['jsonData']['database']} TO {source['user']}" in made


def test_grafana_finds_dashboards_and_home_where_they_are_mounted(services: Services, root: Path) -> None:
    mounted = _mounted(services, "grafana")
    (provider,) = _yaml(root / "dashboards" / "provisioning" / "dashboards" / "graphmeter.yaml")["providers"]
    folder = provider["options"]["path"]
    assert mounted[folder] == "./dashboards/generated"
    assert mounted["/etc/grafana/provisioning"] == "./dashboards/provisioning"
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(root / "deploy" / "grafana" / "grafana.ini", encoding="utf-8")
    home = Path(settings["dashboards"]["default_home_dashboard_path"])
    assert str(home.parent) == folder
    assert json.loads((root / "dashboards" / "generated" / home.name).read_text(encoding="utf-8"))["uid"] == home.stem


def test_jaegers_pipelines_name_parts_that_are_configured(jaeger: Any) -> None:
    for pipeline in jaeger["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(jaeger[kind])
    assert set(jaeger["service"]["extensions"]) == set(jaeger["extensions"])
    stores = set(jaeger["extensions"]["jaeger_storage"]["backends"])
    assert {jaeger["extensions"]["jaeger_query"]["storage"]["traces"]} == stores
    assert {jaeger["exporters"]["jaeger_storage_exporter"]["trace_storage"]} == stores


def test_jaeger_listens_to_other_containers_and_answers_its_health_check(jaeger: Any, services: Services) -> None:
    protocols = jaeger["receivers"]["otlp"]["protocols"]
    assert {name: protocol["endpoint"] for name, protocol in protocols.items()} == {
        "grpc": "0.0.0.0:4317",
        "http": "0.0.0.0:4318",
    }
    health = jaeger["extensions"]["healthcheckv2"]["http"]["endpoint"].rsplit(":", 1)[1]
    assert f"http://127.0.0.1:{health}/status" in services["jaeger"]["healthcheck"]["test"]


def test_the_collectors_configuration_loads_and_forwards_to_jaeger(services: Services, root: Path) -> None:
    mounted = _mounted(services, "collector")
    config = load(root / mounted[services["collector"]["environment"]["GRAPHMETER_CONFIG"]])
    assert [(to.name, to.endpoint) for to in config.forward.destinations] == [("jaeger", "http://jaeger:4318")]


def test_the_collector_judges_by_what_rules_and_dashboards_were_generated_from(root: Path) -> None:
    config, default = load(root / "deploy" / "graphmeter.yaml"), Config.default()
    assert (config.slos, config.budgets) == (default.slos, default.budgets)


def test_the_rules_that_compose_loads_are_those_of_the_collectors_configuration(root: Path) -> None:
    assert Config.default().rules_hash == load(root / "deploy" / "graphmeter.yaml").rules_hash
