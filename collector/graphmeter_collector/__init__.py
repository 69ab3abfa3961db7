"""The collector: OTLP in; database, metrics, API and forwarded traces out. `app` puts the stages together."""
