"""One receiver of alerts in, its entry in Alertmanager's configuration out: webhook, Slack and PagerDuty, and their words.

What is secret is named by the file it is in. The words are templates of Alertmanager, over what all our alerts carry.
"""

from __future__ import annotations

from typing import Any, Final

from graphmeter_config.alerting import AlertReceiver, PagerDuty, Slack

_TITLE: Final = (
    '[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .CommonLabels.alertname }}'
    '{{ if eq .CommonLabels.graphmeter_test "true" }} (only a test){{ end }}'
)
_TEXT: Final = (
    "{{ range .Alerts }}*{{ .Annotations.summary }}*\n{{ .Annotations.description }}\n"
    "{{ .Annotations.dashboard_url }} · {{ .Annotations.runbook_url }}\n{{ end }}"
)
_SUMMARY: Final = (
    '{{ if eq .CommonLabels.graphmeter_test "true" }}TEST: {{ end }}'
    "{{ with index .Alerts 0 }}{{ .Annotations.summary }}{{ end }}"
    "{{ if gt (len .Alerts) 1 }} (and {{ len .Alerts }} alerts in all){{ end }}"
)
_PAGERDUTY_SEVERITY: Final = (
    '{{ if eq .CommonLabels.severity "page" }}critical{{ else if eq .CommonLabels.severity "info" }}info'
    "{{ else }}warning{{ end }}"
)


def plain(name: str, receiver: AlertReceiver, *, send_resolved: bool) -> dict[str, Any]:
    """As Alertmanager's configuration has it."""
    entry: dict[str, Any] = {"name": name}
    if receiver.webhook or receiver.webhook_file:
        entry["webhook_configs"] = [_webhook(receiver, send_resolved)]
    if receiver.slack:
        entry["slack_configs"] = [_slack(receiver.slack, send_resolved)]
    if receiver.pagerduty:
        entry["pagerduty_configs"] = [_pagerduty(receiver.pagerduty, send_resolved)]
    return entry


def _webhook(receiver: AlertReceiver, send_resolved: bool) -> dict[str, Any]:
    where = {"url": receiver.webhook} if receiver.webhook else {"url_file": receiver.webhook_file}
    token = {"http_config": {"authorization": {"credentials_file": receiver.token_file}}} if receiver.token_file else {}
    return {**where, "send_resolved": send_resolved, **token}


def _slack(slack: Slack, send_resolved: bool) -> dict[str, Any]:
    return {
        "api_url_file": slack.url_file,
        "channel": slack.channel,
        "send_resolved": send_resolved,
        "title": _TITLE,
        "title_link": "{{ with index .Alerts 0 }}{{ .Annotations.dashboard_url }}{{ end }}",
        "text": _TEXT,
    }


def _pagerduty(pagerduty: PagerDuty, send_resolved: bool) -> dict[str, Any]:
    links = [
        {"href": f"{{{{ with index .Alerts 0 }}}}{{{{ .Annotations.{kind}_url }}}}{{{{ end }}}}", "text": text}
        for kind, text in (("dashboard", "Dashboard"), ("runbook", "Runbook"))
    ]
    return {
        "routing_key_file": pagerduty.routing_key_file,
        **({"url": pagerduty.url} if pagerduty.url else {}),
        "send_resolved": send_resolved,
        "description": _SUMMARY,
        "severity": _PAGERDUTY_SEVERITY,
        "details": {"description": "{{ with index .Alerts 0 }}{{ .Annotations.description }}{{ end }}"},
        "links": links,
    }
