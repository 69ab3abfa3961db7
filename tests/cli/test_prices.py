"""`graphmeter prices`: explained, listed and updated without a collector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from graphmeter_cli.group import graphmeter
from graphmeter_collector.price import published
from graphmeter_collector.price.catalogue import Catalogue

OWN = """\
prices:
  overrides:
    - {name: deal, provider: openai, model: gpt-4o, valid_from: 2026-01-01, rates: {input: 2, output: 8}}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(graphmeter, ["prices", *arguments])


@pytest.fixture(autouse=True)
def nothing_of_the_developers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHMETER_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("GRAPHMETER_CONFIG", raising=False)


def test_show_tells_price_source_rates_and_what_was_considered(tmp_path: Path) -> None:
    (tmp_path / "graphmeter.yaml").write_text(OWN)
    said = run("show", "gpt-4o", "--at", "2026-03-01")
    assert 0 == said.exit_code, said.output
    assert "openai/gpt-4o at 2026-03-01 00:00 UTC" in said.output
    assert "price   deal" in said.output
    assert "output           8 USD per million tokens" in said.output
    assert "comes after override deal" in said.output
    before = json.loads(run("show", "gpt-4o", "--at", "2025-12-31", "--json").output)
    assert "openai/gpt-4o" == before["price"]["name"]
    assert {"deal": "not yet in force", "openai/gpt-4o": "used"} == {
        each["name"]: each["verdict"] for each in before["considered"]
    }


def test_show_of_an_unknown_model_names_its_neighbours_and_fails() -> None:
    said = run("show", "gpt-4o-minni")
    assert 1 == said.exit_code
    assert "no price is known" in said.output
    assert "gpt-4o-mini" in said.output


def test_show_says_which_exchange_rate_lacks(tmp_path: Path) -> None:
    currencies = '  currencies: [{currency: EUR, rates: [{from: 2026-01-01, usd_per_unit: "1.08"}]}]\n'
    own = "  overrides: [{name: euro, model: house, currency: EUR, rates: {input: 2, output: 8}}]\n"
    (tmp_path / "graphmeter.yaml").write_text(f"prices:\n{currencies}{own}")
    said = run("show", "house", "--at", "2025-12-31")
    assert 1 == said.exit_code
    assert "no rate of EUR yet" in said.output
    assert "add a rate of EUR from then or earlier to prices.currencies" in said.output
    assert "did you mean" not in said.output


def test_a_model_without_a_name_is_refused() -> None:
    said = run("show", " ")
    assert 2 == said.exit_code
    assert "'MODEL' is empty: name the model" in said.output


def test_list_shows_entries_and_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "graphmeter.yaml").write_text(OWN)
    said = run("list")
    assert "override      deal" in said.output
    assert f"catalogue     {Catalogue().name}" in said.output
    assert ["deal"] == [each["name"] for each in json.loads(run("list", "--json").output)["overrides"]]


def test_a_faulty_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "graphmeter.yaml").write_text(OWN.replace("output: 8", "output: -8"))
    said = run("show", "gpt-4o")
    assert 1 == said.exit_code
    assert "graphmeter.yaml:3: prices.overrides[0].rates.output is -8: negative" in said.output


# --- update ---------------------------------------------------------------------------------------------------------------


def catalogue_json(models: int) -> bytes:
    """As https://github.com/pydantic/genai-prices publishes it."""
    made: list[dict[str, Any]] = [
        {"id": f"m{n}", "match": {"equals": f"m{n}"}, "prices": {"input_mtok": 1.5, "output_mtok": 3}}
        for n in range(models)
    ]
    made[0] |= {"id": "gpt-4o", "match": {"starts_with": "gpt-4o"}}
    return json.dumps([{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": made}]).encode()


@contextmanager
def served(body: bytes, status: int = 200) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/data.json"
        finally:
            server.shutdown()
            thread.join()


def test_update_keeps_what_was_fetched_and_prices_by_it_until_the_library_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = catalogue_json(Catalogue().models)
    with served(body) as url:
        said = run("update", "--from", url, "--json")
    assert 0 == said.exit_code, said.output
    name = json.loads(said.output)["catalogue"]
    shown = json.loads(run("show", "gpt-4o", "--provider", "openai", "--json").output)
    assert (name, 1_500) == (shown["price"]["source"], shown["price"]["tariffs"][0]["tiers"][0]["per_token"][0])
    monkeypatch.setattr(published, "installed", lambda: "99.0")
    assert published.kept(tmp_path) is None


def test_update_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(catalogue_json(Catalogue().models))
    assert 0 == run("update", "--from", "data.json").exit_code
    assert published.kept(tmp_path) is not None


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"<html>", 200, "not a price catalogue"),
        (b"{}", 200, "not a list of providers"),
        (catalogue_json(3), 200, "not a whole price catalogue: 3 models"),
        (catalogue_json(3000).replace(b'"input_mtok": 1.5', b'"input_mtok": -1.5', 1), 200, "negative"),
        (b"no", 503, "answers 503"),
    ],
)
def test_what_is_no_catalogue_changes_nothing(tmp_path: Path, body: bytes, status: int, says: str) -> None:
    with served(body, status) as url:
        said = run("update", "--from", url)
    assert 1 == said.exit_code
    assert says in said.output
    assert "prices stay as they are" in said.output
    assert not published.file_in(tmp_path).exists()


def test_without_a_network_update_says_so_and_changes_nothing(tmp_path: Path) -> None:
    said = run("update", "--from", "http://127.0.0.1:9/data.json")
    assert 1 == said.exit_code
    assert "cannot fetch http://127.0.0.1:9/data.json" in said.output
    assert "--from FILE" in said.output
    assert not published.file_in(tmp_path).exists()


def test_a_kept_catalogue_that_is_damaged_is_said_and_not_used(tmp_path: Path) -> None:
    path = published.file_in(tmp_path)
    path.parent.mkdir()
    path.write_text("{")
    said = run("show", "gpt-4o")
    assert 0 == said.exit_code
    assert "cannot be read" in said.output
