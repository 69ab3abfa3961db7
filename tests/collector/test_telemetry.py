"""What a scraper, a person and a thousand threads see of the metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from prometheus_client import Metric as Parsed
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from graphmeter import names
from graphmeter.names import Metric
from graphmeter_collector import telemetry
from graphmeter_collector.telemetry import Metrics
from support import promtool

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 sends."""
CLASSIC = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
CURL = "*/*"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8,application/signed-exchange;v=b3"

VISITS = Metric("shop_visits_total", "counter", "Visits.", ("door",))
BELLS = Metric("shop_bells_total", "counter", "Bells rung.", ())
WAIT = Metric("shop_wait_seconds", "histogram", "Waiting.", ("door",), (0.5, 1.0))
OPEN = Metric("shop_open", "gauge", "Doors open.", ("door",))
SHOP = (VISITS, BELLS, WAIT, OPEN)
SPEND = Metric("shop_spend_total", "counter", "Spend.", (*names.BASE_LABELS, "node"))
TRACE = "0af7651916cd43dd8448eb211c80319c"


def page(metrics: Metrics, accept: str = CURL) -> str:
    return metrics.render(accept)[0].decode()


def samples(metrics: Metrics, accept: str = CURL) -> dict[str, float]:
    """Sample lines without comments: `name{labels}` → value."""
    lines = (line.partition(" # ")[0] for line in page(metrics, accept).splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def parse_text(text: str) -> list[Parsed]:
    return list(parser.text_string_to_metric_families(text))


def parse_openmetrics(text: str) -> list[Parsed]:
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def of(family: Metric, metrics: Metrics, accept: str = CURL) -> dict[str, float]:
    """Samples of one family, by their labels alone."""
    return {
        name.removeprefix(family.name): value
        for name, value in samples(metrics, accept).items()
        if name.startswith(family.name)
    }


def test_the_prometheus_text_is_exactly_this() -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, "front")
    metrics.inc(VISITS, "front", by=2.5, trace_id=TRACE)
    metrics.observe(WAIT, "front", value=0.5, trace_id=TRACE)
    metrics.observe(WAIT, "front", value=0.75)
    metrics.observe(WAIT, "front", value=9)
    metrics.set(OPEN, "front", value=3)
    body, content_type = metrics.render(CURL)

    assert "text/plain; version=0.0.4; charset=utf-8" == content_type
    expected = """\
# HELP shop_visits_total Visits.
# TYPE shop_visits_total counter
shop_visits_total{door="front"} 3.5
# HELP shop_bells_total Bells rung.
# TYPE shop_bells_total counter
shop_bells_total 0.0
# HELP shop_wait_seconds Waiting.
# TYPE shop_wait_seconds histogram
shop_wait_seconds_bucket{door="front",le="0.5"} 1.0
shop_wait_seconds_bucket{door="front",le="1.0"} 2.0
shop_wait_seconds_bucket{door="front",le="+Inf"} 3.0
shop_wait_seconds_count{door="front"} 3.0
shop_wait_seconds_sum{door="front"} 10.25
# HELP shop_open Doors open.
# TYPE shop_open gauge
shop_open{door="front"} 3.0
"""
    assert expected == body.decode()


def test_openmetrics_is_exactly_this_and_carries_exemplars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphmeter_collector.telemetry.time.time", lambda: 1_795_000_000.5)
    metrics = Metrics(SHOP)
    metrics.declare(VISITS, "front")
    metrics.declare(WAIT, "front")
    metrics.render(PROMETHEUS)
    metrics.inc(VISITS, "front", by=2, trace_id=TRACE)
    metrics.observe(WAIT, "front", value=0.75, trace_id=TRACE)
    metrics.set(OPEN, "front", value=3)
    body, content_type = metrics.render(PROMETHEUS)

    assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    expected = f"""\
# HELP shop_visits Visits.
# TYPE shop_visits counter
shop_visits_total{{door="front"}} 2.0 # {{trace_id="{TRACE}"}} 2.0 1795000000.5
# HELP shop_bells Bells rung.
# TYPE shop_bells counter
shop_bells_total 0.0
# HELP shop_wait_seconds Waiting.
# TYPE shop_wait_seconds histogram
shop_wait_seconds_bucket{{door="front",le="0.5"}} 0.0
shop_wait_seconds_bucket{{door="front",le="1.0"}} 1.0 # {{trace_id="{TRACE}"}} 0.75 1795000000.5
shop_wait_seconds_bucket{{door="front",le="+Inf"}} 1.0
shop_wait_seconds_count{{door="front"}} 1.0
shop_wait_seconds_sum{{door="front"}} 0.75
# HELP shop_open Doors open.
# TYPE shop_open gauge
shop_open{{door="front"}} 3.0
# EOF
"""
    assert expected == body.decode()
    assert ["shop_visits", "shop_bells", "shop_wait_seconds", "shop_open"] == [
        family.name for family in parse_openmetrics(body.decode())
    ]


@pytest.mark.parametrize("accept", [PROMETHEUS, CLASSIC], ids=["openmetrics", "text"])
def test_a_new_child_is_zero_on_the_first_scrape_and_true_from_the_next_on(accept: str) -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, "front", by=5, trace_id=TRACE)
    metrics.observe(WAIT, "front", value=0.7, trace_id=TRACE)

    assert {'{door="front"}': 0.0} == of(VISITS, metrics, accept)
    metrics.inc(VISITS, "front", by=2)
    metrics.observe(WAIT, "front", value=3)
    assert {
        '_bucket{door="front",le="0.5"}': 0.0,
        '_bucket{door="front",le="1.0"}': 1.0,
        '_bucket{door="front",le="+Inf"}': 2.0,
        '_count{door="front"}': 2.0,
        '_sum{door="front"}': 3.7,
    } == of(WAIT, metrics, accept)
    assert {'{door="front"}': 7.0} == of(VISITS, metrics, accept)


def test_a_histogram_is_zero_in_every_line_on_its_first_scrape_and_shows_no_exemplar() -> None:
    metrics = Metrics(SHOP)
    metrics.observe(WAIT, "front", value=0.7, trace_id=TRACE)
    metrics.inc(VISITS, "front", trace_id=TRACE)

    first = page(metrics, PROMETHEUS)
    assert "trace_id" not in first
    assert {0.0} == {float(line.split(" ")[1]) for line in first.splitlines() if line.startswith("shop_wait")}
    assert 2 == page(metrics, PROMETHEUS).count(TRACE)


def test_a_child_born_later_has_a_zero_of_its_own() -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, "front")
    page(metrics, PROMETHEUS)
    metrics.inc(VISITS, "back")

    assert {'{door="front"}': 1.0, '{door="back"}': 0.0} == of(VISITS, metrics, PROMETHEUS)
    assert {'{door="front"}': 1.0, '{door="back"}': 1.0} == of(VISITS, metrics, PROMETHEUS)


def test_a_declared_child_is_zero_before_its_first_event_and_moves_with_it() -> None:
    metrics = Metrics(SHOP)
    metrics.declare(VISITS, "front")
    assert {'{door="front"}': 0.0} == of(VISITS, metrics, PROMETHEUS)
    metrics.inc(VISITS, "front")
    metrics.declare(VISITS, "front")

    assert {'{door="front"}': 1.0} == of(VISITS, metrics, PROMETHEUS)


def test_what_has_no_labels_is_there_from_the_start() -> None:
    metrics = Metrics(SHOP)
    assert {"": 0.0} == of(BELLS, metrics, PROMETHEUS)
    metrics.inc(BELLS)
    assert {"": 1.0} == of(BELLS, metrics, PROMETHEUS)


@pytest.mark.parametrize("accept", [CURL, BROWSER, "", "text/plain", "application/json"])
def test_a_person_sees_true_values_and_takes_no_zero_from_prometheus(accept: str) -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, "front", by=3)
    metrics.observe(WAIT, "front", value=0.7)

    for _ in range(2):
        assert {'{door="front"}': 3.0} == of(VISITS, metrics, accept)
        assert 1.0 == of(WAIT, metrics, accept)['_count{door="front"}']
    assert {'{door="front"}': 0.0} == of(VISITS, metrics, PROMETHEUS)
    assert {'{door="front"}': 3.0} == of(VISITS, metrics, PROMETHEUS)


@pytest.mark.parametrize(
    "accept", ["text/plain;version=one", "application/openmetrics-text;version=;q=x", ";;,,=\x00é"]
)
def test_an_accept_header_of_nonsense_is_answered_with_a_page(accept: str) -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, "front")

    body, content_type = metrics.render(accept)
    assert b"shop_visits_total" in body
    assert content_type.startswith(("text/plain", "application/openmetrics-text"))


def test_gauges_are_never_held_back() -> None:
    metrics = Metrics(SHOP)
    metrics.set(OPEN, "front", value=2)
    assert {'{door="front"}': 2.0} == of(OPEN, metrics, PROMETHEUS)


def test_replacing_a_gauge_drops_the_children_that_are_gone() -> None:
    metrics = Metrics(SHOP)
    metrics.replace(OPEN, {("front",): 2.0, ("back",): 1.0})
    metrics.replace(OPEN, {("back",): 4.0, ("side",): 0.5})

    assert {'{door="back"}': 4.0, '{door="side"}': 0.5} == of(OPEN, metrics)
    assert 0.0 == metrics.value(OPEN, "front")
    metrics.replace(OPEN, {})
    assert {} == of(OPEN, metrics)


def test_what_does_not_fit_a_label_is_other_and_counted() -> None:
    metrics = Metrics((*SHOP, names.COLLECTOR_LABEL_OVERFLOW), label_caps={"door": 2})
    for door in ("a", "b", "c", "d", "a", "c", "other", ""):
        metrics.inc(VISITS, door)

    assert {'{door="a"}': 2.0, '{door="b"}': 1.0, '{door="other"}': 4.0, '{door=""}': 1.0} == of(VISITS, metrics)
    assert {'{label="door"}': 3.0} == of(names.COLLECTOR_LABEL_OVERFLOW, metrics)


def test_events_counted_together_are_as_many_in_other() -> None:
    metrics = Metrics((*SHOP, names.COLLECTOR_LABEL_OVERFLOW), label_caps={"door": 1})
    metrics.inc(VISITS, "a", by=5, events=5)
    metrics.inc(VISITS, "b", by=3, events=3)
    metrics.observe_all(WAIT, "c", values=[0.1, 2.0])

    assert {'{door="a"}': 5.0, '{door="other"}': 3.0} == of(VISITS, metrics)
    assert {'{label="door"}': 5.0} == of(names.COLLECTOR_LABEL_OVERFLOW, metrics)


def test_observing_all_is_observing_each_and_the_last_of_a_bucket_is_its_exemplar() -> None:
    values = [0.1, 0.2, 2.0, 900.0]
    together, each = Metrics(SHOP), Metrics(SHOP)
    together.observe_all(WAIT, "a", values=values, traces=[bytes([n]) * 16 for n in range(4)])
    for number, value in enumerate(values):
        each.observe(WAIT, "a", value=value, trace_id=bytes([number] * 16).hex())

    assert of(WAIT, each) == of(WAIT, together)
    marks = [
        {bucket: mark[:2] for bucket, mark in metrics._families[WAIT.name].by_given["a",].marks.items()}
        for metrics in (each, together)
    ]
    assert marks[0] == marks[1]


def test_a_cap_holds_over_all_families_that_have_the_label() -> None:
    metrics = Metrics(SHOP, label_caps={"door": 1})
    metrics.inc(VISITS, "a")
    metrics.observe(WAIT, "b", value=1)
    metrics.replace(OPEN, {("a",): 1.0, ("b",): 2.0, ("c",): 3.0})

    assert 1.0 == of(WAIT, metrics)['_count{door="other"}']
    assert {'{door="a"}': 1.0, '{door="other"}': 5.0} == of(OPEN, metrics)
    metrics.replace(OPEN, {("a",): 1.0, ("b",): 2.0, ("c",): 3.0}, fold=max)
    assert {'{door="a"}': 1.0, '{door="other"}': 3.0} == of(OPEN, metrics)


def test_declaring_and_refreshing_gauges_are_no_events_that_overflow() -> None:
    metrics = Metrics((*SHOP, names.COLLECTOR_LABEL_OVERFLOW), label_caps={"door": 1})
    metrics.inc(VISITS, "a")
    metrics.declare(VISITS, "b")
    for _ in range(3):
        metrics.replace(OPEN, {("b",): 1.0, ("c",): 1.0})
        metrics.set(OPEN, "d", value=1)

    assert {'{door="a"}': 1.0, '{door="other"}': 0.0} == of(VISITS, metrics)
    assert {} == of(names.COLLECTOR_LABEL_OVERFLOW, metrics)


def test_labels_without_a_cap_of_their_own_have_the_default_one() -> None:
    metrics = Metrics(SHOP)
    for door in range(telemetry.DEFAULT_LABEL_CAP + 7):
        metrics.inc(VISITS, str(door))

    assert telemetry.DEFAULT_LABEL_CAP + 1 == len(of(VISITS, metrics))
    assert 7.0 == metrics.value(VISITS, "other")


def test_overflowing_labels_are_not_kept_in_memory() -> None:
    metrics = Metrics(SHOP, label_caps={"door": 1})
    for door in range(1_000):
        metrics.inc(VISITS, str(door))

    family = metrics._families[VISITS.name]
    assert (1, 2) == (len(family.by_given), len(family.by_shown))


def test_spend_without_graph_team_or_node_is_unattributed() -> None:
    metrics = Metrics((SPEND,))
    metrics.inc(SPEND, "", "", "", "", "", by=2)
    metrics.inc(SPEND, "shop", "", "support", "", "", by=3)
    labels = dict.fromkeys(("graph", "team", "node"), names.UNATTRIBUTED)

    found = {tuple(sorted(s.labels.items())): s.value for f in parse_text(page(metrics)) for s in f.samples}
    assert {
        tuple(sorted({**labels, "service": "", "environment": ""}.items())): 2.0,
        tuple(sorted({**labels, "service": "shop", "environment": "", "graph": "support"}.items())): 3.0,
    } == found


def test_an_empty_team_of_a_budget_stays_empty_for_the_budget_is_for_all() -> None:
    metrics = Metrics()
    metrics.set(names.BUDGET_LIMIT, "models", "", "", value=10)
    assert {'{budget="models",scope="",team=""}': 10.0} == of(names.BUDGET_LIMIT, metrics)


@pytest.mark.parametrize("labels", [(), ("front", "back")])
def test_a_wrong_number_of_labels_is_refused(labels: tuple[str, ...]) -> None:
    metrics = Metrics(SHOP)
    moves: list[Callable[[], None]] = [
        lambda: metrics.inc(VISITS, *labels),
        lambda: metrics.observe(WAIT, *labels, value=1),
        lambda: metrics.set(OPEN, *labels, value=1),
        lambda: metrics.declare(VISITS, *labels),
        lambda: metrics.replace(OPEN, {labels: 1.0}),
    ]
    for move in moves:
        with pytest.raises(ValueError, match=r"has labels \('door',\), got"):
            move()


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(KeyError):
        Metrics(SHOP).inc(SPEND, *["x"] * 5)


def test_a_counter_never_goes_down() -> None:
    metrics = Metrics(SHOP)
    with pytest.raises(ValueError, match="shop_visits_total cannot go down: -1"):
        metrics.inc(VISITS, "front", by=-1)
    assert 0.0 == metrics.value(VISITS, "front")


ODD = ['say "hi"', "two\nlines", "back\\slash", "\\n", "ünï→", "}{,=", "a\rb", "\u2028", "tab\t", "\U0001f600"]


@pytest.mark.parametrize("value", ODD)
def test_odd_label_values_come_back_as_they_went_in(value: str) -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, value)
    metrics.observe(WAIT, value, value=1)

    assert [value] == _doors(parse_text(page(metrics)))
    metrics.render(PROMETHEUS)
    assert [value] == _doors(parse_openmetrics(page(metrics, PROMETHEUS)))


def test_a_lone_surrogate_becomes_a_question_mark_and_breaks_no_page() -> None:
    metrics = Metrics(SHOP)
    metrics.inc(VISITS, "half \ud83d")
    assert ["half ?"] == _doors(parse_text(page(metrics)))


def _doors(families: list[Parsed]) -> list[str]:
    return [sample.labels["door"] for family in families for sample in family.samples if sample.name == VISITS.name]


def test_threads_that_move_the_same_children_add_up_while_somebody_scrapes() -> None:
    metrics = Metrics(SHOP)
    ready = threading.Barrier(9)

    def move() -> None:
        ready.wait()
        for turn in range(500):
            metrics.inc(VISITS, str(turn % 7))
            metrics.observe(WAIT, str(turn % 7), value=0.25)

    def scrape() -> None:
        ready.wait()
        for _ in range(20):
            page(metrics, PROMETHEUS)

    threads = [threading.Thread(target=move) for _ in range(8)] + [threading.Thread(target=scrape)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 4_000.0 == sum(of(VISITS, metrics).values())
    assert 4_000.0 == sum(metrics.value(WAIT, str(door)) for door in range(7))
    assert 1_000.0 == sum(value for name, value in of(WAIT, metrics).items() if name.startswith("_sum"))


def test_value_tells_a_childs_true_value_before_any_scrape() -> None:
    metrics = Metrics(SHOP, label_caps={"door": 1})
    metrics.inc(VISITS, "a", by=2)
    metrics.inc(VISITS, "b", by=3)
    metrics.observe(WAIT, "a", value=8)
    metrics.set(OPEN, "a", value=4)

    assert (2.0, 3.0, 0.0) == tuple(metrics.value(VISITS, door) for door in ("a", "other", "b"))
    assert (1.0, 4.0, 0.0) == (metrics.value(WAIT, "a"), metrics.value(OPEN, "a"), metrics.value(BELLS))


def _moved() -> Metrics:
    """Every family of the product with a child that moved."""
    metrics = Metrics()
    for metric in names.METRICS:
        labels = [f"{label} 1" for label in metric.labels]
        if metric.type == "histogram":
            metrics.observe(metric, *labels, value=metric.buckets[1], trace_id=TRACE)
        elif metric.type == "gauge":
            metrics.set(metric, *labels, value=1)
        else:
            metrics.inc(metric, *labels, trace_id=TRACE)
    return metrics


def test_promtool_finds_no_fault_in_a_page_of_all_families() -> None:
    result = promtool.check_metrics(page(_moved(), CLASSIC))
    assert (True, "") == (result.ok, result.output)


def test_all_families_are_on_every_page_under_their_names_and_types() -> None:
    expected = {metric.name: metric.type for metric in names.METRICS}
    for metrics in (Metrics(), _moved()):
        text = page(metrics)
        found = dict(line.split(" ")[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
        assert expected == found
    text = page(_moved(), PROMETHEUS)
    assert {name.removesuffix("_total") for name in expected} == {family.name for family in parse_openmetrics(text)}
