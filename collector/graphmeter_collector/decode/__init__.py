"""OTLP messages in, SpanRecords out: who ran what, for whom, how long, with how many tokens. Pure functions."""
