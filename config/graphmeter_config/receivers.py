"""Whom the collector itself tells: chat channels and webhooks that reports and budgets name.

Not to be taken for `alerting.receivers`, which Alertmanager posts to.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator

from graphmeter_config.secret import (
    HIDDEN,
    TEXT,
    VARIABLE,
    HeaderName,
    HeaderValue,
    Secret,
    expanded,
    shown,
    shown_url,
)
from graphmeter_config.section import Section
from graphmeter_config.values import Name, Seconds, wrong

_LONGEST_TIMEOUT_S: Final = 60.0


def shown_receiver_url(written: str) -> str:
    """A receiver's URL as it may be printed: who knows the path of a chat's webhook may post there.

    One that names variables is shown as written.
    """
    if VARIABLE.search(written):
        return shown_url(written)
    try:
        url = urlsplit(written)
    except ValueError:
        return HIDDEN
    if not url.scheme or not url.hostname:
        return HIDDEN
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{f'/{HIDDEN}' if url.path.strip('/') or url.query else url.path}"


def _url(value: Any) -> Secret:
    remedy = "write the URL that takes the POST: https://hooks.slack.com/services/…, or ${SLACK_URL}"
    if not isinstance(value, str):
        raise wrong("not text", remedy)
    if isinstance(value, Secret):
        return value
    text = expanded(value)
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise wrong("not an http or https URL", remedy)
    return Secret(text, shown_receiver_url(value))


def _timeout(value: float) -> float:
    if value > _LONGEST_TIMEOUT_S:
        raise wrong("longer than 1m", "write 10s: what takes longer is tried again")
    return value


class Receiver(Section):
    """One address that is told."""

    name: Name
    kind: Literal["webhook", "slack"] = "webhook"
    """`slack`: an incoming webhook of Slack, or of what speaks its format (Mattermost, Rocket.Chat, Discord's `/slack`)."""
    url: Annotated[str, PlainValidator(_url), PlainSerializer(shown), TEXT]
    """Where messages are posted. `${VARIABLE}` and `${file:/path}` are read from environment and files."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Sent with every request. `${VARIABLE}` and `${file:/path}` are read from environment and files."""
    timeout_s: Annotated[Seconds, AfterValidator(_timeout)] = Field(10.0, alias="timeout")
    """How long a request may take."""
