"""The command on an install that lacks an extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
for module in {modules!r}:
    sys.modules[module] = None
sys.argv = ["graphmeter", *{arguments!r}]
from graphmeter_cli import main
main()
"""


def run_without(modules: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `graphmeter` in a process where these modules cannot be imported."""
    program = WITHOUT.format(modules=modules, arguments=arguments)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        pytest.param("runs", "click", "collector", id="nothing but the client"),
        pytest.param("serve", "fastapi", "collector", id="the collector"),
        pytest.param("migrate", "sqlalchemy", "collector", id="the database"),
        pytest.param("rules", "pydantic", "alerts", id="rules"),
        pytest.param("dashboards", "grafana_foundation_sdk", "dashboards", id="dashboards"),
        pytest.param("demo", "langgraph", "all", id="the demo"),
        pytest.param("stack", "sqlalchemy", "alerts,collector", id="the stack"),
    ],
)
def test_a_missing_extra_is_answered_with_the_line_that_installs_it(command: str, missing: str, extra: str) -> None:
    result = run_without([missing], command)

    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"`graphmeter {command}` needs {missing}, which is not installed: pip install 'graphmeter[{extra}]'\n"
    )


def test_help_needs_nothing_that_a_command_needs() -> None:
    result = run_without(["fastapi", "sqlalchemy", "pydantic", "rich", "langgraph", "aiohttp", "yaml"], "--help")

    assert (result.returncode, result.stderr) == (0, "")
    assert "graphmeter demo" in result.stdout


def test_help_is_quick_because_it_imports_none_of_the_commands() -> None:
    program = """
import sys
sys.argv = ["graphmeter", "--help"]
from graphmeter_cli import main
try:
    main()
finally:
    print(sorted(name for name in sys.modules if name.startswith("graphmeter")), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert result.stderr == "['graphmeter', 'graphmeter.names', 'graphmeter_cli', 'graphmeter_cli.group']\n"


def test_the_version_is_that_of_the_distribution() -> None:
    result = run_without([], "--version")

    assert (result.returncode, result.stdout) == (0, "graphmeter 0.1.0\n")
