"""The questions a dashboard asks of the database: SQL for Grafana's Postgres source, filtered as the page is.

Costs are as billed, in USD; durations are in seconds; ids in hex. Grafana puts in its macros (`$__unixEpochNano…`) and the
page's variables.
"""

from __future__ import annotations

from typing import Final

from graphmeter import names

_DAY_S: Final = 86_400
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
FROM run r
WHERE $__unixEpochNanoFilter(r.started_ns) AND %s
  AND {_filters("r", "environment", "team", "graph")}
ORDER BY %s LIMIT %d"""  # noqa: S608 - nothing but constants of our own, here and below


def latest_failed_runs(limit: int = 50) -> str:
    """Newest runs that failed or got lost."""
    said = 'r.error_type AS "error type", r.status_message AS "message"'
    return _RUN % (said, f"r.status IN ('{names.ERROR}', '{names.LOST}')", "r.started_ns DESC", limit)


def dearest_runs(limit: int = 50) -> str:
    """Runs that began within the time range and cost most."""
    said = 'r.model_calls AS "calls", r.input_tokens AS "tokens in", r.output_tokens AS "tokens out"'
    return _RUN % (said, "r.cost_nano > 0", "r.cost_nano DESC", limit)


_MONTH: Final = f"""\
SELECT coalesce(sum(d.cost_nano), 0) / 1e9 AS spent,
       coalesce(sum(d.cost_nano) FILTER (WHERE d.day >= m.recent), 0) / 1e9 AS recent,
       m.elapsed, m.left_s, m.recent_s
FROM (
  SELECT first, greatest(first, today - {_RECENT_DAYS}) AS recent, now_s - first * {_DAY_S} AS elapsed,
         until_s - now_s AS left_s, greatest(now_s - greatest(first, today - {_RECENT_DAYS}) * {_DAY_S}, 1) AS recent_s
  FROM (
    SELECT extract(epoch FROM now()) AS now_s, floor(extract(epoch FROM now()) / {_DAY_S}) AS today,
           extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC')) / {_DAY_S} AS first,
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
