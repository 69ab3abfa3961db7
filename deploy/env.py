"""Random passwords for `docker-compose.yml`, written once into `.env`: nothing in, a file that git ignores out.

Run it before the first `docker compose up`. What is in `.env` already is never changed, because the databases remember
the passwords they were made with; missing ones are added. Needs nothing but Python.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

NAMES = ("POSTGRES_PASSWORD", "GRAPHMETER_DB_PASSWORD", "GRAFANA_DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD")
"""Variables that the compose file demands."""

HEADER = (
    "# Passwords of the stack in docker-compose.yml. Made once, never committed; delete the volumes to change them.\n"
)
PASSWORD_BYTES = 24


def write(path: Path) -> list[str]:
    """Add what is missing to `path`, readable by its owner only; says which variables were added.

    Passwords are hexadecimal, so that they need no quoting in a URL, in YAML or in SQL.

    Raises:
        OSError: the file cannot be read or written.
    """
    content = path.read_text(encoding="utf-8") if path.exists() else HEADER
    present = {line.split("=", 1)[0].removeprefix("export ").strip() for line in content.splitlines() if "=" in line}
    missing = [name for name in NAMES if name not in present]
    if missing:
        lines = "".join(f"{name}={secrets.token_hex(PASSWORD_BYTES)}\n" for name in missing)
        separator = "" if content.endswith("\n") or not content else "\n"
        # A new file with the right mode takes the old one's place: at no moment can another user read half of it.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content + separator + lines)
        draft.replace(path)
    else:
        path.chmod(0o600)
    return missing


def main(arguments: list[str]) -> int:
    """Write `.env` beside the compose file, or the file named as the only argument."""
    path = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent / ".env"
    added = write(path)
    if added:
        print(f"{path}: wrote {', '.join(added)}")
        print("Grafana: http://localhost:3000, user admin, password GRAFANA_ADMIN_PASSWORD in that file")
    else:
        print(f"{path}: has every password already")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
