"""What `graphmeter doctor` does: look at a collector from outside, send it one run, read that run back."""
