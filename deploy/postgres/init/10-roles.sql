-- Two roles beside the superuser, made when the data volume is new: `graphmeter` owns the database and is what the
-- collector is, `grafana_reader` reads what grants.sql lets it. Passwords come from the environment of psql.
\getenv owner_password GRAPHMETER_DB_PASSWORD
\getenv reader_password GRAFANA_DB_PASSWORD
\set ON_ERROR_STOP 1

CREATE ROLE graphmeter LOGIN PASSWORD :'owner_password';
ALTER DATABASE graphmeter OWNER TO graphmeter;

-- A dashboard must never hold up the collector: few connections, short statements, nothing written.
CREATE ROLE grafana_reader LOGIN PASSWORD :'reader_password' CONNECTION LIMIT 10;
ALTER ROLE grafana_reader SET default_transaction_read_only = on;
ALTER ROLE grafana_reader SET statement_timeout = '30s';
ALTER ROLE grafana_reader SET idle_in_transaction_session_timeout = '30s';

REVOKE ALL ON DATABASE graphmeter FROM PUBLIC;
GRANT CONNECT ON DATABASE graphmeter TO grafana_reader;
