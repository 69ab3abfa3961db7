"""One file per subcommand; the click command in each is called `command`."""
