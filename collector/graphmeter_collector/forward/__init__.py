"""Committed spans on to Jaeger or any other OTLP backend, from an outbox in the database."""
