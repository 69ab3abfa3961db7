"""Bad graphmeter.yaml files: each fault is told with file, line, field, value and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from graphmeter_config import ConfigError, Problem, load


class Bad(NamedTuple):
    """A file and the one fault it has."""

    id: str
    text: str
    line: int
    field: str
    value: str
    message: str
    remedy: str


SLO = "slos:\n  - name: a\n    objective: 99\n"
SLOW = SLO + "    indicator: latency\n"
BUDGET = "budgets:\n  - name: a\n    limit_usd: 10\n"
RULE = "sampling:\n  rules:\n    - name: chat\n      keep: 10%\n"
THRESHOLD = "thresholds:\n  error_rate:\n    "
DURATION = "thresholds:\n  run_duration:\n    "
USUAL = "anomalies:\n  error_rate:\n    "
LIMIT = "provider_limits:\n  - name: a\n    provider: openai\n    tokens_per_minute: 9\n"
JAEGER = "forward:\n  destinations:\n    - name: jaeger\n      endpoint: http://j:4318\n"

RECEIVER = "receivers:\n  - name: chat\n    kind: slack\n    url: https://x/hush\n"
PLANNED = "maintenance:\n  - name: move\n    from: 2026-02-01\n"
REPORT = RECEIVER + "reports:\n  - receivers: [chat]\n    name: daily\n"

TABLE = [
    Bad("version", "version: 2\n", 1, "version", "2", "not a known value", "write 1"),
    Bad("section", "slo: []\n", 1, "slo", "", "unknown key", "did you mean `slos`?"),
    Bad("far from any key", "colour: red\n", 1, "colour", "", "unknown key", "known here: version, slos"),
    Bad("key", SLO + "    objectve: 98\n", 4, "slos[0].objectve", "", "unknown key", "did you mean `objective`?"),
    Bad("name of the code", SLO + "    window_s: 5\n", 4, "slos[0].window_s", "", "unknown key", "`window`?"),
    Bad("missing", "slos:\n  - name: a\n", 2, "slos[0].objective", "", "is missing", "add `objective:`"),
    Bad("objective 0", SLO.replace("99", "0"), 3, "slos[0].objective", "0", "asks for nothing", "99%"),
    Bad("objective 100", SLO.replace("99", "100%"), 3, "slos[0].objective", "'100%'", "no error budget", "below 100"),
    Bad("objective 1000", SLO.replace("99", "1000"), 3, "slos[0].objective", "1000", "no error budget", "below 100"),
    Bad(
        "ratio",
        SLO.replace("99", "0.999"),
        3,
        "slos[0].objective",
        "0.999",
        "looks like a ratio",
        "write a percentage: 99.9%",
    ),
    Bad("objective text", SLO.replace("99", "high"), 3, "slos[0].objective", "'high'", "not a number", "99.5%"),
    Bad("objective nan", SLO.replace("99", ".nan"), 3, "slos[0].objective", "'.nan'", "not a number", "99.5%"),
    Bad("objective true", SLO.replace("99", "yes"), 3, "slos[0].objective", "True", "not a number", "99.5%"),
    Bad(
        "unitless", SLO + "    window: 30\n", 4, "slos[0].window", "30", "without a unit", "write 30s, 30m, 30h or 30d"
    ),
    Bad("no duration", SLO + "    window: 1mo\n", 4, "slos[0].window", "'1mo'", "not a duration", "15m, 6h, 30d"),
    Bad("short window", SLO + "    window: 1h\n", 4, "slos[0].window", "'1h'", "not between 1d and 365d", "30d"),
    Bad("part of a day", SLO + "    window: 36h\n", 4, "slos[0].window", "'36h'", "whole number of days", "28d"),
    Bad("indicator", SLO + "    indicator: speed\n", 4, "slos[0].indicator", "'speed'", "known value", "'latency'"),
    Bad("events", SLO + "    of: nods\n", 4, "slos[0].of", "'nods'", "known value", "'nodes'"),
    Bad(
        "no threshold", "thresholds:\n  eror_rate: {}\n", 2, "thresholds.eror_rate", "", "unknown key", "`error_rate`?"
    ),
    Bad("ratio of errors", THRESHOLD + "above: 0.05\n", 3, "thresholds.error_rate.above", "0.05", "not a perc", "80%"),
    Bad("all errors", THRESHOLD + "above: 100%\n", 3, "thresholds.error_rate.above", "'100%'", "below 100%", "null"),
    Bad("window of seconds", THRESHOLD + "window: 90s\n", 3, "thresholds.error_rate.window", "'90s'", "minutes", "15m"),
    Bad("window of weeks", THRESHOLD + "window: 8d\n", 3, "thresholds.error_rate.window", "'8d'", "to 7d", "write 15m"),
    Bad("waits two days", THRESHOLD + "for: 2d\n", 3, "thresholds.error_rate.for", "'2d'", "up to 1d", "null"),
    Bad(
        "no severity", THRESHOLD + "severity: warn\n", 3, "thresholds.error_rate.severity", "'warn'", "known", "'page'"
    ),
    Bad("few", THRESHOLD + "at_least: 0\n", 3, "thresholds.error_rate.at_least", "0", "greater than", "of at least 1"),
    Bad(
        "by node", THRESHOLD + "per: [node]\n", 3, "thresholds.error_rate.per", "['node']", "told apart", "graph, team"
    ),
    Bad("once", THRESHOLD + "per: [team, team]\n", 3, "thresholds.error_rate.per", "['team', 'team']", "twice", "once"),
    Bad(
        "a tool's errors",
        THRESHOLD + "select: {tool: x}\n",
        3,
        "thresholds.error_rate.select.tool",
        "'x'",
        "told apart by tool",
        "write only graph, team",
    ),
    Bad(
        "a team that is not judged by itself",
        THRESHOLD + "overrides: [{select: {team: a}, above: 9%}]\n",
        3,
        "thresholds.error_rate.overrides[0].select.team",
        "'a'",
        "not judged by itself",
        "write only graph, or add team to `per:`",
    ),
    Bad(
        "an override of all",
        THRESHOLD + "overrides: [{select: {}, above: 9%}]\n",
        3,
        "thresholds.error_rate.overrides[0].select",
        "{}",
        "matches everything",
        "say for whom",
    ),
    Bad(
        "an override of nothing",
        THRESHOLD + "overrides: [{select: {graph: a}}]\n",
        3,
        "thresholds.error_rate.overrides[0]",
        "{'select'",
        "changes nothing",
        "`above:`, `severity:` or `disabled: true`",
    ),
    Bad("no bound", DURATION + "above: 15m\n", 3, "thresholds.run_duration.above", "'15m'", "none of", "10m or 30m"),
    Bad("no size", "thresholds:\n  state_size: {above: 5}\n", 2, "thresholds.state_size.above", "5", "a size", "5MB"),
    Bad(
        "a size that is no bound",
        "thresholds:\n  state_size: {above: 6MB}\n",
        2,
        "thresholds.state_size.above",
        "'6MB'",
        "none of the bounds",
        "write 5MB or 16MiB",
    ),
    Bad(
        "a cost that is no bound",
        "thresholds:\n  run_cost_usd: {above: 15}\n",
        2,
        "thresholds.run_cost_usd.above",
        "15",
        "none of the bounds",
        "write 10 or 20",
    ),
    Bad(
        "a latency that nobody can tell",
        "thresholds:\n  latency_p95: {above: 50ms}\n",
        2,
        "thresholds.latency_p95.above",
        "'50ms'",
        "shorter than anything",
        "write 100ms or more",
    ),
    Bad(
        "a latency that nobody measures",
        "thresholds:\n  latency_p95: {above: 1h}\n",
        2,
        "thresholds.latency_p95.above",
        "'1h'",
        "never be exceeded",
        "less than 1h",
    ),
    Bad("an odd history", USUAL + "history: 1h\n", 3, "anomalies.error_rate.history", "'1h'", "from 1d to 28d", "7d"),
    Bad("half the points", USUAL + "margin: 60%\n", 3, "anomalies.error_rate.margin", "'60%'", "up to 50%", "write 5%"),
    Bad(
        "nodes", USUAL + "per: [node]\n", 3, "anomalies.error_rate.per", "['node']", "by node", "write only graph, team"
    ),
    Bad("long needs", USUAL + "needs: 8d\n", 3, "anomalies.error_rate.needs", "'8d'", "longer than", "up to 7d"),
    Bad(
        "more weeks than there are",
        "anomalies:\n  traffic_drop: {weeks: 2, needs_weeks: 3}\n",
        2,
        "anomalies.traffic_drop.needs_weeks",
        "3",
        "more than the 2 weeks",
        "more `weeks:`",
    ),
    Bad(
        "both of one",
        "anomalies:\n  error_rate: null\n  errors_and_latency: {}\n",
        3,
        "anomalies.errors_and_latency",
        "{}",
        "needs bands of error_rate and latency_p95",
        "write null",
    ),
    Bad(
        "no limit of a provider",
        "provider_limits:\n  - name: a\n    provider: openai\n",
        2,
        "provider_limits[0].name",
        "'a'",
        "has no limit",
        "add `tokens_per_minute:`",
    ),
    Bad(
        "near nothing",
        LIMIT + "    warn_at: 120%\n",
        5,
        "provider_limits[0].warn_at",
        "'120%'",
        "up to 100%",
        "write 80%",
    ),
    Bad(
        "tokens by tool", LIMIT + "    per: [tool]\n", 5, "provider_limits[0].per", "['tool']", "by tool", "graph, node"
    ),
    Bad("no tokens", LIMIT.replace("9", "0"), 4, "provider_limits[0].tokens_per_minute", "0", "greater", "least 1"),
    Bad(
        "a limit twice",
        LIMIT + LIMIT.partition("\n")[2],
        5,
        "provider_limits[1].name",
        "'a'",
        "name is taken",
        "the first is in graphmeter.yaml:2",
    ),
    Bad(
        "graph of no node",
        SLO + "    per: [graph, node]\n",
        4,
        "slos[0].per",
        "['graph', 'node']",
        "by node",
        "graph, team",
    ),
    Bad("no dimension", SLO + "    per: [nod]\n", 4, "slos[0].per[0]", "'nod'", "known value", "'node'"),
    Bad("twice", SLO + "    per: [team, team]\n", 4, "slos[0].per", "['team', 'team']", "team twice", "once"),
    Bad(
        "runs of a tool",
        SLO + "    select: {tool: x}\n",
        4,
        "slos[0].select.tool",
        "'x'",
        "not counted by tool",
        "graph, team",
    ),
    Bad(
        "no threshold",
        SLO + "    indicator: latency\n",
        4,
        "slos[0].indicator",
        "'latency'",
        "no threshold",
        "100ms, 250ms",
    ),
    Bad(
        "no bound",
        SLOW + "    threshold: 45s\n",
        5,
        "slos[0].threshold",
        "'45s'",
        "none of the bounds",
        "write 30s or 1m",
    ),
    Bad("below all bounds", SLOW + "    threshold: 1ms\n", 5, "slos[0].threshold", "'1ms'", "none of", "write 100ms"),
    Bad("above all bounds", SLOW + "    threshold: 2h\n", 5, "slos[0].threshold", "'2h'", "none of", "write 1h"),
    Bad("threshold without unit", SLOW + "    threshold: 30\n", 5, "slos[0].threshold", "30", "without a unit", "30s"),
    Bad(
        "seconds in USD",
        SLOW + "    threshold_usd: 5\n",
        5,
        "slos[0].threshold_usd",
        "5",
        "to latency",
        "write `threshold:`",
    ),
    Bad(
        "nothing to exceed",
        SLO + "    threshold: 30s\n",
        4,
        "slos[0].threshold",
        "'30s'",
        "to availability",
        "leave it out",
    ),
    Bad(
        "latency of tools",
        SLOW + "    of: tools\n",
        4,
        "slos[0].indicator",
        "'latency'",
        "of tools",
        "runs or nodes or models",
    ),
    Bad(
        "cost bound",
        SLO + "    indicator: cost\n    threshold_usd: 0.3\n",
        5,
        "slos[0].threshold_usd",
        "0.3",
        "none of the bounds",
        "write 0.25 or 0.5",
    ),
    Bad("min events", SLO + "    min_bad_events: 0\n", 4, "slos[0].min_bad_events", "0", "greater", "at least 1"),
    Bad(
        "selector",
        SLO + "    select: {grph: x}\n",
        4,
        "slos[0].select.grph",
        "",
        "unknown key",
        "did you mean `graph`?",
    ),
    Bad("glob", SLO + "    select: {graph: 5}\n", 4, "slos[0].select.graph", "5", "not text", '"support-*"'),
    Bad("no globs", SLO + "    select: {graph: []}\n", 4, "slos[0].select.graph", "[]", "matches nothing", '"*"'),
    Bad("name", SLO.replace("a\n", "A b\n"), 2, "slos[0].name", "'A b'", "not a name", "lower-case"),
    Bad("number as name", SLO.replace("a\n", "5\n"), 2, "slos[0].name", "5", "valid string", "in quotes"),
    Bad("no list", "slos: {name: a}\n", 1, "slos", "{'name': 'a'}", "valid tuple", "write a list"),
    Bad("no mapping", "slos: [a]\n", 1, "slos[0]", "'a'", "valid dictionary", "write a mapping"),
    Bad(
        "same name",
        SLO + "  - name: a\n    objective: 95\n",
        4,
        "slos[1].name",
        "'a'",
        "the name is taken",
        "the first is in graphmeter.yaml:2",
    ),
    Bad("limit", BUDGET.replace("10", "-3"), 3, "budgets[0].limit_usd", "-3", "not above zero", "250 or 99.50"),
    Bad("dust", BUDGET.replace("10", "0.0000000001"), 3, "budgets[0].limit_usd", "1E-10", "nano-USD", "nine decimals"),
    Bad("no limit", "budgets:\n  - name: a\n", 2, "budgets[0].limit_usd", "", "is missing", "`limit_usd:`"),
    Bad(
        "two limits", BUDGET + "    limit_tokens: 5\n", 4, "budgets[0].limit_tokens", "5", "beside limit_usd", "of each"
    ),
    Bad(
        "half a token",
        BUDGET.replace("limit_usd: 10", "limit_tokens: 0.5"),
        3,
        "budgets[0].limit_tokens",
        "0.5",
        "whole",
        "5_000_000",
    ),
    Bad("rolling", BUDGET + "    rolling: 90m\n", 4, "budgets[0].rolling", "'90m'", "whole number of hours", "24h"),
    Bad(
        "rolling month",
        BUDGET + "    rolling: 24h\n    period: month\n",
        4,
        "budgets[0].rolling",
        "'1d'",
        "beside a period",
        "one",
    ),
    Bad("per what", BUDGET + "    per: [taem]\n", 4, "budgets[0].per", "['taem']", "no attribution", "`team`"),
    Bad(
        "match what",
        BUDGET + "    match: {modle: a}\n",
        4,
        "budgets[0].match.modle",
        "'a'",
        "no attribution",
        "`model`",
    ),
    Bad(
        "space",
        BUDGET + "    match: {team: 'cx '}\n",
        4,
        "budgets[0].match.team",
        "'cx '",
        "matches nothing",
        "without",
    ),
    Bad(
        "opening",
        BUDGET + "    opening_spend: 4\n",
        4,
        "budgets[0].opening_spend",
        "4",
        "without opening_in",
        "opening_in",
    ),
    Bad(
        "much opening",
        BUDGET + "    opening_spend: 1001\n    opening_in: 2026-11\n",
        4,
        "budgets[0].opening_spend",
        "'1001'",
        "100 times the limit",
        "both figures",
    ),
    Bad(
        "opening when",
        BUDGET + "    opening_in: may\n",
        4,
        "budgets[0].opening_in",
        "'may'",
        "not a period",
        "2026-W47",
    ),
    Bad("riches", BUDGET.replace("10", "1e12"), 3, "budgets[0].limit_usd", "'1e12'", "billion", "250"),
    Bad(
        "period",
        BUDGET + "    period: year\n",
        4,
        "budgets[0].period",
        "'year'",
        "known value",
        "'month', 'week' or 'day'",
    ),
    Bad(
        "zone",
        BUDGET + "    timezone: Mars/X\n",
        4,
        "budgets[0].timezone",
        "'Mars/X'",
        "unknown time zone",
        "Europe/Berlin",
    ),
    Bad(
        "path as zone",
        BUDGET + "    timezone: ../../etc\n",
        4,
        "budgets[0].timezone",
        "'../../etc'",
        "unknown time",
        "UTC",
    ),
    Bad(
        "ratio as share",
        BUDGET + "    thresholds: [0.8]\n",
        4,
        "budgets[0].thresholds[0]",
        "0.8",
        "percentage",
        "its sign: 80%",
    ),
    Bad(
        "share 0", BUDGET + "    thresholds: [0%]\n", 4, "budgets[0].thresholds", "['0%']", "0% is not above 0%", "80%"
    ),
    Bad(
        "same share",
        BUDGET + "    thresholds: [80%, 80.0%]\n",
        4,
        "budgets[0].thresholds",
        "[",
        "threshold twice",
        "once",
    ),
    Bad(
        "no shares",
        BUDGET + "    thresholds: []\n",
        4,
        "budgets[0].thresholds",
        "[]",
        "warns at nothing",
        "[80%, 100%]",
    ),
    Bad(
        "maybe", BUDGET + "    per_team: maybe\n", 4, "budgets[0].per_team", "'maybe'", "valid boolean", "true or false"
    ),
    Bad("lost", "runs:\n  lost_after: 0m\n", 2, "runs.lost_after", "'0m'", "out of range", "above zero"),
    Bad("lost list", "runs:\n  lost_after: [1]\n", 2, "runs.lost_after", "[1]", "not a duration", "15m"),
    Bad("label", "labels: {caps: {nod: 5}}\n", 1, "labels.caps", "{'nod': 5}", "no metric has a label 'nod'", "node"),
    Bad("cap", "labels:\n  caps:\n    node: 0\n", 3, "labels.caps.node", "0", "greater", "at least 1"),
    Bad(
        "scheme",
        JAEGER.replace("http:", "grpc:"),
        4,
        "forward.destinations[0].endpoint",
        "'grpc://j:4318'",
        "not an http",
        "http://jaeger:4318",
    ),
    Bad(
        "port",
        JAEGER.replace("4318", "99999"),
        4,
        "forward.destinations[0].endpoint",
        "'http://j:99999'",
        "not an http",
        "4318",
    ),
    Bad(
        "header",
        JAEGER + "      headers: {X Y: b}\n",
        5,
        "forward.destinations[0].headers.X Y",
        "",
        "name of an HTTP",
        "X-Api-Key",
    ),
    Bad(
        "tls without https",
        JAEGER + "      headers: {Authorization: hush}\n      tls: {ca_file: ca.pem}\n",
        3,
        "forward.destinations[0]",
        "",
        "not https",
        "write https://",
    ),
    Bad(
        "key alone",
        JAEGER.replace("http:", "https:") + "      tls: {key_file: k.pem}\n",
        5,
        "forward.destinations[0].tls",
        "",
        "without its certificate",
        "add cert_file",
    ),
    Bad(
        "trust none and one",
        JAEGER.replace("http:", "https:") + "      tls: {ca_file: c.pem, insecure_skip_verify: true}\n",
        5,
        "forward.destinations[0].tls",
        "",
        "contradict",
        "keep one",
    ),
    Bad(
        "compression",
        JAEGER + "      compression: zstd\n",
        5,
        "forward.destinations[0].compression",
        "'zstd'",
        "known value",
        "'gzip' or 'none'",
    ),
    Bad(
        "timeout",
        JAEGER + "      timeout: 1h\n",
        5,
        "forward.destinations[0].timeout",
        "'1h'",
        "longer than 5m",
        "30s",
    ),
    Bad(
        "secret file",
        JAEGER + "      headers: {Authorization: '${file:/nowhere/token}'}\n",
        5,
        "forward.destinations[0].headers.Authorization",
        "",
        "the file /nowhere/token cannot be read: No such file",
        "may read",
    ),
    Bad("share", RULE.replace("10%", "110%"), 4, "sampling.rules[0].keep", "'110%'", "not between 0%", "10%"),
    Bad("bare share", RULE.replace("10%", "0.1"), 4, "sampling.rules[0].keep", "0.1", "not a percentage", "sign"),
    Bad("no share", "sampling:\n  rules:\n    - name: a\n", 3, "sampling.rules[0].keep", "", "is missing", "keep:"),
    Bad("slow", RULE + "      slow: 30\n", 5, "sampling.rules[0].slow", "30", "without a unit", "30s"),
    Bad("free", RULE + "      expensive_usd: 0\n", 5, "sampling.rules[0].expensive_usd", "0", "not above", "250"),
    Bad(
        "rule twice",
        RULE + "    - {name: chat, keep: 5%}\n",
        5,
        "sampling.rules[1].name",
        "'chat'",
        "the name is taken",
        "graphmeter.yaml:3",
    ),
    Bad("quiet", "sampling:\n  quiet: 1h\n", 1, "sampling", "{", "quiet (1h) is longer than at_most (10m)", "shorter"),
    Bad(
        "variable here",
        "alerting:\n  grafana_url: http://${HOST}\n",
        2,
        "alerting.grafana_url",
        "'http://${HOST}'",
        "not expanded",
        "endpoint and headers",
    ),
    Bad(
        "grafana",
        "alerting: {grafana_url: nope}\n",
        1,
        "alerting.grafana_url",
        "'nope'",
        "not an http or https URL",
        "http://localhost:3000",
    ),
    Bad(
        "receiver url",
        RECEIVER.replace("https:", "ftp:"),
        4,
        "receivers[0].url",
        "'ftp://x/***'",
        "not an http",
        "hooks",
    ),
    Bad(
        "kind", RECEIVER.replace("slack", "sms"), 3, "receivers[0].kind", "'sms'", "known value", "'webhook' or 'slack'"
    ),
    Bad(
        "receiver twice",
        RECEIVER + "  - {name: chat, url: http://x}\n",
        5,
        "receivers[1].name",
        "'chat'",
        "taken",
        ":2",
    ),
    Bad("slow receiver", RECEIVER + "    timeout: 5m\n", 5, "receivers[0].timeout", "'5m'", "longer than 1m", "10s"),
    Bad(
        "receiver header",
        RECEIVER + "    headers: {Authorization: [hush]}\n",
        5,
        "receivers[0].headers.Authorization",
        "",
        "not text",
        "Bearer",
    ),
    Bad("no receiver", "receivers: [https://x/hush]\n", 1, "receivers[0]", "", "valid dictionary", "mapping"),
    Bad(
        "report to nobody", REPORT.replace("chat]", "char]"), 6, "reports[0].receivers[0]", "'char'", "no such", "chat"
    ),
    Bad(
        "every",
        REPORT + "    every: year\n",
        8,
        "reports[0].every",
        "'year'",
        "known value",
        "'month', 'week' or 'day'",
    ),
    Bad(
        "maintenance backwards",
        PLANNED + "    to: 2026-01-01\n",
        4,
        "maintenance[0].to",
        "'2026-01-01'",
        "not after from",
        "later",
    ),
    Bad("maintenance date", PLANNED + "    to: soon\n", 4, "maintenance[0].to", "'soon'", "not a date", "2026-01-01"),
    Bad(
        "maintenance of nothing",
        PLANNED + "    to: 2026-02-02\n    slos: [runs-*, run-availability]\n",
        5,
        "maintenance[0].slos[1]",
        "'run-availability'",
        "no such SLO",
        "runs-availability",
    ),
    Bad("report by", REPORT + "    by: team,moon\n", 8, "reports[0].by", "'team,moon'", "dimension 'moon'", "service"),
    Bad("report zone", REPORT + "    timezone: Mars\n", 8, "reports[0].timezone", "'Mars'", "unknown", "Europe/Berlin"),
    Bad(
        "unattributed",
        "alerting:\n  unattributed:\n    share: 100%\n",
        3,
        "alerting.unattributed.share",
        "'100%'",
        "100% is not above 0%",
        "null",
    ),
    Bad(
        "owner",
        "slos:\n  - {name: a, objective: 99, owner: serach}\nalerting:\n  owners:\n    - {name: search}\n",
        2,
        "slos[0].owner",
        "'serach'",
        "no such owner",
        "write one of search",
    ),
    Bad(
        "owner of nothing",
        "budgets:\n  - {name: a, limit_usd: 1, owner: cx}\n",
        2,
        "budgets[0].owner",
        "'cx'",
        "no such owner",
        "alerting.owners",
    ),
    Bad(
        "owner twice",
        "alerting:\n  owners:\n    - {name: cx}\n    - {name: cx}\n",
        4,
        "alerting.owners[1].name",
        "'cx'",
        "the name is taken",
        "the first is in",
    ),
    Bad(
        "no time to keep",
        "prometheus:\n  retention: 5h\n",
        2,
        "prometheus.retention",
        "'5h'",
        "less than a day",
        "such as 35d",
    ),
    Bad(
        "two webhooks",
        "alerting:\n  receivers:\n    page: {webhook: 'http://a', webhook_file: /b}\n",
        3,
        "alerting.receivers.page.webhook_file",
        "'/b'",
        "given beside webhook",
        "one of the two",
    ),
    Bad(
        "token for nobody",
        "alerting:\n  receivers:\n    page: {token_file: /b}\n",
        3,
        "alerting.receivers.page.token_file",
        "'/b'",
        "without a webhook",
        "webhook:",
    ),
    Bad(
        "secret file",
        "alerting:\n  receivers:\n    page:\n      pagerduty: {routing_key_file: secrets/key}\n",
        4,
        "alerting.receivers.page.pagerduty.routing_key_file",
        "'secrets/key'",
        "full path",
        "/etc/alertmanager/secrets",
    ),
    Bad(
        "channel",
        "alerting:\n  receivers:\n    page:\n      slack: {url_file: /b, channel: ' '}\n",
        4,
        "alerting.receivers.page.slack.channel",
        "' '",
        "not a channel",
        "#oncall",
    ),
    Bad("twice", "version: 1\nruns: {}\nruns: {}\n", 3, "runs", "", "written twice", "the first is in line 2"),
    Bad("not text", "5: x\n", 1, "5", "", "a key that is not text", "quoted"),
    Bad("list", "- a\n", 1, "", "", "is not a mapping", "`slos:`"),
    Bad("syntax", "slos:\n  - name: [\n", 3, "", "", "is not YAML", "indentation"),
    Bad("tag", "slos: !!python/object:os.system x\n", 1, "", "", "is not YAML", "indentation"),
    Bad("itself", "slos: &a [*a]\n", 0, "", "", "contains itself", "UTF-8"),
]


@pytest.fixture
def problems_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Every problem of a file of this text, which is called graphmeter.yaml."""
    monkeypatch.chdir(tmp_path)

    def load_it(text: str) -> tuple[Problem, ...]:
        Path("graphmeter.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load(Path("graphmeter.yaml"))
        return caught.value.problems

    return load_it


@pytest.mark.parametrize("bad", TABLE, ids=[bad.id for bad in TABLE])
def test_a_fault_names_file_line_field_value_and_remedy(bad: Bad, problems_of) -> None:  # type: ignore[no-untyped-def]
    (problem, *others) = problems_of(bad.text)
    assert not others or bad.id == "variable here", others
    assert ("graphmeter.yaml", bad.line, bad.field) == (problem.file, problem.line, problem.field)
    assert bad.message in problem.message
    assert bad.remedy in problem.remedy
    if bad.value:
        assert problem.value.startswith(bad.value)
        assert f"{bad.field} is {bad.value}" in str(problem)
    else:
        assert problem.value == ""


def test_every_fault_is_told_in_order_of_the_lines(problems_of) -> None:  # type: ignore[no-untyped-def]
    text = "slos:\n  - name: a\n    objective: 100\n    window: 3\nbudgets:\n  - name: A\n    limit_usd: 0\nbogus: 1\n"
    problems = problems_of(text)
    assert [3, 4, 6, 7, 8] == [problem.line for problem in problems]
    assert "\n".join(map(str, problems)) == str(ConfigError(problems))


def test_a_message_reads_as_one_line(problems_of) -> None:  # type: ignore[no-untyped-def]
    (problem,) = problems_of(SLO.replace("99", "0.99"))
    expected = "graphmeter.yaml:3: slos[0].objective is 0.99: looks like a ratio (write a percentage: 99%)"
    assert expected == str(problem)


def test_a_long_value_is_shortened(problems_of) -> None:  # type: ignore[no-untyped-def]
    (problem,) = problems_of(SLO.replace("99", "9" * 500 + "x"))
    assert 60 == len(problem.value)


def test_aliases_of_aliases_are_refused_before_they_unfold(problems_of) -> None:  # type: ignore[no-untyped-def]
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (problem,) = problems_of("\n".join(lines))
    assert "too many values" in problem.message


def test_a_file_that_does_not_exist_names_the_command_that_writes_one(tmp_path: Path) -> None:
    path = tmp_path / "graphmeter.yaml"
    with pytest.raises(ConfigError, match=f"does not exist .write it with: graphmeter init {path}"):
        load(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_is_not_text_is_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "graphmeter.yaml"
    path.write_bytes(b"slos: \xff\xfe")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load(path)
