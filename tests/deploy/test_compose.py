"""docker-compose.yml: valid, pinned, hardened, on loopback, without a secret, and everything it mounts is there."""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploy.loading import load_env

Services = dict[str, dict[str, Any]]

VARIABLE = re.compile(r"\$\{(\w+)(:-|:\?)([^}]*)\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY")


def _secrets(root: Path) -> tuple[str, ...]:
    names: tuple[str, ...] = load_env(root).NAMES
    return names


def _mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(source, target, mode) of every volume."""
    mounts = []
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        mounts.append((source, target, mode[0] if mode else "rw"))
    return mounts


def test_it_fits_the_compose_specification(compose: dict[str, Any]) -> None:
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text(encoding="utf-8"))
    errors = jsonschema.Draft202012Validator(schema).iter_errors(compose)
    assert [f"{'/'.join(map(str, error.path))}: {error.message}" for error in errors] == []


def test_a_planted_fault_is_found_by_the_specification(compose: dict[str, Any]) -> None:
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text(encoding="utf-8"))
    broken = {**compose, "services": {"collector": {"image": "graphmeter", "port": ["4318"]}}}
    assert not jsonschema.Draft202012Validator(schema).is_valid(broken)


def test_the_stack_has_these_services(services: Services) -> None:
    expected = {"postgres", "collector", "grants", "jaeger", "prometheus", "alertmanager", "grafana", "demo"}
    assert expected == set(services)
    assert services["demo"]["profiles"] == ["demo"]


def test_every_image_has_a_version(services: Services) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", service["image"]), f"{name}: {service['image']}"


def test_our_own_image_carries_the_projects_version(services: Services, root: Path) -> None:
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "([^"]+)"', project, re.MULTILINE)
    assert version is not None
    assert {f"graphmeter:{version[1]}"} == {service["image"] for service in services.values() if "build" in service}


def test_ports_are_published_on_loopback_only_and_can_be_moved(services: Services) -> None:
    published = {port for service in services.values() for port in service.get("ports", [])}
    assert len(published) == 6
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{GRAPHMETER_\w+_PORT:-\d+\}:\d+", port), port


def test_a_local_jaeger_keeps_its_otlp_ports(services: Services) -> None:
    assert services["jaeger"]["ports"] == ["127.0.0.1:${GRAPHMETER_JAEGER_PORT:-16686}:16686"]


def test_no_container_can_more_than_it_must(services: Services) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert not any("docker.sock" in source for source, _, _ in _mounts(service)), name


def test_the_file_holds_no_secret(services: Services, root: Path) -> None:
    made = set(_secrets(root))
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) or "://" in str(value):
                found = VARIABLE.findall(str(value))
                assert found, f"{name}: {variable} is written out"
                assert all(operator == ":?" and used in made for used, operator, _ in found), f"{name}: {variable}"


def test_every_variable_has_a_default_or_is_a_password_of_env_py(root: Path) -> None:
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    demanded = {name for name, operator, _ in VARIABLE.findall(text) if operator == ":?"}
    assert set(_secrets(root)) == demanded
    assert text.count("${") == len(VARIABLE.findall(text))


def test_every_mounted_file_is_there_and_read_only(services: Services, root: Path) -> None:
    for name, service in services.items():
        for source, target, mode in _mounts(service):
            if source.startswith("."):
                assert (root / source).exists(), f"{name}: {source}"
                assert mode == "ro", f"{name}: {target}"


def test_every_named_volume_is_declared_and_used(compose: dict[str, Any], services: Services) -> None:
    used = {source for service in services.values() for source, _, _ in _mounts(service) if not source.startswith(".")}
    assert set(compose["volumes"]) == used


def test_postgres_18_keeps_its_data_in_the_folder_that_the_image_made_a_volume(services: Services) -> None:
    assert ("postgres-data", "/var/lib/postgresql", "rw") in _mounts(services["postgres"])


@pytest.mark.parametrize("name", ["postgres", "jaeger", "prometheus", "alertmanager", "grafana"])
def test_services_without_a_check_in_their_image_have_one_here(services: Services, name: str) -> None:
    check = services[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["retries"] > 0


def test_services_wait_for_what_they_need(services: Services) -> None:
    waits = {
        name: {needed: how["condition"] for needed, how in service["depends_on"].items()}
        for name, service in services.items()
        if "depends_on" in service
    }
    healthy, done = "service_healthy", "service_completed_successfully"
    assert {
        "collector": {"postgres": healthy},
        "grants": {"collector": healthy},
        "prometheus": {"collector": healthy, "alertmanager": healthy},
        "grafana": {"prometheus": healthy, "jaeger": healthy, "grants": done},
        "demo": {"collector": healthy},
    } == waits


def test_prometheus_keeps_more_than_a_30_day_window_and_the_exemplars(services: Services) -> None:
    command = services["prometheus"]["command"]
    retention = next(flag for flag in command if flag.startswith("--storage.tsdb.retention.time="))
    days = re.fullmatch(r".*=(\d+)d", retention)
    assert days is not None
    assert int(days[1]) >= 32
    assert "--enable-feature=exemplar-storage" in command
