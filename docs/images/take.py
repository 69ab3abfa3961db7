"""Take the pictures of the README again: `make pictures`. Nothing in, `docs/images/*.png` out.

Real pages of real programs: `graphmeter stack` with the example graphs under load until the SLO's fastest alert fires, some
five minutes, and Chromium (`CHROMIUM`, or on PATH) that opens the pages. Pages that cannot be had are left out: Debian's
Alertmanager has none, and Grafana is not part of the stack.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

HERE = Path(__file__).resolve().parent
WIDTH = 1000
CONFIG = """\
version: 1
slos:
  - {name: answers, objective: 99%}
budgets:
  - {name: team-monthly, limit_usd: 2, per: [team]}
"""
FIRES = "GraphmeterErrorBudgetBurnFast"
LATENCY = (
    'histogram_quantile(0.95, sum by (node, le) (rate(graphmeter_node_duration_seconds_bucket{graph="research"}[1m])))'
)
OPEN_THE_ALERT = f"""
localStorage.setItem("hideInactiveAlerts", "true"); localStorage.setItem("hidePendingAlerts", "true");
const done = sessionStorage.getItem("done"); sessionStorage.setItem("done", "1");
if (!done) location.reload();
else {{
    const row = [...document.querySelectorAll(".alert_header")].find(row => row.innerText.includes("{FIRES}"));
    row.click(); row.scrollIntoView();
}}
"""


class Browser:
    """One page of a headless Chromium, driven over its debugging protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._last:
                result: dict[str, Any] = answer["result"]
                return result

    def take(self, name: str, url: str, height: int, *scripts: str) -> None:
        """Open a page, run scripts in it, and write what is seen to `name`.png."""
        self.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        time.sleep(4)
        for script in scripts:
            self.call("Runtime.evaluate", expression=script)
            time.sleep(2)
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        target = HERE / f"{name}.png"
        target.write_bytes(base64.b64decode(picture))
        print(f"{target}: {target.stat().st_size} bytes, of {url}")


@contextlib.contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program until the block ends, which it is told as Ctrl-C would."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)


def until(what: str, look: Callable[[], Any], within_s: float) -> Any:
    """What `look` finds, as soon as it finds anything."""
    ends = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > ends:
            sys.exit(f"waited {within_s:g} s for {what}")
        time.sleep(1)
    return found


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A headless Chromium."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no Chromium on PATH: name one with CHROMIUM=…")
    command = [program, "--headless=new", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    command += [f"--user-data-dir={folder / 'profile'}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    log = folder / "chromium.log"
    with process([*command, "about:blank"], log):
        listens = until("Chromium", lambda: re.search(r"DevTools listening on ws://([^/]+)/", log.read_text()), 60)
        with urllib.request.urlopen(f"http://{listens[1]}/json") as answer:
            (page,) = [each for each in json.load(answer) if each["type"] == "page"]
        with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Browser(socket)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="graphmeter-") as temporary, contextlib.ExitStack() as running:
        folder = Path(temporary)
        (folder / "graphmeter.yaml").write_text(CONFIG)
        graphmeter = [sys.executable, "-m", "graphmeter_cli"]
        ports = ["--port=0", "--prometheus-port=0", "--alertmanager-port=0"]
        said = folder / "stack.log"
        stack = [*graphmeter, "stack", "--data-dir", str(folder), "--config", str(folder / "graphmeter.yaml"), *ports]
        running.enter_context(process(stack, said))
        until("the stack", lambda: "Ctrl-C" in said.read_text(), 120)
        url = dict(re.findall(r"^(Collector|Prometheus|Alertmanager) +(http://\S+)$", said.read_text(), re.MULTILINE))
        if "Prometheus" not in url:
            sys.exit(said.read_text())
        load = [*graphmeter, "demo", "--endpoint", url["Collector"], "--loop"]
        running.enter_context(process(load, folder / "demo.log"))

        def firing() -> bool:
            with urllib.request.urlopen(f"{url['Prometheus']}/api/v1/alerts") as answer:  # noqa: S310 - our own, on loopback
                alerts = json.load(answer)["data"]["alerts"]
            return any(each["state"] == "firing" and each["labels"]["alertname"] == FIRES for each in alerts)

        until(f"{FIRES} to fire", firing, 600)
        if "Alertmanager" in url and shutil.which("amtool"):
            # Not a picture, but what the README shows as text.
            subprocess.run(["amtool", f"--alertmanager.url={url['Alertmanager']}", "alert"], check=True)
        page = running.enter_context(browser(folder))
        page.take("collector", f"{url['Collector']}/", 560)
        # Debian's Prometheus has the pages of old.
        classic = "/classic" if not exists(f"{url['Prometheus']}/alerts") else ""
        page.take("alerts", f"{url['Prometheus']}{classic}/alerts", 640, OPEN_THE_ALERT, OPEN_THE_ALERT)
        query = urllib.parse.urlencode({"g0.expr": LATENCY, "g0.tab": 0, "g0.range_input": "3m"})
        page.take("latency", f"{url['Prometheus']}{classic}/graph?{query}", 860)


def exists(url: str) -> bool:
    """Whether there is such a page."""
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own, on loopback
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


if __name__ == "__main__":
    main()
