"""Where alerts point to and whom they reach; the addresses end up in generated files, so secrets stay in files of their own.

Alertmanager reads those files, on its own machine: here nothing is opened, expanded or checked for being there.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from graphmeter_config.section import Section
from graphmeter_config.values import Globs, Name, Share, Usd, percent_text, wrong

Severity = Literal["page", "ticket", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("page", "ticket", "info")


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


def _file(value: str) -> str:
    if not value.startswith("/") or not value.isprintable() or value.endswith("/"):
        raise wrong("not a file by its full path", "write where Alertmanager finds it: /etc/alertmanager/secrets/slack")
    return value


def _channel(value: str) -> str:
    if not value.strip() or not value.isprintable() or "{{" in value:
        raise wrong("not a channel", 'write its name in quotes: "#oncall"')
    return value.strip()


Url = Annotated[str, AfterValidator(_url)]
SecretFile = Annotated[str, AfterValidator(_file)]
"""Path on Alertmanager's machine of a file that holds the secret and nothing else."""


class Slack(Section):
    """A channel of Slack, by an incoming webhook."""

    url_file: SecretFile
    """File with the webhook's URL."""
    channel: Annotated[str, AfterValidator(_channel)]


class PagerDuty(Section):
    """A service of PagerDuty, by its Events API v2."""

    routing_key_file: SecretFile
    """File with the integration key."""
    url: Url | None = None
    """Left out: PagerDuty's own; Europe's service region is https://events.eu.pagerduty.com/v2/enqueue."""


class AlertReceiver(Section):
    """Who gets the alerts of one severity; without any address they stay visible in Alertmanager only."""

    webhook: Url | None = None
    """URL that Alertmanager posts to."""
    webhook_file: SecretFile | None = None
    """Instead: file with that URL, where it is a secret. Alertmanager 0.26 and newer read it."""
    token_file: SecretFile | None = None
    """File with a token that the webhook is sent: `Authorization: Bearer …`."""
    slack: Slack | None = None
    pagerduty: PagerDuty | None = None

    @model_validator(mode="after")
    def _one_webhook(self) -> Self:
        if self.webhook is not None and self.webhook_file is not None:
            raise wrong("given beside webhook", "write one of the two", "webhook_file")
        if self.token_file is not None and self.webhook is None and self.webhook_file is None:
            raise wrong("given without a webhook that could be sent it", "add `webhook:`", "token_file")
        return self

    @property
    def silent(self) -> bool:
        """Whether it has no address at all."""
        return not (self.webhook or self.webhook_file or self.slack or self.pagerduty)


class AlertReceivers(Section):
    """One receiver per severity, and one for the watchdog."""

    page: AlertReceiver = AlertReceiver()
    """Somebody has to act now."""
    ticket: AlertReceiver = AlertReceiver()
    """Somebody has to act in the coming days. Alerts without a severity that is known reach it, too."""
    info: AlertReceiver = AlertReceiver()
    """Nobody has to act."""
    deadman: AlertReceiver = AlertReceiver()
    """Gets the watchdog every five minutes: a service that raises the alarm when it stops coming."""

    def of(self, severity: Severity) -> AlertReceiver:
        """The receiver of a severity."""
        found: AlertReceiver = getattr(self, severity)
        return found


class Owner(Section):
    """Who answers for some SLOs, budgets or teams, and gets their alerts in place of the general receivers."""

    name: Name
    """SLOs and budgets name it: `owner: search`."""
    teams: Globs | None = None
    """Alerts about these teams are its own, too, unless their SLO or budget names another owner."""
    page: AlertReceiver | None = None
    """Left out, here and below: the general receiver of that severity."""
    ticket: AlertReceiver | None = None
    info: AlertReceiver | None = None

    def receivers(self) -> dict[Severity, AlertReceiver]:
        """Those of its own, by severity."""
        given = {severity: getattr(self, severity) for severity in SEVERITIES}
        return {severity: receiver for severity, receiver in given.items() if receiver is not None}


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
    owners: tuple[Owner, ...] = ()
    """Receivers of those who answer for something; the first that an alert is about gets it."""
    budget_crossings: Literal["once", "both"] = "once"
    """A budget whose `receivers` the collector tells of a threshold: whether Alertmanager tells of it as well."""
    unattributed: Unattributed | None = Unattributed()
    """null: no alert."""
