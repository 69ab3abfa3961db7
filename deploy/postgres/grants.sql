-- What Grafana may read: facts, run by the owner of the tables after every migration, any number of times. Not span_body
-- and span_envelope: they hold the spans as sent, which are prompts where an application has switched those on.
GRANT USAGE ON SCHEMA public TO grafana_reader;
GRANT SELECT ON run, run_node, span, ledger, ledger_price, ledger_waste, rollup_hour, rollup_day, wait, graph_topology
  TO grafana_reader;
