"""A configuration that has every alert there is, also those that the defaults leave out."""

from __future__ import annotations

from graphmeter_config import Config

EVERY_ALERT = Config.model_validate(
    {
        "thresholds": {"node_error_rate": {}, "node_latency_p95": {}, "cache_hits": {}},
        "provider_limits": [{"name": "openai", "provider": "openai", "tokens_per_minute": 10_000}],
    }
)
