"""What `graphmeter demo` does: run the example graphs, verify what was stored, show it."""
