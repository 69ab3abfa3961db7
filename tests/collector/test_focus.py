"""FOCUS rows against the columns of the specification: names, types, which may be null; and the ledger's sums.

The table is that of version 1.2, https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec/tree/v1.2/specification/columns
"""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from cli.running import failure, run
from collector.store.test_spend import ALL, CALLS, ask, fill
from graphmeter_collector import focus

# Column → (mandatory, may be null, type)
SPECIFIED: dict[str, tuple[bool, bool, str]] = {
    "BilledCost": (True, False, "Decimal"),
    "BillingAccountId": (True, False, "String"),
    "BillingAccountName": (True, True, "String"),
    "BillingCurrency": (True, False, "String"),
    "BillingPeriodEnd": (True, False, "Date/Time"),
    "BillingPeriodStart": (True, False, "Date/Time"),
    "ChargeCategory": (True, False, "String"),
    "ChargeClass": (True, True, "String"),
    "ChargeDescription": (True, True, "String"),
    "ChargeFrequency": (False, False, "String"),
    "ChargePeriodEnd": (True, False, "Date/Time"),
    "ChargePeriodStart": (True, False, "Date/Time"),
    "ConsumedQuantity": (False, True, "Decimal"),
    "ConsumedUnit": (False, True, "String"),
    "ContractedCost": (True, False, "Decimal"),
    "EffectiveCost": (True, False, "Decimal"),
    "InvoiceIssuerName": (True, False, "String"),
    "ListCost": (True, False, "Decimal"),
    "PricingCategory": (False, True, "String"),
    "PricingQuantity": (True, True, "Decimal"),
    "PricingUnit": (True, True, "String"),
    "ProviderName": (True, False, "String"),
    "PublisherName": (True, False, "String"),
    "ServiceCategory": (True, False, "String"),
    "ServiceName": (True, False, "String"),
    "ServiceSubcategory": (False, False, "String"),
    "SkuId": (False, True, "String"),
    "SkuMeter": (False, True, "String"),
    "SubAccountId": (False, True, "String"),
    "SubAccountName": (False, True, "String"),
    "SubAccountType": (False, True, "String"),
    "Tags": (False, True, "JSON"),
}
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")


def rows_of(url: str, *more: str) -> list[dict[str, str]]:
    arguments = ("--database-url", url, "--since", "2026-11-01", "--until", "2027-01-31", "--format", "focus", *more)
    result = run("cost", *arguments)
    assert 0 == result.exit_code, result.output
    return list(csv.DictReader(result.stdout.splitlines()))


def test_columns_are_those_of_the_specification_and_extensions_say_so() -> None:
    assert {name for name, (mandatory, _, _) in SPECIFIED.items() if mandatory} <= set(focus.COLUMNS)
    assert [] == [name for name in focus.COLUMNS if name not in SPECIFIED and not name.startswith("x_")]
    assert len(set(focus.COLUMNS)) == len(focus.COLUMNS)


def test_values_have_the_types_of_the_specification_and_sum_to_the_ledger(sqlite_url: str) -> None:
    fill(sqlite_url, CALLS)
    rows = rows_of(sqlite_url, "--by", "tag:plan")
    [total] = ask(sqlite_url, lambda reader: reader.cost((), *ALL))

    for cost in COSTS:
        assert total.cost_nano == sum(Decimal(row[cost]) for row in rows) * 10**9
    assert sum(total.tokens.values()) == sum(int(row["PricingQuantity"]) for row in rows)
    for row in rows:
        for name, (_, nullable, kind) in SPECIFIED.items():
            assert row[name] or nullable, name
            if row[name] and kind == "Decimal":
                assert Decimal(row[name]).is_finite()
            if row[name] and kind == "Date/Time":
                assert row[name].endswith("T00:00:00Z")
            if row[name] and kind == "JSON":
                assert isinstance(json.loads(row[name]), dict)
        start, end = (datetime.fromisoformat(row[f"ChargePeriod{edge}"]) for edge in ("Start", "End"))
        assert timedelta(days=1) == end - start
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
    assert {"free", 'p"ro', None} == {json.loads(row["Tags"]).get("plan") for row in rows}
    assert {"unpriced"} <= {row["x_PriceStatus"] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--timezone", "Europe/Berlin"], "FOCUS has days of UTC"), (["--by", "week"], "FOCUS rows are by day")],
)
def test_what_focus_does_not_know_is_refused(sqlite_url: str, arguments: list[str], said: str) -> None:
    assert said in failure(2, "cost", "--database-url", sqlite_url, "--format", "focus", *arguments)
