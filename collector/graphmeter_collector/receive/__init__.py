"""HTTP requests in, OTLP messages out, and the answers that the OTLP specification asks for."""
