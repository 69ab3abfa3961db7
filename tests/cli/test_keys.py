"""`graphmeter keys` on both databases, and its keys in the hands of reports and doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.running import failure, json_of, run
from graphmeter import client
from graphmeter_cli.demo import collector
from graphmeter_collector.keys import id_in
from support.ports import free_port


def test_a_key_is_printed_once_listed_without_its_secret_and_revoked_for_good(empty_database_url: str) -> None:
    at = ("--database-url", empty_database_url)
    made = run("keys", "create", "--scope", "ingest", "--team", "cx", "--name", "shop [b]", "--expires", "90d", *at)
    token = made.stdout.strip()
    key_id = id_in(token)
    assert 0 == made.exit_code
    assert f"Key {key_id} (ingest, team cx) works within 5 seconds." in made.stderr
    assert "It is the first key here" in made.stderr
    second = run("keys", "create", "--scope", "ingest+read", *at)
    assert "first key" not in second.stderr

    listed = run("keys", "list", *at).stdout
    assert (True, True, False) == (key_id in listed, "shop [b]" in listed, token in listed)
    one, two = json_of("keys", "list", *at)
    assert ("cx", ["ingest"], token[-4:], "active", None) == (
        *(one[name] for name in ("team", "scopes", "last4", "state", "used_ns")),
    )
    assert 90 * 86_400 * 10**9 == one["expires_ns"] - one["created_ns"]
    assert ["ingest", "read"] == two["scopes"]

    assert f"Key {key_id} opens nothing any more" in run("keys", "revoke", token, *at).stdout
    assert 0 == run("keys", "revoke", key_id, *at).exit_code
    assert ["revoked", "active"] == [key["state"] for key in json_of("keys", "list", *at)]


def test_what_cannot_be_is_said_without_repeating_a_key(sqlite_url: str, tmp_path: Path) -> None:
    at = ("--database-url", sqlite_url)
    secret = "gm_abcdefgh_" + "x" * 32
    said = failure(1, "keys", "revoke", secret, *at)
    assert ("there is no such key", False) == (said[:20], secret in said)
    assert "answers are not limited to a team" in failure(2, "keys", "create", "--scope", "read", "--team", "cx", *at)
    assert "has no tables yet: run `graphmeter migrate`" in failure(
        1, "keys", "list", "--data-dir", str(tmp_path / "a")
    )
    assert "No keys" in run("keys", "list", *at).stdout


def test_reports_and_doctor_show_the_key(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = run("keys", "create", "--scope", "ingest+read", "--database-url", sqlite_url).stdout.strip()
    with collector.running(free_port(), tmp_path, ["--database-url", sqlite_url]) as it:
        assert "answers 401: an API key with scope read is needed" in failure(1, "runs", "--url", it.url)
        assert [] == json_of("runs", "--url", it.url, "--api-key", token)
        assert "graphmeter keys create --scope ingest+read" in run("doctor", "--endpoint", it.url).stdout

        monkeypatch.setenv("GRAPHMETER_API_KEY", token)
        # As a new process, which is what the next command would be.
        monkeypatch.setattr(client, "_settings", None)
        monkeypatch.setattr(client, "_pipelines", {})
        examined = run("doctor", "--endpoint", it.url)
        assert (0, True) == (examined.exit_code, "read back" in examined.stdout), examined.output
        assert 1 == len(json_of("runs", "--url", it.url))
