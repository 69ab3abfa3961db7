"""Where alerts point to and whom they reach; the addresses end up in generated files, so they are no place for secrets."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from graphmeter_config.section import Section
from graphmeter_config.values import Share, Usd, percent_text, wrong


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and value.isprintable()
    except ValueError:
        usable = False
    if not usable or any(character in value for character in " {}\"'`\\"):
        raise wrong("not an http or https URL", "write one such as http://localhost:3000")
    return value.rstrip("/")


def _share(value: Decimal) -> Decimal:
    if not 0 < value < 1:
        raise wrong(f"{percent_text(value * 100)} is not above 0% and below 100%", "write 20%, or null for no alert")
    return value


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


class Unattributed(Section):
    """When spend that names no team is worth a ticket: both have to hold for the last day."""

    share: Annotated[Share, AfterValidator(_share)] = Decimal("0.2")
    """Of all spend."""
    at_least_usd: Usd = Decimal(100)


class Alerting(Section):
    """Links in alerts, and receivers."""

    grafana_url: Url = "http://localhost:3000"
    """Grafana that holds the generated dashboards."""
    runbooks_url: Url | None = None
    """Folder where the runbook pages are served; `/NAME.md` is added. Left out, alerts name the page's path in this
    project: `alerts/runbooks/NAME.md`."""
    receivers: AlertReceivers = AlertReceivers()
    unattributed: Unattributed | None = Unattributed()
    """null: no alert."""
