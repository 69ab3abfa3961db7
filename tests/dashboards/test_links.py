"""Links between dashboards: they exist, and keep the time range and every variable."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from dashboards.pages import links_of
from graphmeter_dashboards import links


def test_a_link_keeps_the_time_range_and_every_variable_that_it_does_not_set() -> None:
    assert links.to("graphmeter-spend", graph=links.field("Graph"), node=links.VALUE) == (
        "/d/graphmeter-spend?${__url_time_range}&${prometheus_datasource:queryparam}&${jaeger_datasource:queryparam}"
        "&${postgres_datasource:queryparam}&${environment:queryparam}&${team:queryparam}"
        "&var-graph=${__data.fields.Graph:percentencode}&var-node=${__value.raw:percentencode}&${model:queryparam}"
    )


def test_links_lead_to_dashboards_that_exist_and_name_variables_that_exist(
    page: dict[str, Any], files: dict[str, str]
) -> None:
    known = {variable["name"] for variable in page["templating"]["list"]}
    for url in links_of(page):
        path = urlsplit(url).path
        assert path == "/explore" or f"{path.removeprefix('/d/')}.json" in files, url
        named = {name for name in re.findall(r"\$\{(\w+)", url) if not name.startswith("__")}
        assert named <= known, url
        assert set(re.findall(r"[?&]var-(\w+)=", url)) <= known, url
