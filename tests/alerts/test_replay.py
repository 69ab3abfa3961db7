"""An outage of the database and the replay after it, seen by every rule of the defaults at once: no alert that is false.

Ten minutes are seen by nobody but those who watch the database. After hours, what was spent meanwhile looks like a burst:
such alerts fire, and Alertmanager keeps them back for as long as that lasts.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from graphmeter import names
from graphmeter_alerts import alertmanager, health_rules, measuring_rules
from graphmeter_alerts.cases import growing, series, staying
from support import promtool

BEFORE, REPLAY, AFTER = 70, 5, 130
BASE = {"service": "desk", "environment": "prod", "graph": "support", "team": "cx"}
WHO = {**BASE, "job": "graphmeter", "instance": "a"}
OUTAGE = {health_rules.DATABASE_AWAY, health_rules.REPLAYING, health_rules.WATCHDOG, measuring_rules.SPOOL_GROWING}


def seen(away: int) -> dict[str, str]:
    """Series of a system in which nothing changes, but that for `away` minutes nothing is stored."""
    end = BEFORE + away + REPLAY + AFTER

    def stored(per_minute: float) -> str:
        caught_up = per_minute * (1 + away / REPLAY)
        return growing((per_minute, BEFORE), (0, away), (caught_up, REPLAY), (per_minute, AFTER))

    def during(value: float, *, replay: float = 0.0) -> str:
        return staying((0, BEFORE), (value, away), (replay, REPLAY), (0, AFTER))

    def histogram(
        metric: names.Metric, per_minute: float, at_most: float, total: float, **labels: str
    ) -> dict[str, str]:
        found = {series(f"{metric.name}_count", **WHO, **labels): stored(per_minute)}
        found[series(f"{metric.name}_sum", **WHO, **labels)] = stored(total)
        for bound in (*metric.buckets, float("inf")):
            le = "+Inf" if bound == float("inf") else repr(bound)
            values = stored(per_minute if bound >= at_most else 0)
            found[series(f"{metric.name}_bucket", **WHO, **labels, le=le)] = values
        return found

    model = {"provider": "openai", "model": "gpt-4o", "node": "answer"}
    budget = {"budget": "team-monthly", "team": "cx", "job": "graphmeter", "instance": "a"}
    of = {"job": "graphmeter", "instance": "a"}
    oldest = " ".join([f"0+0x{BEFORE - 1}", f"0+60x{away - 1}", f"{away * 60}+0x{REPLAY - 1}", f"0+0x{AFTER - 1}"])
    return {
        series("up", **of): staying((1, end)),
        series(names.RUNS.name, **WHO, status="ok"): stored(10),
        series(names.RUNS.name, **WHO, status="error"): stored(0.02),
        series(names.NODE_RUNS.name, **WHO, node="answer", status="ok"): stored(10),
        series(names.LLM_CALLS.name, **WHO, **model, status="ok"): stored(10),
        series(names.RATE_LIMITED_CALLS.name, **WHO, provider="openai", model="gpt-4o"): stored(0.1),
        series(names.COST.name, **WHO, **model): stored(0.8),
        series(names.BUDGET_COST.name, **budget): stored(0.8),
        series(names.BUDGET_SPENT.name, **budget): stored(0.8),
        series(names.BUDGET_LIMIT.name, **budget): staying((6000, end)),
        series(names.BUDGET_END.name, **budget): staying((30 * 86_400, end)),
        **histogram(names.RUN_DURATION, 10, 2.5, 15),
        **histogram(names.RUN_COST, 10, 0.1, 0.8),
        series(names.COLLECTOR_RECEIVED.name, **of): growing((100, end)),
        series(names.COLLECTOR_REQUESTS.name, **of, protocol="grpc"): growing((10, end)),
        series(names.COLLECTOR_DATABASE_AWAY.name, **of): during(1),
        series(names.COLLECTOR_REPLAYING.name, **of): during(0, replay=1),
        series(names.COLLECTOR_SPOOL_OLDEST.name, **of): oldest,
        series(names.COLLECTOR_SPOOL_LIMIT.name, **of): staying((10**9, end)),
        series(names.COLLECTOR_SPOOL_BYTES.name, **of): during(10**6, replay=10**5),
        series(names.COLLECTOR_JOB_FAILURES.name, **of, exported_job="sweep"): growing(
            (0, BEFORE), (5, away), (0, REPLAY + AFTER)
        ),
    }


@pytest.mark.parametrize(
    ("away", "step", "also"),
    [(10, 1, set()), (150, 5, set(alertmanager.BURSTS))],
    ids=["ten minutes", "two hours and a half"],
)
def test_an_outage_and_its_replay_raise_no_alert_but_their_own(
    away: int, step: int, also: set[str], built: Path, tmp_path: Path
) -> None:
    rules = sorted(built.glob("*.rules.yml"))
    groups = [group["name"] for file in rules for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]
    end = BEFORE + away + REPLAY + AFTER
    others = f'count by (alertname) (ALERTS{{alertstate="firing",alertname!~"{"|".join(sorted(OUTAGE | also))}"}})'
    nothing = [{"expr": others, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(BEFORE, end, step)]
    # What is said of a burst is said only while Alertmanager keeps it back, and there is one to keep back.
    bursts = f'ALERTS{{alertstate="firing",alertname=~"{"|".join(alertmanager.BURSTS)}"}}'
    kept_back = f'{bursts} unless on () ALERTS{{alertstate="firing",alertname="{health_rules.REPLAYING}"}}'
    nothing += [
        {"expr": kept_back, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(BEFORE, end, step)
    ]
    at = BEFORE + away + REPLAY + 5
    count = {"expr": f"count({bursts}) > bool 0 or vector(0)", "eval_time": f"{at // 5 * 5}m"}
    own = {
        "expr": f'count(ALERTS{{alertstate="firing",alertname="{health_rules.DATABASE_AWAY}"}})',
        "eval_time": f"{(BEFORE + away - 1) // step * step}m",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    checks = [*nothing, {**count, "exp_samples": [{"labels": "{}", "value": int(bool(also))}]}, own]
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in seen(away).items()],
        "promql_expr_test": checks,
    }
    document = {
        "rule_files": [str(file) for file in rules],
        "evaluation_interval": f"{step}m",
        "group_eval_order": groups,
        "tests": [case],
    }
    (tmp_path / "replay.test.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    tested = promtool.test_rules(tmp_path / "replay.test.yml")
    assert tested.ok, tested.output
