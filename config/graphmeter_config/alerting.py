"""Where alerts point to and whom they reach; the addresses end up in generated files, so they are no place for secrets."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from graphmeter_config.section import Section
from graphmeter_config.values import wrong


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and value.isprintable()
    except ValueError:
        usable = False
    if not usable or any(character in value for character in " {}\"'`\\"):
        raise wrong("not an http or https URL", "write one such as http://localhost:3000")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class AlertReceiver(Section):
    """Who gets the alerts of one severity; without any address they stay visible in Alertmanager only."""

    webhook: Url | None = None
    """URL that Alertmanager posts to."""


class AlertReceivers(Section):
    """One receiver per severity, and one for the watchdog."""

    page: AlertReceiver = AlertReceiver()
    """Somebody has to act now."""
    ticket: AlertReceiver = AlertReceiver()
    """Somebody has to act in the coming days."""
    deadman: AlertReceiver = AlertReceiver()
    """Gets the watchdog every five minutes: a service that raises the alarm when it stops coming."""


class Alerting(Section):
    """Links in alerts, and receivers."""

    grafana_url: Url = "http://localhost:3000"
    """Grafana that holds the generated dashboards."""
    runbooks_url: Url | None = None
    """Folder where the runbook pages are served; `/NAME.md` is added. Left out, alerts name the page's path in this
    project: `alerts/runbooks/NAME.md`."""
    receivers: AlertReceivers = AlertReceivers()
