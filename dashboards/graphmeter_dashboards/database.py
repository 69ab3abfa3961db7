"""The questions a dashboard asks of the database: SQL for Grafana's Postgres source, filtered as the page is.

Costs are as billed, in USD; durations are in seconds; ids in hex. Grafana puts in its macros (`$__unixEpochNano…`) and the
page's variables.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names

_DAY_S: Final = 86_400
_HOUR_NS: Final = 3_600_000_000_000
_LONGEST_WAIT_S: Final = 30 * _DAY_S
"""Whoever was asked longer ago is not waited for any more, here as in `graphmeter_runs_waiting`."""
_RECENT_DAYS: Final = 2
"""Full days before today that say how fast spend grows now, as in forecasts of monthly budgets."""


def _named(column: str) -> str:
    """A text column as the metrics show it: what nobody named is `unattributed` there and '' in the database."""
    return f"coalesce(nullif({column}, ''), '{names.UNATTRIBUTED}')"


def _chosen(value: str, variable: str) -> str:
    # The value "All" of a variable reaches SQL as its regular expression, unquoted whatever the format asked for, so
    # `IN (...)` would break; a dollar-quoted regular expression takes both it and a list, and any quote within.
    return f"{value} ~ ('^' || $$(${{{variable}:regex}})$$ || '$')"


def _filters(table: str, *variables: str) -> str:
    """Conditions that the page's variables put on the columns of their names."""
    # Environments may be unnamed, in metrics, too.
    columns = {name: f"{table}.{name}" for name in variables}
    return "\n  AND ".join(
        _chosen(column if name in ("environment", "model") else _named(column), name)
        for name, column in columns.items()
    )


_RUN: Final = f"""\
SELECT to_timestamp(r.started_ns / 1e9) AS "started", {_named("r.graph")} AS "graph", {_named("r.team")} AS "team",
       r.environment AS "environment", r.status AS "status", %s,
       r.duration_ns / 1e9 AS "duration", r.cost_nano / 1e9 AS "cost", encode(r.trace_id, 'hex') AS "trace"
FROM run r%s
WHERE $__unixEpochNanoFilter(r.started_ns) AND %s
  AND {_filters("r", "environment", "team", "graph")}
ORDER BY %s LIMIT %d"""  # noqa: S608 - nothing but constants of our own, here and below


def latest_failed_runs(limit: int = 50) -> str:
    """Newest runs that failed or got lost."""
    said = 'r.error_type AS "error type", r.status_message AS "message"'
    return _RUN % (said, "", f"r.status IN ('{names.ERROR}', '{names.LOST}')", "r.started_ns DESC", limit)


def latest_runs_failing_in_node(limit: int = 50) -> str:
    """Newest runs in which an attempt of a chosen node failed, whatever became of the run."""
    said = 'n.node AS "node", r.error_type AS "error type", r.status_message AS "message"'
    visited = " JOIN run_node n ON n.trace_id = r.trace_id AND n.run_id = r.run_id"
    return _RUN % (said, visited, f"n.errors > 0 AND {_filters('n', 'node')}", "r.started_ns DESC", limit)


def dearest_runs(limit: int = 50) -> str:
    """Runs that began within the time range and cost most."""
    said = 'r.model_calls AS "calls", r.input_tokens AS "tokens in", r.output_tokens AS "tokens out"'
    return _RUN % (said, "", "r.cost_nano > 0", "r.cost_nano DESC", limit)


# Days are compared as integers: no index has them as anything else.
_MONTH: Final = f"""\
SELECT coalesce(sum(d.cost_nano), 0) / 1e9 AS spent,
       coalesce(sum(d.cost_nano) FILTER (WHERE d.day >= m.recent), 0) / 1e9 AS recent,
       m.elapsed, m.left_s, m.recent_s
FROM (
  SELECT first, greatest(first, today - {_RECENT_DAYS}) AS recent, now_s - first * {_DAY_S} AS elapsed,
         until_s - now_s AS left_s, greatest(now_s - greatest(first, today - {_RECENT_DAYS}) * {_DAY_S}, 1) AS recent_s
  FROM (
    SELECT extract(epoch FROM now()) AS now_s, floor(extract(epoch FROM now()) / {_DAY_S})::int AS today,
           (extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC')) / {_DAY_S})::int AS first,
           extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AS until_s
  ) clock
) m
LEFT JOIN rollup_day d ON d.day >= m.first
  AND {_filters("d", "environment", "team", "graph", "node", "model")}
GROUP BY m.elapsed, m.left_s, m.recent_s"""  # noqa: S608


def month_to_date() -> str:
    """Spend since the first of this month, UTC, whatever the time range."""
    return f'SELECT spent AS "spend" FROM (\n{_MONTH}\n) month'  # noqa: S608


def month_forecast() -> str:
    """Where that leads by the end of the month: at the rate between that of the month and that of its last days.

    No answer in the first hundredth of a month: a few calls say nothing.
    """
    rate = "(spent / elapsed + recent / recent_s) / 2"
    return (
        f'SELECT spent + left_s * {rate} AS "forecast" FROM (\n{_MONTH}\n) month\n'  # noqa: S608
        "WHERE elapsed * 100 >= elapsed + left_s"
    )


def waste(limit: int = 50) -> str:
    """What was for nothing, by node and reason, the dearest first."""
    return f"""\
SELECT {_named("l.graph")} AS "graph", {_named("l.node")} AS "node", w.reason AS "reason", count(*) AS "calls",
       sum(l.cost_nano) / 1e9 AS "cost"
FROM ledger_waste w JOIN ledger l USING (trace_id, span_id)
WHERE $__unixEpochNanoFilter(w.start_ns)
  AND {_filters("l", "environment", "team", "graph", "node", "model")}
GROUP BY 1, 2, 3 ORDER BY sum(l.cost_nano) DESC LIMIT {limit}"""  # noqa: S608


_SHAPE: Final = f"""\
WITH shape AS (
  SELECT DISTINCT ON (t.service, t.environment, t.graph) t.service, t.environment, t.graph, t.json::json AS drawn
  FROM graph_topology t
  WHERE {_filters("t", "environment", "graph")}
  ORDER BY t.service, t.environment, t.graph, t.last_ns DESC
), seen AS (
  SELECT h.service, h.environment, h.graph, h.node, sum(h.cost_nano) / 1e9 AS cost,
         coalesce(sum(h.count) FILTER (WHERE h.kind = '{names.NODE}'), 0) AS attempts,
         sum(h.error) FILTER (WHERE h.kind = '{names.NODE}') AS errors,
         sum(h.retries) FILTER (WHERE h.kind = '{names.NODE}') AS retries,
         sum(h.duration_ns) FILTER (WHERE h.kind = '{names.NODE}') / 1e9 AS seconds
  FROM rollup_hour h
  WHERE h.hour BETWEEN $__unixEpochNanoFrom() / {_HOUR_NS} AND $__unixEpochNanoTo() / {_HOUR_NS}
    AND h.node <> '' AND {_filters("h", "environment", "team", "graph")}
  GROUP BY 1, 2, 3, 4
), node AS (
  SELECT service, environment, graph, json_array_elements_text(drawn -> 'nodes') AS node FROM shape
  UNION
  SELECT service, environment, graph, node FROM seen WHERE attempts > 0
)"""  # noqa: S608


def _id(node: str) -> str:
    return f"concat_ws('/', service, environment, graph, {node})"


def flow_nodes() -> str:
    """Nodes of every graph as it was drawn last, and those that ran beside them, for a node graph panel.

    Numbers are of whole hours that the time range touches.
    """
    return f"""\
{_SHAPE}
SELECT {_id("node")} AS id, node AS title, {_named("graph")} AS subtitle,
       attempts AS mainstat, seconds / nullif(attempts, 0) AS secondarystat,
       CASE WHEN attempts > 0 THEN 1 - errors / attempts ELSE 0 END AS arc__done,
       CASE WHEN attempts > 0 THEN errors / attempts ELSE 0 END AS arc__failed,
       CASE WHEN attempts > 0 THEN 0 ELSE 1 END AS arc__idle,
       errors AS detail__failed, retries AS detail__retries, cost AS detail__cost
FROM node LEFT JOIN seen USING (service, environment, graph, node)
ORDER BY id"""  # noqa: S608


def flow_edges() -> str:
    """Edges between them: those that were drawn, and from a node to what runs inside it where no drawn edge leads there."""
    return f"""\
{_SHAPE}, edge AS (
  SELECT service, environment, graph, e ->> 0 AS source, e ->> 1 AS target,
         CASE WHEN (e ->> 2)::boolean THEN 'conditional' ELSE '' END AS kind
  FROM shape, json_array_elements(drawn -> 'edges') e
), inside AS (
  SELECT service, environment, graph, regexp_replace(node, '[.][^.]*$', '') AS source, node AS target, 'inside' AS kind
  FROM node WHERE node LIKE '%.%'
)
SELECT concat({_id("source")}, ' > ', target) AS id, {_id("source")} AS source, {_id("target")} AS target,
       kind AS mainstat, CASE kind WHEN 'conditional' THEN '6 4' WHEN 'inside' THEN '1 4' ELSE '0' END AS strokedasharray
FROM (
  SELECT * FROM edge
  UNION ALL
  SELECT inside.* FROM inside
  JOIN node ON (node.service, node.environment, node.graph, node.node)
             = (inside.service, inside.environment, inside.graph, inside.source)
  LEFT JOIN edge ON (edge.service, edge.environment, edge.graph, edge.target)
                  = (inside.service, inside.environment, inside.graph, inside.target)
  WHERE edge.target IS NULL
) drawn
ORDER BY id"""  # noqa: S608


def waiting_runs(limit: int = 50) -> str:
    """Interrupted runs that nobody has answered, the longest wait first, whatever the time range."""
    return f"""\
SELECT to_timestamp(w.since_ns / 1e9) AS "since", extract(epoch FROM now()) - w.since_ns / 1e9 AS "waiting",
       {_named("w.graph")} AS "graph", {_named("w.team")} AS "team", w.environment AS "environment",
       w.thread_id AS "thread", encode(w.trace_id, 'hex') AS "trace"
FROM wait w
WHERE w.until_ns IS NULL AND w.resumed IS NULL
  AND w.since_ns > ((extract(epoch FROM now()) - {_LONGEST_WAIT_S}) * 1e9)::bigint
  AND {_filters("w", "environment", "team", "graph")}
ORDER BY w.since_ns LIMIT {limit}"""  # noqa: S608
