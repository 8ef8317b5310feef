"""The section on what customers are worth: by segment, and how good the forecast was."""

from datetime import date

import polars as pl
import pyarrow.compute as pc

from jobs.config.settings import Settings
from jobs.report._tables import read_table
from jobs.storage import models

# What forecasts are made by, as people call it.
METHODS = {
    "mbg_nbd": "MBG/NBD",
    "bg_nbd": "BG/NBD",
    "last_period": "As in the last 90 days",
    "segment_mean": "Mean of the segment",
}
_COLUMNS = ["customer_id", "model_version", "method", "p_alive", "expected_orders_365d", "expected_net_365d"]


def summarize_values(settings: Settings, day: date, segments: list[dict]) -> dict | None:
    """Return what the buyers of each of the listed `segments` are worth, and how the method was chosen.

    None where the day has no values. A segment with fewer than segment.min_cell buyers has no figures.
    """
    values = read_table(settings.lake, "scores.customer_values", _COLUMNS, day)
    assignments = read_table(settings.lake, "segments.assignments", ["customer_id", "segment_id"], day)
    if not values or not assignments:
        return None
    buyers, members = (pl.DataFrame(pl.from_arrow(rows)) for rows in (values, assignments))
    buyers = buyers.join(members, "customer_id", how="inner").sort("customer_id")  # means depend on the order
    figures = buyers.group_by("segment_id", maintain_order=True).agg(
        buyers=pl.len(),
        net=pl.col("expected_net_365d").sum(),
        orders=pl.col("expected_orders_365d").mean(),
        p_alive=pl.col("p_alive").mean(),
    )
    by_segment = {row["segment_id"]: row for row in figures.to_dicts() if row["buyers"] >= settings.segment.min_cell}
    total = sum(row["net"] for row in by_segment.values()) or 1
    rows = [
        segment | by_segment[segment["segment_id"]] | {"net_share": float(by_segment[segment["segment_id"]]["net"] / total)}
        for segment in segments
        if segment["segment_id"] in by_segment
    ]
    method, version = values["method"][0].as_py(), values["model_version"][0].as_py()
    return {
        "rows": rows,
        "method": METHODS[method],
        "n_buyers": values.num_rows,
        "net": pc.sum(values["expected_net_365d"]).as_py(),
        **_summarize_backtest(settings.models, version, method),
    }


def _summarize_backtest(root: str, version: str, method: str) -> dict:
    """Return the reason of the choice, the methods compared, and the tenths of the published one, as far as they are known."""
    if not models.exists(root, version, models.CUSTOMER_VALUES):
        return {"reason": None, "methods": [], "tenths": [], "since": None}
    meta = models.meta(root, version, models.CUSTOMER_VALUES)
    compared = meta["backtest"]["figures"]
    most = max((max(pair) for pair in compared.get(method, {}).get("deciles", [])), default=0) or 1
    return {
        "reason": _name_methods(meta["reason"]),
        "since": meta["backtest"]["day"],
        "methods": [{"name": METHODS[name], "is_published": name == method, **figures} for name, figures in compared.items()],
        "tenths": [
            {"forecast": forecast, "spent": spent, "forecast_bar": forecast / most, "spent_bar": spent / most}
            for forecast, spent in compared.get(method, {}).get("deciles", [])
        ],
    }


def _name_methods(reason: str) -> str:
    """Return a reason with the methods as people call them.

    >>> _name_methods("mbg_nbd is better than last_period and segment_mean in orders and money")
    'MBG/NBD is better than the last 90 days and the mean of the segment in orders and money.'
    """
    names = {
        "mbg_nbd": "MBG/NBD",
        "bg_nbd": "BG/NBD",
        "last_period": "the last 90 days",
        "segment_mean": "the mean of the segment",
    }
    for name, words in names.items():
        reason = reason.replace(name, words)
    return f"{reason[:1].upper()}{reason[1:]}."
