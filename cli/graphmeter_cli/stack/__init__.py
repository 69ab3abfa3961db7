"""Collector, Prometheus and Alertmanager on one machine without Docker: one command starts them, one Ctrl-C ends them."""
