"""clean.visitor_days: when a visitor was active, and when another customer was seen on it."""

from pyspark.sql import functions as F

from jobs.clean import visitor_days


def test_a_day_keeps_only_the_times_at_which_the_customer_changes(spark):
    rows = [
        ("10:00", None),
        ("10:01", "anna"),
        ("10:02", None),
        ("10:03", "anna"),
        ("10:04", "bert"),
        ("10:04", "anna"),
        ("10:05", "anna"),
    ]
    named = [("v", f"2024-03-03 {at}", who if who == "anna" else None, who) for at, who in rows]
    events = spark.createDataFrame(named, "visitor_id STRING, at STRING, customer_id STRING, known_customer_id STRING")
    events = events.withColumns({"event_at": F.col("at").cast("timestamp"), "day": F.to_date("at")})
    (row,) = visitor_days.visitor_days(events).collect()
    assert (f"{row.first_at:%H:%M}", f"{row.last_at:%H:%M}") == ("10:00", "10:05")
    assert [(f"{s.observed_at:%H:%M}", s.customer_id) for s in row.seen] == [
        ("10:01", "anna"), ("10:04", "bert"), ("10:05", "anna")]  # fmt: skip
    assert [f"{at:%H:%M}" for at in row.mailed] == ["10:04"], "bert was named without his number"


def test_a_visitor_without_a_customer_has_a_row_too(spark):
    events = spark.sql("SELECT 'v' visitor_id, DATE'2024-03-03' day, TIMESTAMP'2024-03-03 10:00' event_at, "
                       "CAST(NULL AS STRING) customer_id, CAST(NULL AS STRING) known_customer_id")  # fmt: skip
    (row,) = visitor_days.visitor_days(events).collect()
    assert row.seen == []
