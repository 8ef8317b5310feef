"""What a row of marts.effects says, in a sentence."""

from collections.abc import Mapping
from typing import Any

from jobs.config.campaigns import METRICS
from jobs.experiments.uplift import METHODS
from jobs.report.formatting import format_percent

_METHOD_NAMES = dict(zip(METHODS, ("two models", "the transformed outcome"), strict=True))


def format_value(value: float | None, metric: str) -> str:
    """Return a mean or a difference of a metric.

    >>> format_value(0.1234, "churn"), format_value(12.3, "net"), format_value(0.0432, "orders"), format_value(None, "net")
    ('12.34 %', '12.30', '0.0432', '–')
    """
    if value is None:
        return "–"
    if metric in ("conversion", "churn"):
        return f"{value * 100:z.2f} %"
    return f"{value:,.2f}" if metric == "net" else f"{value:.3g}"


def format_difference(value: float | None, metric: str) -> str:
    """Return a difference of two means of a metric; of shares it is in percentage points.

    >>> format_difference(0.0123, "churn"), format_difference(-2.5, "net")
    ('1.23 points', '-2.50')
    """
    return format_value(value, metric).replace(" %", " points")


def explain_mismatch(row: Mapping[str, Any]) -> str:
    """Return what is wrong with the sides of a campaign."""
    return (
        f"{row['n_holdout']:,} customers are held out where {row['expected_holdout']:,.1f} are expected"
        f" (p = {row['mismatch_p']:.1g}): a sample-ratio mismatch, so nothing can be said"
    )


def explain_too_few(row: Mapping[str, Any]) -> str:
    """Return how many customers it would take.

    >>> explain_too_few({"n_treated": 90, "n_holdout": 10, "needed_customers": 25_000, "smallest_effect": 0.1})
    'not enough customers to tell: 25,000 needed for an effect of 10 %, and 100 are in the audience'
    """
    customers = f"{row['n_treated'] + row['n_holdout']:,}"
    if row["needed_customers"] is None:
        return f"not enough customers to tell: what the {customers} did does not say how many are needed"
    return (
        f"not enough customers to tell: {row['needed_customers']:,} needed for an effect of {row['smallest_effect'] * 100:g} %,"
        f" and {customers} are in the audience"
    )


def explain_plan(row: Mapping[str, Any]) -> str:
    """Return what effect can be seen before a campaign begins."""
    if row["detectable_share"] is None or row["detectable_share"] > row["smallest_effect"]:
        return explain_too_few(row)
    detectable = f"{format_difference(row['detectable'], row['metric'])} ({format_percent(row['detectable_share'])})"
    return f"the smallest effect that it will find, with a probability of 80 %: {detectable}"


def explain_effect(row: Mapping[str, Any]) -> str:
    """Return what a row of marts.effects claims."""
    if row["status"] == "mismatch":
        return explain_mismatch(row)
    if row["status"] == "too_few":
        return explain_too_few(row)
    if row["status"] == "planned":
        return explain_plan(row)
    if row["difference"] is None:
        return "nobody differs yet"
    texts = [format_difference(row[name], row["metric"]) for name in ("difference", "low", "high")]
    interval = f"{texts[0]} ({texts[1]} to {texts[2]}) {METRICS[row['metric']]}"
    if row["relative"] is not None:
        shares = [format_percent(row[name]) for name in ("relative", "relative_low", "relative_high")]
        interval += f", which is {shares[0]} ({shares[1]} to {shares[2]}) of the customers held out"
    claims = {
        "running": "not over, and no effect is seen yet",
        "effect": "an effect",
        "no_effect": "no effect is seen",
    }
    return f"{claims[row['status']]}: {interval}"


def explain_uplift(row: Mapping[str, Any]) -> str | None:
    """Return whether the effect on single customers could be forecast; None before the campaign has ended."""
    if row["qini"] is None:
        return None
    low, high = row["qini_low"], row["qini_high"]
    outcome = "better than chance, in marts.campaign_uplift" if low > 0 else "not better than chance, so it is not published"
    return f"by {_METHOD_NAMES[row['uplift_method']]}, Qini coefficient {row['qini']:.3g} ({low:.3g} to {high:.3g}): {outcome}"
