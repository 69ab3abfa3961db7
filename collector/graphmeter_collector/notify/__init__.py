"""Messages in, receivers told: written for people and machines, delivered with retries, secrets kept out of logs."""
