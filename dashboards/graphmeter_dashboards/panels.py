"""Kinds of panel, each with the looks that all dashboards share: title, question and unit in, SDK builder out.

Every panel says what it shows in a description and has a unit; the lint insists on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, Self, TypeVar

from graphmeter_dashboards import datasources
from graphmeter_dashboards.sdk import (
    Builder,
    Dataquery,
    bargauge,
    common,
    common_builders,
    dashboard,
    dashboard_builders,
    heatmap,
    heatmap_models,
    nodegraph,
    stat,
    statetimeline,
    table,
    text,
    text_models,
    timeseries,
    units,
)

GREEN: Final = "green"
ORANGE: Final = "orange"
RED: Final = "red"
BLUE: Final = "blue"

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on this colour; the first one from None, which is minus infinity."""


class _Panel(Protocol):
    """What the SDK's panel builders have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: common.DataSourceRef) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def with_target(self, target: Builder[Dataquery]) -> Self: ...
    def thresholds(self, thresholds: Builder[dashboard.ThresholdsConfig]) -> Self: ...
    def links(self, links: list[Builder[dashboard.DashboardLink]]) -> Self: ...


P = TypeVar("P", bound=_Panel)


class _Columns(Protocol):
    """Panels whose fields have properties of their own."""

    def override_by_name(self, name: str, properties: list[dashboard.DynamicConfigValue]) -> Self: ...


C = TypeVar("C", bound=_Columns)


def _dressed(
    panel: P, title: str, description: str, targets: Sequence[Builder[Dataquery]], *, unit: str, size: tuple[int, int]
) -> P:
    panel = panel.title(title).description(description).datasource(datasources.PROMETHEUS).unit(unit)
    panel = panel.span(size[0]).height(size[1])
    for target in targets:
        panel = panel.with_target(target)
    return panel


def steps(*values: tuple[float | None, str]) -> Builder[dashboard.ThresholdsConfig]:
    """Colours by value."""
    thresholds = [dashboard.Threshold(value=value, color=color) for value, color in values]
    return dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds)


def linked(panel: P, title: str, url: str) -> P:
    """The same with a link in its title."""
    link = dashboard_builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url)
    return panel.links([link])


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def number(
    title: str,
    description: str,
    target: Builder[Dataquery],
    *,
    unit: str,
    size: tuple[int, int],
    colors: Steps = ((None, BLUE),),
    decimals: int | None = None,
    empty: str = "–",
) -> stat.Panel:
    """One number; `empty` is shown when the question has no answer."""
    panel = _dressed(stat.Panel(), title, description, [target], unit=unit, size=size)
    if decimals is not None:
        panel = panel.decimals(decimals)
    return (
        panel.reduce_options(_last())
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .no_value(empty)
        .thresholds(steps(*colors))
    )


def lines(
    title: str,
    description: str,
    targets: Sequence[Builder[Dataquery]],
    *,
    unit: str,
    size: tuple[int, int],
    stacked: bool = False,
    limits: Steps = (),
    below_zero: bool = False,
) -> timeseries.Panel:
    """Lines over time with a table legend; `stacked` for parts of a whole, `limits` for lines that should not be crossed."""
    legend = (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["mean", "max"])
    )
    tooltip = (
        common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    panel = _dressed(timeseries.Panel(), title, description, targets, unit=unit, size=size)
    panel = panel.legend(legend).tooltip(tooltip).show_points(common.VisibilityMode.AUTO)
    if not below_zero:
        panel = panel.min(0)
    if len(limits) > 1:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(steps(*limits)).thresholds_style(style)
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL)).fill_opacity(40)
    return panel


def bars(
    title: str,
    description: str,
    target: Builder[Dataquery],
    *,
    unit: str,
    size: tuple[int, int],
    colors: Steps = ((None, BLUE),),
    full: float | None = None,
    empty: str = "–",
) -> bargauge.Panel:
    """One horizontal bar per series; the longest is `full`, or the greatest value."""
    panel = _dressed(bargauge.Panel(), title, description, [target], unit=unit, size=size).min(0)
    if full is not None:
        panel = panel.max(full)
    return (
        panel.no_value(empty)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .orientation(common.VizOrientation.HORIZONTAL)
        .reduce_options(_last())
        .thresholds(steps(*colors))
    )


def states(
    title: str,
    description: str,
    targets: Sequence[Builder[Dataquery]],
    *,
    colors: dict[str, tuple[str, str]],
    size: tuple[int, int],
    empty: str = "–",
) -> statetimeline.Panel:
    """A band per series, coloured while it has a value; `colors` has a value's name and colour."""
    said = {
        value: dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(colors.items())
    }
    panel = _dressed(statetimeline.Panel(), title, description, targets, unit=units.NoUnit, size=size)
    return panel.mappings([dashboard.ValueMap(options=said)]).no_value(empty).merge_values(True).row_height(0.8)


def distribution(
    title: str, description: str, target: Builder[Dataquery], *, unit: str, size: tuple[int, int]
) -> heatmap.Panel:
    """How many observations fell into which bucket, over time; `unit` is that of the buckets."""
    panel = _dressed(heatmap.Panel(), title, description, [target], unit=units.Short, size=size)
    color = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return (
        panel.calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_values(heatmap.CellValues().unit(units.Short))
        .color(color.exponent(0.5))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
    )


def flow(
    title: str,
    description: str,
    nodes: Builder[Dataquery],
    edges: Builder[Dataquery],
    *,
    stats: tuple[str, str],
    arcs: dict[str, str],
    size: tuple[int, int],
) -> nodegraph.Panel:
    """Nodes and edges; `stats` are units of a node's two numbers, `arcs` colours of the parts of its ring by field."""
    options = nodegraph.NodeOptions().main_stat_unit(stats[0]).secondary_stat_unit(stats[1])
    options = options.arcs([nodegraph.ArcOption().field(field).color(color) for field, color in arcs.items()])
    return _dressed(nodegraph.Panel(), title, description, [nodes, edges], unit=units.Short, size=size).nodes(options)


def grid(
    title: str,
    description: str,
    targets: Sequence[Builder[Dataquery]],
    *,
    unit: str,
    size: tuple[int, int],
    columns: dict[str, str] | None = None,
    sort_by: str = "",
) -> table.Panel:
    """A table. With `columns` (field → heading, in order) several instant queries are merged on their labels."""
    panel = _dressed(table.Panel(), title, description, targets, unit=unit, size=size).no_value("–")
    if columns is not None:
        order = {field: position for position, field in enumerate(columns)}
        options: dict[str, Any] = {
            "excludeByName": {"Time": True},
            "indexByName": order,
            "renameByName": columns,
        }
        panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=options))
    if sort_by:
        panel = panel.sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(True)])
    return panel


def column(panel: C, name: str, **properties: Any) -> C:
    """Set field properties of one column or field, such as `unit="s"`; `custom_x` stands for `custom.x`."""
    values = [
        dashboard.DynamicConfigValue(id_val=key.replace("custom_", "custom."), value=value)
        for key, value in properties.items()
    ]
    return panel.override_by_name(name, values)


def prose(title: str, markdown: str, *, size: tuple[int, int]) -> text.Panel:
    """Words, in Markdown."""
    panel = text.Panel().title(title).mode(text_models.TextMode.MARKDOWN).content(markdown)
    return panel.span(size[0]).height(size[1])
