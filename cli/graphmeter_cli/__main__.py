"""`python -m graphmeter_cli`: the same command where the console script is not on the path."""

from graphmeter_cli import main

main()
