"""What `graphmeter init` writes, and the JSON Schema that editors check it with."""

from __future__ import annotations

from typing import Any, Final

from graphmeter_config.model import Config

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_EXAMPLE: Final = """\
# What Graphmeter measures against. Every value below is the default: delete what you do not change.
# Further files in graphmeter.d/*.yaml are merged in: their lists are appended to these.
# After editing: graphmeter config check

version: 1

# Service level objectives. A run is good when it ends ok, bad when it fails or is lost; interrupted and cancelled runs
# are neither. Each graph is judged by itself. Giving this list replaces the default list; [] means none. All about it:
# docs/slos.md.
slos:
  - name: runs-availability
    description: Runs of a graph that end well, among those that end well, fail or are lost.
    indicator: availability   # or latency, first_token, cost, quality
    of: runs                  # or nodes, tools, models (their calls), outcomes
    objective: 99%            # of the events are good
    window: 30d               # rolling, whole days; or calendar_month, since the first (UTC)
    per: [graph]              # each graph is judged by itself; []: all together; left out: what is usual for `of`
    select:                   # which events: * is anything, ? one character; text or a list of texts
      service: "*"
      environment: "*"
      graph: "*"
      team: "*"
    min_bad_events: 5         # fewer bad events in an alert's long window raise no alert
  # - {name: search-node, of: nodes, objective: 99.5%, select: {graph: support, node: search}}
  # - {name: tools, of: tools, objective: 99%, per: [tool, environment]}
  # - {name: openai, of: models, objective: 99%, per: [provider, model], select: {provider: openai}}
  # - {name: runs-quick, indicator: latency, threshold: 30s, objective: 95%}    # without waiting for humans
  # - {name: first-token, indicator: first_token, of: models, threshold: 2s500ms, objective: 95%}
  # - {name: runs-cheap, indicator: cost, threshold_usd: 0.50, objective: 99%, per: [graph, team]}
  # - {name: escalations, indicator: quality, objective: 90%, select: {graph: support, kind: escalated}}

# Budgets, from the ledger. Giving this list replaces the default list; [] means none.
budgets:
  - name: team-monthly
    description: What a team may spend on model calls in a calendar month.
    limit_usd: 100            # or limit_tokens: 5000000
    period: month             # month, week (from Monday) or day, calendar periods; or instead rolling: 24h, 7d, 30d
    timezone: UTC             # where the period begins at midnight: Europe/Berlin
    match: {}                 # which spend counts, all of it here: {team: cx, graph: "support-*", "tag:plan": [free, trial]}
    per: [team]               # every team has the limit for itself; []: all share it
    thresholds: [80%, 100%]
    hard: false               # true: guards in applications stop what would exceed the limit
    receivers: []             # who is told of each threshold, by name
  # - name: free-plan
  #   limit_tokens: 50000000
  #   rolling: 24h
  #   match: {environment: prod, "tag:plan": [free, trial]}
  #   per: [tenant]
  #   hard: true
  # - name: company
  #   limit_usd: 5000
  #   opening_spend: 1212.50  # spent before Graphmeter counted,
  #   opening_in: 2026-11     # in this one period

# Plain thresholds beside SLOs: is anything out of the ordinary now? Left out, a kind is as it is here; null: no alert of it
# (thresholds: null: none at all). Severity info tells nobody, but shows. All about them: docs/thresholds.md.
thresholds:
  error_rate:                 # of runs that ended ok, failed or were lost
    above: 5%
    at_least: 20              # no alert with fewer of them in the window
    window: 15m
    for: 5m                   # how long it has to be so
    severity: ticket          # or page, info
    per: [graph]              # what is judged by itself
    overrides: []             # limits of their own; of several that match the first counts
    # - {select: {graph: "batch-*"}, above: 20%, severity: info}
    # - {select: {graph: playground}, disabled: true}
  latency_p95: {above: 5s, at_least: 20, window: 15m, for: 5m, severity: info, per: [graph], overrides: []}
  run_duration: {above: 10m, window: 15m, for: null, severity: info, per: [graph], overrides: []}
  run_cost_usd: {above: 20, window: 1h, for: null, severity: ticket, per: [graph], overrides: []}
  spend_usd_per_hour: {above: 100, for: 5m, severity: ticket, per: [], overrides: []}
  cost_usd_per_run: {above: 5, at_least: 20, window: 1h, for: 5m, severity: ticket, per: [graph], overrides: []}
  waste: {above: 20%, at_least_usd: 5, window: 6h, for: 5m, severity: ticket, per: [graph], overrides: []}
  unpriced_calls: {above: 0, window: 1h, for: 5m, severity: ticket, per: [provider, model], overrides: []}
  escalations:                # outcomes that the application tells
    {kind: escalated, above: 10%, at_least: 20, window: 6h, for: 5m, severity: ticket, per: [graph], overrides: []}
  human_wait: {above: 24h, for: 5m, severity: info, per: [graph], overrides: []}
  state_size: {above: 5MB, window: 15m, for: null, severity: info, per: [graph, node], overrides: []}
  rate_limited: {above: 5%, at_least: 20, window: 15m, for: 5m, severity: ticket, per: [provider, model], overrides: []}
  lost_runs: {above: 2, window: 1h, for: null, severity: ticket, per: [graph], overrides: []}
  # node_error_rate: {above: 10%}     # off, as are the next two, as long as they are not written
  # node_latency_p95: {above: 30s}
  # cache_hits: {below: 20%}

# What is unusual for a graph itself, with bands that dashboards draw. Silent until enough of its past is known: two weeks
# for traffic, 30 hours for the others. null: neither alert nor band. See docs/thresholds.md.
anomalies:
  traffic_drop:               # against the same hour of past weeks
    below: 40%                # of their median
    at_least: 30              # hours that usually have fewer runs are not judged
    weeks: 4
    needs_weeks: 2
    for: 15m
    severity: ticket
    per: [graph]
  error_rate:                 # above the mean of the past by so many standard deviations and a margin
    deviations: 3
    margin: 5%                # percentage points
    at_least: 20              # hours with fewer runs are neither judged nor part of the past
    history: 7d
    needs: 1d                 # of values
    for: 10m
    severity: info
    per: [graph]
  latency_p95: {deviations: 3, margin: 25%, at_least: 20, history: 7d, needs: 1d, for: 10m, severity: info, per: [graph]}
  cost_usd_per_run:
    {deviations: 3, margin: 25%, at_least: 20, history: 7d, needs: 1d, for: 10m, severity: info, per: [graph]}
  errors_and_latency: {for: 10m, severity: page}    # both above their bands

# What providers allow a minute; an alert tells when it is nearly used. Collectors do not see keys: select says which calls
# are made with one. See docs/thresholds.md.
provider_limits: []
  # - name: openai-prod
  #   provider: openai
  #   model: "gpt-4o*"
  #   key: prod               # in words, for alerts; never the key itself
  #   select: {environment: prod, team: [cx, search]}
  #   per: [provider, model]  # what has the limit for itself; []: all these calls share it
  #   tokens_per_minute: 10000      # or input_tokens_per_minute, output_tokens_per_minute
  #   requests_per_minute: 500
  #   count_cache_reads: true # false where the provider does not count input that it read from its cache
  #   warn_at: 80%
  #   window: 5m              # the mean of so long is compared
  #   for: null
  #   severity: ticket

# What calls cost where the built-in catalogue does not know it, or you pay otherwise. Of several entries that match a call
# the narrowest wins, wherever it stands; two that nothing tells apart are a fault. All about it: docs/prices.md.
prices:
  overrides: []               # prices of your own: they come before the catalogue
  # - name: gpt-4o-contract
  #   provider: openai
  #   model: gpt-4o*          # the model that answered or was asked for; or tool:, retriever:, rerank:
  #   # region: eu-*          # of the provider
  #   # deployment: prod-*    # of Azure, by the name that is asked for
  #   valid_from: 2026-01-01  # included; a date or an instant
  #   valid_to: 2027-01-01    # excluded
  #   timezone: Europe/Berlin
  #   rates: {input: 2.00, cache_read: 1.00, output: 8.00}    # USD per million tokens
  #   tiers: [{above: 200000, rates: {input: 4.00}}]          # by size of the prompt
  #   service_tiers: {batch: 50%, priority: 175%}             # shares of these rates
  #   discount: 5%
  # - {name: house-llama, provider: vllm, model: "llama*", currency: EUR, per_second: 0.0004}
  # - {name: laptop, provider: ollama, model: "*", free: true}
  # - {name: web-search, tool: tavily_search, per_call: 0.008}
  discounts: []               # what a contract takes off the catalogue's prices
  # - {name: openai-contract, provider: openai, percent: 12.5%, valid_from: 2026-01-01}
  service_tiers: []           # what tiers of service cost where the catalogue does not know
  # - {name: bedrock-flex, provider: aws, tier: flex, multiplier: 50%}
  currencies: []              # each rate holds until the next
  # - {currency: EUR, rates: [{from: 2026-01-01, usd_per_unit: 1.08}]}

runs:
  lost_after: 30m             # no sign of life for so long: the run is lost, and counts as bad
  settle_after: 1m            # spans of other instrumentations wait so long for the spans above them, then count without

# Backends that get the spans, such as Jaeger. endpoint and headers may read secrets: ${VARIABLE}, ${file:/run/secrets/x}.
forward:
  destinations: []
  # - name: jaeger
  #   endpoint: https://localhost:14318
  #   headers:
  #     Authorization: Bearer ${JAEGER_TOKEN}
  #   tls:
  #     ca_file: /etc/graphmeter/ca.pem         # left out: the certificates of the system
  #     cert_file: /etc/graphmeter/client.pem   # where the backend asks for one
  #     key_file: /etc/graphmeter/client.key
  #     insecure_skip_verify: false
  #   compression: gzip         # or none
  #   timeout: 30s
  #   sampled: true             # false: this one gets every trace, whatever `sampling` says

# Which traces are forwarded. Runs, spend, metrics and SLOs always cover all. Without rules every span leaves at once.
# A trace is kept or dropped whole; failed, lost and interrupted runs are always kept.
sampling:
  quiet: 10s                  # a trace is judged when its root was seen and nothing came for so long
  at_most: 10m                # and at the latest so long after its first span
  rules: []                   # for each run the first that matches; runs that none matches are kept
  # - name: chat
  #   match: {service: "*", environment: "*", graph: "chat-*", team: "*"}
  #   keep: 10%               # of what nothing else keeps, by trace id, as OpenTelemetry SDKs choose
  #   slow: 30s               # runs that take so long are kept
  #   expensive_usd: 0.50     # runs that cost so much are kept

retention:
  spans: 30d                  # facts of spans; older ones are refused
  bodies: 7d                  # the spans themselves, until they are forwarded
  # runs: 400d                # left out: kept for ever, as are the next two
  # ledger: 800d              # one row per model call
  # rollups: 800d             # hourly and daily sums

# Distinct values a metric label may take before further ones are counted as "other"; built-in caps otherwise.
labels:
  caps: {}
  # caps: {graph: 200, model: 200}

# Whom the collector itself tells; reports and budgets name them. url and headers may read secrets, as in forward.
receivers: []
  # - name: finops
  #   kind: slack               # or webhook: JSON
  #   url: ${SLACK_URL}         # https://hooks.slack.com/services/…
  # - name: billing
  #   url: https://billing.example.com/hooks/graphmeter
  #   headers:
  #     Authorization: Bearer ${BILLING_TOKEN}
  #   timeout: 10s

# Reports on spend, sent once when a day, week or month is over.
reports: []
  # - name: daily
  #   every: day                # or week, month
  #   timezone: Europe/Berlin
  #   by: [team, graph]         # or tag:plan, model, node, …
  #   top: 20                   # the dearest groups; the total is that of all
  #   receivers: [finops]
  #   format: slack             # or json, markdown; left out: what suits the receiver
  #   after: 15m                # how long after the end of the period; what comes later is missing

# Times of which everybody knew: reports on SLOs show them, and leave them out of what was achieved.
maintenance: []
  # - name: database-upgrade
  #   from: 2026-11-20T22:00    # or a date: its midnight
  #   to: 2026-11-21T02:00
  #   timezone: Europe/Berlin
  #   slos: "*"               # names of SLOs: text or a list of texts, * is anything

prometheus:
  retention: 35d              # its --storage.tsdb.retention.time, which is 15d unless it is told; SLO windows have to fit

alerting:
  grafana_url: http://localhost:3000
  # runbooks_url: https://wiki.example.com/graphmeter    # left out: alerts name the page's path, alerts/runbooks/NAME.md
  unattributed:               # spend of a day that names no team; null: no alert
    share: 20%                # of all spend
    at_least_usd: 100
  # Whom Alertmanager tells. Without an address an alert is visible there, and nobody is told. Secrets are in files of
  # their own, on its machine. All about it: docs/alerts.md.
  receivers:
    page: {}
    # page: {webhook: "http://localhost:9999/page"}
    ticket: {}
    # ticket: {slack: {url_file: /etc/alertmanager/secrets/slack, channel: "#graphs"}}
    info: {}
    # info: {webhook_file: /etc/alertmanager/secrets/webhook}   # Alertmanager 0.26 and newer
    deadman: {}
  owners: []                  # told in place of these about SLOs and budgets that name them (owner: search) and their teams
  # - name: search
  #   teams: [search, "search-*"]
  #   page: {pagerduty: {routing_key_file: /etc/alertmanager/secrets/pagerduty}}
  #   ticket: {webhook: "https://tickets.example.com/search", token_file: /etc/alertmanager/secrets/tickets}
  budget_crossings: once      # both: Alertmanager also tells of budgets whose receivers the collector tells
"""


def annotated_example() -> str:
    """An annotated graphmeter.yaml that means exactly the defaults."""
    return _EXAMPLE


def json_schema() -> dict[str, Any]:
    """JSON Schema of graphmeter.yaml."""
    schema = Config.model_json_schema(by_alias=True)
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "graphmeter.yaml"}
