"""The page at `/`: how to begin while there are no runs, the latest runs afterwards, and nothing of theirs as markup."""

from __future__ import annotations

import re
import time

from collector.served import served
from graphmeter import names
from graphmeter_collector.expose.page import SHOWN_RUNS
from support import otlp
from support.records import SECOND, trace


def cells(html: str) -> list[list[str]]:
    """Text of the table's rows."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [re.sub("<[^>]*>", "", cell.partition(">")[2]).strip() for cell in row.split("<td")[1:]]
        for row in body.split("<tr>")[1:]
    ]


async def test_without_runs_the_page_says_how_to_send_some_to_this_very_address(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        answer = await it.http.get("/", headers={"host": "metering.internal:4318"})
        assert (200, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
        assert "No runs yet" in answer.text
        assert "GRAPHMETER_ENDPOINT=http://metering.internal:4318" in answer.text
        assert "http://metering.internal:4318/v1/traces" in answer.text


async def test_runs_are_shown_newest_first_with_their_figures(sqlite_url: str) -> None:
    began = 1_000_000_000 * (time.time_ns() // 1_000_000_000 - 60)
    async with served(sqlite_url) as it:
        await it.send(*otlp.run(1, start_ns=began))
        await it.send(otlp.started(2, start_ns=began + SECOND, team=""))
        answer = (await it.http.get("/")).text
        started = [time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began // SECOND + late)) for late in (1, 0)]
        assert [
            [started[0], "support", "unattributed", "running", "", "0", "0.000000", "00000000-0000"],
            [started[1], "support", "cx", "ok", "2.000", "1100", "0.003500", "00000000-0000"],
        ] == cells(answer)
        assert f'href="/api/runs/{trace(1).hex()}/trace"' in answer


async def test_names_of_a_sender_are_text_never_markup(sqlite_url: str) -> None:
    nasty = '<script>alert("1")</script>'
    attributes = {
        names.GRAPH: nasty,
        names.TEAM: "<b>'",
        names.RUN_ID: "<i>run",
        names.STATUS: names.ERROR,
        names.ERROR_TYPE: '"><img src=x>',
    }
    async with served(sqlite_url) as it:
        span = otlp.own(1, names.RUN, attributes, start_ns=time.time_ns() - SECOND, s=0, status="error")
        assert b"" == (await it.send(span)).content
        answer = (await it.http.get("/")).text
        for raw in ("<script", "<b>", "<i>", "<img"):
            assert raw not in answer
        assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in answer
        assert 'title="&quot;&gt;&lt;img src=x&gt;"' in answer


async def test_a_host_header_is_text_too(sqlite_url: str) -> None:
    async with served(sqlite_url) as it:
        answer = await it.http.get("/", headers={"host": "<script>"})
        assert "<script>" not in answer.text


async def test_many_runs_are_cut(sqlite_url: str) -> None:
    began = time.time_ns() - 60 * SECOND
    async with served(sqlite_url) as it:
        await it.send(*(otlp.started(of, start_ns=began + of) for of in range(1, SHOWN_RUNS + 6)))
        assert SHOWN_RUNS == len(cells((await it.http.get("/")).text))
