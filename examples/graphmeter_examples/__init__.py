"""Example applications: real LangGraph graphs whose only stand-in is the chat model, and the truth about what they did.

`graphmeter demo`, the tests and the benchmarks drive them; `Tally` is what the collector's answers are compared with.
"""
