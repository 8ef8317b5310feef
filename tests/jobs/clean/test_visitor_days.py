"""clean.visitor_days: when a visitor was active, and when another customer was seen on it."""

from datetime import UTC, date, datetime

import polars as pl

from jobs.clean import visitor_days

DAY = date(2024, 3, 3)


def events(*rows):
    """Events of one visitor: (time of day, customer named by its number, customer named in any way)."""
    at = [datetime.combine(DAY, datetime.strptime(time, "%H:%M").time(), UTC) for time, *_ in rows]  # noqa: DTZ007
    return pl.DataFrame(
        {"visitor_id": "v", "day": DAY, "visitor_day": 0, "event_at": at, "customer_id": [row[1] for row in rows],
         "known_customer_id": [row[2] for row in rows], "event_type": "view", "source_id": "id", "order_id": None,
         "product_id": None},
        schema_overrides={"event_at": pl.Datetime("us", "UTC"), "customer_id": pl.String, "known_customer_id": pl.String,
                          "order_id": pl.String, "product_id": pl.String},
    )  # fmt: skip


def test_a_day_keeps_only_the_times_at_which_the_customer_changes():
    sent = (
        ["10:00", None],
        ["10:01", "anna"],
        ["10:02", None],
        ["10:03", "anna"],
        ["10:04", "bert"],
        ["10:04", "anna"],
        ["10:05", "anna"],
    )
    rows = [(at, who if who == "anna" else None, who) for at, who in sent]  # bert is named by an e-mail address
    (row,) = visitor_days.summarize_visitor_days(events(*rows)).to_dicts()
    assert (f"{row['first_at']:%H:%M}", f"{row['last_at']:%H:%M}") == ("10:00", "10:05")
    assert [(f"{s['observed_at']:%H:%M}", s["customer_id"]) for s in row["seen"]] == [
        ("10:01", "anna"), ("10:04", "bert"), ("10:05", "anna")]  # fmt: skip
    assert [f"{at:%H:%M}" for at in row["mailed"]] == ["10:04"]


def test_a_visitor_without_a_customer_has_a_row_too():
    (row,) = visitor_days.summarize_visitor_days(events(("10:00", None, None))).to_dicts()
    assert row["seen"] == []
