"""Spend in, rows of the FinOps Open Cost and Usage Specification (FOCUS) 1.2 out, one per day, group and kind of token.

https://focus.finops.org/focus-specification/v1-2/ has the columns. Four kinds of cost are told there. We know what calls
cost by the prices in force, overrides and discounts included, and neither invoices nor commitments: so all four are that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Final

from graphmeter import names
from graphmeter_collector.reports import TAG, CostRow
from graphmeter_config.periods import dates

VERSION: Final = "1.2"
DIMENSIONS: Final = (
    *("day", "provider", "model", "service", "environment"),
    *("graph", "node", "team", "tenant", "price_status"),
)
"""What rows are grouped by at least."""
COLUMNS: Final = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "InvoiceIssuerName"),
    *("ListCost", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
    *("ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SubAccountId", "SubAccountName"),
    *(
        "SubAccountType",
        "Tags",
        "x_Environment",
        "x_Graph",
        "x_Model",
        "x_Node",
        "x_PriceStatus",
        "x_Service",
        "x_Tenant",
        "x_View",
    ),
)
_UNKNOWN: Final = "unknown"
_NANO: Final = Decimal(names.NANO_PER_USD)


def rows(spent: Sequence[CostRow]) -> Iterator[dict[str, str]]:
    """FOCUS rows of spend that was asked for in detail, by `DIMENSIONS` and perhaps more; an empty value is null.

    The costs of all rows sum to that of what was given.
    """
    for row in sorted(spent, key=lambda row: tuple(row.group.values())):
        parts = row.nano or {}
        for bucket in names.TOKEN_TYPES:
            nano, tokens = parts.get(bucket, 0), row.tokens.get(bucket, 0)
            if nano or tokens:
                yield _row(row, bucket, nano, tokens, "Tokens")
        rest = row.cost_nano - sum(parts.values())
        if rest:
            # What has no tokens, such as a tool that has a price.
            yield _row(row, "call", rest, 1, "Charges")


def _row(spent: CostRow, meter: str, nano: int, quantity: int, unit: str) -> dict[str, str]:
    group = spent.group
    cost = f"{Decimal(nano) / _NANO:.9f}"
    day = date.fromisoformat(group["day"])
    month = dates("month", day)
    provider, model = group["provider"] or _UNKNOWN, group["model"] or _UNKNOWN
    untold = ("day", "price_status")
    tags = {name.removeprefix(TAG): value for name, value in group.items() if value and name not in untold}
    values = {
        "BilledCost": cost,
        "BillingAccountId": provider,
        "BillingCurrency": "USD",
        "BillingPeriodStart": _midnight(month[0]),
        "BillingPeriodEnd": _midnight(month[1]),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{model}, {meter.replace('_', ' ')}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _midnight(day),
        "ChargePeriodEnd": _midnight(dates("day", day)[1]),
        "ConsumedQuantity": str(quantity),
        "ConsumedUnit": unit,
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": provider,
        "ListCost": cost,
        "PricingCategory": "Standard",
        "PricingQuantity": str(quantity),
        "PricingUnit": unit,
        "ProviderName": provider,
        "PublisherName": provider,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{provider} API",
        "ServiceSubcategory": "Generative AI",
        "SkuId": f"{provider}/{model}/{meter}",
        "SkuMeter": meter,
        "SubAccountId": group["team"],
        "SubAccountName": group["team"],
        "SubAccountType": "Team" if group["team"] else "",
        "Tags": json.dumps(tags, ensure_ascii=False, sort_keys=True),
        "x_Environment": group["environment"],
        "x_Graph": group["graph"],
        "x_Model": group["model"],
        "x_Node": group["node"],
        "x_PriceStatus": group["price_status"],
        "x_Service": group["service"],
        "x_Tenant": group["tenant"],
        "x_View": spent.view,
    }
    return {column: values.get(column, "") for column in COLUMNS}


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
