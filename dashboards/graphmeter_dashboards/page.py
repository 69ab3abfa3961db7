"""A dashboard from its sections: what all of them share (variables, links, alerts as annotations, tags) is put here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from graphmeter_dashboards import datasources, links, queries, variables
from graphmeter_dashboards.finalize import Json, finalize
from graphmeter_dashboards.sdk import Builder, JSONEncoder, dashboard, dashboard_builders

TAG: Final = "graphmeter"
"""Every dashboard of ours has it; the drop-down that links them finds them by it."""


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a heading; without a title they stand alone on top."""

    title: str
    panels: Sequence[Builder[dashboard.Panel]]


def page(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    since: str = "now-1h",
    filters: Sequence[Builder[dashboard.VariableModel]] = (),
    team: str = "",
) -> Json:
    """The finished dashboard as Grafana stores it.

    Args:
        since: Where its time range begins until somebody changes it.
        filters: Variables that other pages lack.
        team: The page is this team's alone.
    """
    builder = (
        dashboard_builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG, "langgraph"])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .annotation(_alerts())
        .annotation(_releases())
        .link(_others())
        .link(_jaeger())
    )
    for variable in [*variables.everything(team), *filters]:
        builder = builder.with_variable(variable)
    for section in sections:
        if section.title:
            builder = builder.with_row(dashboard_builders.Row(section.title))
        for panel in section.panels:
            builder = builder.with_panel(panel)
    plain: Json = json.loads(JSONEncoder().encode(builder.build()))
    return finalize(plain)


def _alerts() -> Builder[dashboard.AnnotationQuery]:
    return (
        dashboard_builders.AnnotationQuery()
        .name("Alerts")
        .datasource(datasources.PROMETHEUS)
        .enable(True)
        .icon_color("red")
        .expr(queries.firing_alerts())
        .step("60s")
        .title_format("{{alertname}}")
        .text_format("{{slo}} {{budget}} {{graph}} {{team}}")
        .tag_keys("severity")
    )


def _releases() -> Builder[dashboard.AnnotationQuery]:
    return (
        dashboard_builders.AnnotationQuery()
        .name("Releases")
        .datasource(datasources.PROMETHEUS)
        .enable(True)
        .icon_color("blue")
        .expr(queries.releases())
        .step("60s")
        # The value is the time: a mark stands where the first run began, not where Prometheus first heard of it.
        .use_value_for_time(True)
        .title_format("{{service}} {{release}}")
        .text_format("First run of this release {{environment}}")
        .tag_keys("service,environment,release")
    )


def _others() -> Builder[dashboard.DashboardLink]:
    return (
        dashboard_builders.DashboardLink("Graphmeter dashboards")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _jaeger() -> Builder[dashboard.DashboardLink]:
    return (
        dashboard_builders.DashboardLink("Traces in Jaeger")
        .type(dashboard.DashboardLinkType.LINK)
        .icon("bolt")
        .tooltip("Search traces in Explore")
        .url(links.traces())
        .target_blank(True)
    )
