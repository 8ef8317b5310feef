"""The page of all features, docs/features.md."""

from jobs.catalogue.aggregates import DAILY_AGGREGATES, SOURCES
from jobs.catalogue.expressions import Expression
from jobs.catalogue.features import ATTRIBUTES, FEATURES


def as_markdown() -> str:
    """Return docs/features.md: every feature, attribute and daily aggregate as tables for people."""
    features = "\n".join(
        f"| `{f.name}` | {f.meaning} | {f.unit} | {f.window or 'life'} | {f.missing} | {_list_daily_aggregates(f.expression)} | "
        f"{'yes' if f.in_vector else 'no'} |"
        for f in FEATURES
    )
    attributes = "\n".join(f"| `{a.name}` | {a.meaning} |" for a in ATTRIBUTES)
    aggregates = "\n".join(f"| `{a.name}` | {a.meaning} | {a.source} | {a.operation} |" for a in DAILY_AGGREGATES)
    sources = "\n".join(f"- **{name}**: {meaning}." for name, meaning in SOURCES.items())
    return f"""# Features

One row per customer and day in `features.customers`; the vector holds the features marked so, in this order.
As of the end of the day: nothing later is seen. A window of 30 days is the day and the 29 before it.
Generated from `jobs/catalogue/` by `shoal catalogue`.

| name | meaning | unit | window, days | missing | computed from | in the vector |
|---|---|---|---|---|---|---|
{features}

## Attributes

Text columns outside the vector, named by the table property `shoal.attributes`; null while unknown.

| name | meaning |
|---|---|
{attributes}

## Daily aggregates

The columns of `features.customer_days`, from which the features are computed. Each is evaluated on the rows of one source:

{sources}

| name | meaning | source | days are merged by |
|---|---|---|---|
{aggregates}
"""


def _list_daily_aggregates(expression: Expression) -> str:
    used = {aggregate.daily_aggregate.name: aggregate.daily_aggregate for aggregate in expression.aggregates.values()}
    return ", ".join(f"{daily.operation} of `{name}`" for name, daily in used.items()) or "days and gaps of the customer"
