"""Flags and variables in, one validated value out; what is impossible is said without repeating a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from graphmeter_collector.settings import Settings, default_data_dir


def refusal(**settings: Any) -> str:
    """What is said about impossible settings, the value itself left out as the command line does."""
    with pytest.raises(ValidationError) as problem:
        Settings(**settings)
    return "; ".join(error["msg"] for error in problem.value.errors())


def test_without_anything_said_a_collector_listens_on_this_machine_alone() -> None:
    settings = Settings()
    assert ("127.0.0.1", 4318, "", "", [], False, "auto", "info") == (
        settings.host,
        settings.port,
        settings.database_url,
        settings.config,
        settings.forward,
        settings.allow_anonymous,
        settings.log_format,
        settings.log_level,
    )


def test_every_field_is_a_variable_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHMETER_PORT", "5000")
    monkeypatch.setenv("GRAPHMETER_HOST", "::1")
    monkeypatch.setenv("GRAPHMETER_ALLOW_ANONYMOUS", "true")
    monkeypatch.setenv("GRAPHMETER_MAX_BODY_BYTES", "1024")
    monkeypatch.setenv("GRAPHMETER_SOMETHING_ELSE", "ignored")
    settings = Settings(port=6000)
    assert (6000, "::1", True, 1024) == (
        settings.port,
        settings.host,
        settings.allow_anonymous,
        settings.max_body_bytes,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://a:4318", ["http://a:4318"]),
        (" http://a:4318/ , https://b/otlp ,", ["http://a:4318", "https://b/otlp"]),
        ("", []),
    ],
)
def test_several_destinations_stand_in_one_variable(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: list[str]
) -> None:
    monkeypatch.setenv("GRAPHMETER_FORWARD", given)
    assert expected == Settings().forward


def test_the_variable_that_kubernetes_makes_of_a_service_of_our_name_is_no_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRAPHMETER_PORT", "tcp://10.0.0.7:4318")
    assert 4318 == Settings().port
    monkeypatch.setenv("GRAPHMETER_PORT", "tcp")
    assert "valid integer" in refusal()


def test_several_destinations_come_as_flags() -> None:
    assert ["http://a", "http://[::1]:4318"] == Settings(forward=("http://a", "http://[::1]:4318")).forward


@pytest.mark.parametrize("url", ["jaeger:4318", "grpc://jaeger:4317", "http://", "http://:4318", "http://a:many"])
def test_what_is_no_otlp_http_url_is_named(url: str) -> None:
    assert f"Value error, {url!r} is not an OTLP/HTTP URL: write http://host:4318" == refusal(forward=[url])


def test_a_destination_with_a_password_is_not_named() -> None:
    said = refusal(forward=["ftp://user:hunter2@a"])
    assert ("hunter2" not in said, "one of them is not an OTLP/HTTP URL" in said) == (True, True)


@pytest.mark.parametrize(
    "url", ["postgresql://u@h/d", "postgres://u@h/d", "postgresql+asyncpg://u@h/d", "sqlite:////data/x.db"]
)
def test_urls_of_both_databases_are_taken_as_they_are(url: str) -> None:
    assert url == Settings(database_url=url).database()


@pytest.mark.parametrize(
    "url",
    ["mysql://u:hunter2@h/d", "u:hunter2@h", "postgresql://u:p@h:hunter2/d", "hunter2"],
)
def test_a_database_url_that_cannot_be_used_is_refused_and_never_repeated(url: str) -> None:
    said = refusal(database_url=url)
    assert ("hunter2" not in said, "write postgresql://user@host/name or sqlite:///path" in said) == (True, True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u@h/d?password=hunter2&sslmode=require", "postgresql://u@h/d"),
        ("sqlite:////data/x.db", "sqlite:////data/x.db"),
    ],
)
def test_a_database_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown == Settings(database_url=url).shown_database()


@pytest.mark.parametrize(
    "settings",
    [
        {"port": 70_000},
        {"port": -1},
        {"host": ""},
        {"max_body_bytes": 0},
        {"max_queue_spans": 0},
        {"drain_timeout_s": 0},
        {"log_level": "loud"},
        {"log_format": "xml"},
        {"prot": 4318},
    ],
    ids=str,
)
def test_an_impossible_value_is_refused(settings: dict[str, Any]) -> None:
    assert refusal(**settings)


def test_data_lies_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert tmp_path / "graphmeter" == default_data_dir()
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".local" / "share" / "graphmeter" == default_data_dir()


def test_the_embedded_database_lies_in_the_data_folder(tmp_path: Path) -> None:
    assert f"sqlite:///{tmp_path}/graphmeter.db" == Settings(data_dir=tmp_path).database()


def test_a_data_folder_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "50% of ?it #all"
    assert str(odd / "graphmeter.db") == make_url(Settings(data_dir=odd).database()).database


def test_a_configuration_that_is_named_is_used_whether_it_exists_or_not(tmp_path: Path) -> None:
    assert tmp_path / "missing.yaml" == Settings(config=str(tmp_path / "missing.yaml")).config_path()


def test_a_graphmeter_yaml_beside_the_process_is_used_when_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().config_path() is None
    Path("graphmeter.yaml").write_text("version: 1")
    assert Path("graphmeter.yaml") == Settings().config_path()


def test_grpc_listens_beside_the_default_port_or_where_it_is_told_to() -> None:
    assert 4317 == Settings().rpc_port()
    assert None is Settings(port=4400).rpc_port()
    assert 4500 == Settings(port=4400, grpc_port=4500).rpc_port()
    assert None is Settings(no_grpc=True, grpc_port=4500).rpc_port()
