"""`graphmeter dashboards`: whose are built, and what is asked of whom. Real servers are asked in tests/acceptance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.running import failure, run
from support import postgres
from support.ports import free_port


def test_teams_that_are_asked_for_have_dashboards(tmp_path: Path) -> None:
    result = run("dashboards", "build", "--defaults", "--out", str(tmp_path), "--team", "cx", "--team", "growth")
    assert result.exit_code == 0
    written = [Path(line).name for line in result.stdout.splitlines()]
    assert ["graphmeter-team-cx.json", "graphmeter-team-growth.json"] == written[-2:]
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "nobody to ask: give --prometheus, --database-url or both"),
        (("--database-url", "sqlite:///x.db"), 1, "panels ask Postgres, and this is none: write postgresql://…"),
        (("--prometheus", "http://127.0.0.1:1", "--since", "soon"), 2, "'soon' is not a duration"),
        (("--prometheus", "http://127.0.0.1:1", "--team", ""), 2, "a team has a name"),
    ],
)
def test_what_cannot_be_asked_is_said(arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in failure(code, "dashboards", "check", "--defaults", *arguments)


def test_a_database_that_is_away_is_named_as_such() -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    assert "cannot ask the database" in failure(1, "dashboards", "check", "--defaults", "--database-url", url)


def test_a_database_alone_is_asked_what_is_its_own_and_for_nothing_that_writes(postgres_url: str) -> None:
    url = postgres_url.replace("+asyncpg", "")
    asked = run("dashboards", "check", "--defaults", "--json", "--database-url", url)
    assert asked.exit_code == 0, asked.output
    answers: list[dict[str, Any]] = [each for of in json.loads(asked.stdout).values() for each in of]
    assert {"grafana-postgresql-datasource"} == {each["source"] for each in answers if each["asked"]}
    assert {""} == {each["fault"] for each in answers}

    postgres.execute(postgres_url, "DROP TABLE wait")
    missing = run("dashboards", "check", "--defaults", "--database-url", url)
    assert missing.exit_code == 1
    assert 'relation "wait" does not exist' in missing.output
