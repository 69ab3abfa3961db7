"""Random passwords and free ports for `docker-compose.yml`, written once into `.env`: a file that git ignores.

Run it before the first `docker compose up`. What is in `.env` already is never changed, because the databases remember
the passwords they were made with; missing ones are added. Ports are looked at when the file is made, and never again: later
it is the stack itself that listens there. Needs nothing but Python.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path

NAMES = ("POSTGRES_PASSWORD", "GRAPHMETER_DB_PASSWORD", "GRAFANA_DB_PASSWORD", "GRAFANA_ADMIN_PASSWORD")
"""Variables that the compose file demands."""

PORTS = {
    "GRAPHMETER_COLLECTOR_PORT": 4318,
    "GRAPHMETER_COLLECTOR_GRPC_PORT": 4317,
    "GRAPHMETER_JAEGER_PORT": 16686,
    "GRAPHMETER_PROMETHEUS_PORT": 9090,
    "GRAPHMETER_ALERTMANAGER_PORT": 9093,
    "GRAPHMETER_GRAFANA_PORT": 3000,
}
"""Variables for ports, and what the compose file takes without them."""

HEADER = (
    "# Passwords of the stack in docker-compose.yml. Made once, never committed; delete the volumes to change them.\n"
)
PASSWORD_BYTES = 24


def write(path: Path) -> list[str]:
    """Add what is missing to `path`, readable by its owner only; says which variables were added.

    A new file also moves the ports on which somebody listens already: a Jaeger or a Grafana of one's own stays undisturbed.

    Passwords are hexadecimal, so that they need no quoting in a URL, in YAML or in SQL.

    Raises:
        OSError: the file cannot be read or written.
    """
    new = not path.exists()
    content = HEADER if new else path.read_text(encoding="utf-8")
    present = {line.split("=", 1)[0].removeprefix("export ").strip() for line in content.splitlines() if "=" in line}
    missing = [name for name in NAMES if name not in present]
    if missing:
        lines = "".join(f"{name}={secrets.token_hex(PASSWORD_BYTES)}\n" for name in missing)
        moved = _moved() if new else {}
        lines += "".join(f"{name}={port}\n" for name, port in moved.items())
        missing += moved
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


def _moved() -> dict[str, int]:
    """Another port for each on which somebody listens."""
    taken = set(PORTS.values())
    moved = {}
    for name, port in PORTS.items():
        if _is_busy(port):
            moved[name] = next(each for each in range(port + 1, 65536) if each not in taken and not _is_busy(each))
            taken.add(moved[name])
    return moved


def _is_busy(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _port(path: Path, name: str) -> str:
    lines = [line.partition("=") for line in path.read_text(encoding="utf-8").splitlines()]
    return next((value for variable, _, value in lines if variable == name), str(PORTS[name]))


def main(arguments: list[str]) -> int:
    """Write `.env` beside the compose file, or the file named as the only argument."""
    path = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent / ".env"
    added = write(path)
    if added:
        print(f"{path}: wrote {', '.join(added)}")
        for name in (name for name in added if name in PORTS):
            print(f"Somebody listens on port {PORTS[name]}: {name}={_port(path, name)}")
        grafana = f"http://localhost:{_port(path, 'GRAPHMETER_GRAFANA_PORT')}"
        print(f"Grafana: {grafana}, user admin, password GRAFANA_ADMIN_PASSWORD in that file")
    else:
        print(f"{path}: has every password already")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
