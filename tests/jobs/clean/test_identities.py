"""clean.identities: whose events a visitor's are."""

from pyspark.sql import functions as F

from jobs.clean import identities


def at(spark, rows, columns):
    frame = spark.createDataFrame(rows, ", ".join(f"{c} STRING" for c in columns))
    return frame.select(*(F.col(c).cast("timestamp") if c.endswith("_at") else F.col(c) for c in columns))


def test_a_visitor_belongs_to_who_was_seen_last_and_back_to_its_first_event_to_who_was_seen_first(spark):
    observed = at(spark, [("v", "2024-03-03 10:00", "anna"),
                          ("v", "2024-03-04 10:00", "anna"), ("v", "2024-03-05 10:00", "bert")],
                  ("visitor_id", "observed_at", "customer_id"))  # fmt: skip
    first = at(spark, [("v", "2024-03-01 09:00")], ("visitor_id", "first_at"))
    found = identities.identities(observed, first)
    intervals = {(str(r.valid_from), str(r.valid_to), r.customer_id, r.rule) for r in found.collect()}
    assert intervals == {
        ("2024-03-01 09:00:00", "2024-03-05 10:00:00", "anna", "back_to_first_event"),
        ("2024-03-05 10:00:00", "None", "bert", "seen"),
    }
    events = at(spark, [("v", "2024-03-01 09:00", None), ("v", "2024-03-04 23:00", None), ("v", "2024-03-06 00:00", None),
                        ("w", "2024-03-06 00:00", None)], ("visitor_id", "event_at", "customer_id"))  # fmt: skip
    events = events.withColumn("day", F.to_date("event_at"))
    resolved = identities.resolved(events, found).orderBy("event_at", "visitor_id").collect()
    assert [(r.customer_id, str(r.identified_on)) for r in resolved] == [
        ("anna", "2024-03-03"), ("anna", "2024-03-04"), ("bert", "2024-03-06"), (None, "None"),
    ]  # fmt: skip
