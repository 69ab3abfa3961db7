"""The page at `/`: what this is, what ran last, where to look, and how to send data while there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from graphmeter import names
from graphmeter_collector.errors import CollectorError
from graphmeter_collector.reports import Reader, RunFilter, RunRow

SHOWN_RUNS = 25

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, #0000); }
td.number, th.number { text-align: right; }
.error, .lost { color: #c22; } .running { color: #06c; } .interrupted, .cancelled { color: #a60; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { padding: .8rem; background: color-mix(in srgb, currentColor 8%, transparent); overflow-x: auto; }
"""


def page_router(reader: Reader) -> APIRouter:
    """`/`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    async def index(request: Request) -> HTMLResponse:
        base = str(request.base_url).rstrip("/")
        status = 200
        try:
            body = _table(await reader.runs(RunFilter(limit=SHOWN_RUNS)), base)
        except CollectorError as error:
            status, body = 503, f"<p class=error>{escape(str(error))}</p>"
        return HTMLResponse(_page(body), status)

    return router


def _page(body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Graphmeter</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>Graphmeter</h1>
<p>Latency, errors and spend of LangGraph applications.
<a href="/docs">API</a> · <a href="/metrics">metrics</a> · <a href="/api/nodes">nodes</a> ·
<a href="/api/cost?by=team,model">spend</a> · <a href="/api/budgets">budgets</a> · <a href="/api/slos">SLOs</a></p>
{body}
</body></html>
"""


def _table(runs: list[RunRow], base: str) -> str:
    if not runs:
        return _how_to_send(base)
    rows = "\n".join(map(_row, runs))
    return f"""<h2>Latest runs</h2>
<table><thead><tr><th>started (UTC)<th>graph<th>team<th>status<th class=number>seconds<th class=number>tokens
<th class=number>USD<th>run</thead><tbody>
{rows}
</tbody></table>"""


def _row(run: RunRow) -> str:
    started = datetime.fromtimestamp(run.started_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    seconds = "" if run.duration_ns is None else f"{run.duration_ns / 1e9:.3f}"
    said = f" title={_attribute(run.error_type)}" if run.error_type else ""
    status = f'<td class="{escape(run.status)}"{said}>{escape(run.status)}'
    return (
        f"<tr><td>{started}<td>{escape(run.graph)}<td>{escape(run.team or names.UNATTRIBUTED)}{status}"
        f"<td class=number>{seconds}<td class=number>{run.input_tokens + run.output_tokens}"
        f"<td class=number>{run.cost_nano / names.NANO_PER_USD:.6f}"
        f"<td><a href={_attribute(f'/api/runs/{run.trace_id}/trace')}><code>{escape(run.run_id[:13])}</code></a>"
    )


def _attribute(value: str) -> str:
    return f'"{escape(value, quote=True)}"'


def _how_to_send(base: str) -> str:
    return f"""<h2>No runs yet</h2><p>Attach Graphmeter to a graph:</p>
<pre>pip install graphmeter
export GRAPHMETER_ENDPOINT={escape(base)}

from graphmeter import meter
graph = meter(builder.compile(), name="support", team="cx")</pre>
<p>or send OTLP/HTTP traces of any other kind to <code>{escape(base)}/v1/traces</code>.</p>"""
