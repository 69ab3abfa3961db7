"""Helpers shared by tests: real servers, real databases, nothing faked."""
