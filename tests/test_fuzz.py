"""Damaged files are read or refused in one line, and every wild row is accounted for. benchmarks.fuzz runs more cases."""

from collections import Counter

from pyspark.sql import functions as F

from benchmarks import fuzz
from jobs.clean import customers, events, identities, orders, products, rules, visitor_days
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS
from jobs.storage.lake import union_all

FILES, ROWS = 120, 20  # rows of each of four tables: 200 cases in all


def test_a_damaged_file_is_read_to_its_last_row_or_refused_in_one_line(tmp_path):
    n_refused = sum(fuzz.is_file_refused(tmp_path, seed) for seed in range(FILES))
    assert 0 < n_refused < FILES


def wild(spark, table):
    """Wild rows as landed, on three days."""
    values = [
        (*(text or None for text in row), {}, n, fuzz.DAYS[n % 3]) for n, row in enumerate(fuzz.make_rows(table, ROWS, seed=1))
    ]
    columns = ", ".join(f"{c} STRING" for c in COLUMNS[table])
    frame = spark.createDataFrame(values, f"{columns}, _extra MAP<STRING, STRING>, _row BIGINT, day DATE")
    landed = frame.withColumns({"_source": F.lit("wild"), "_file": F.lit("f"), "_file_day": F.col("day")})
    return landed.withColumn("_landed_at", F.lit(None).cast("timestamp"))


def test_a_wild_row_is_kept_refused_or_repeated_by_a_declared_rule(spark):
    people_sent = customers.classify_customers(wild(spark, "customers"))
    goods_sent = products.classify_products(wild(spark, "products"), "GBP")
    people, goods = (
        frame.where("outcome = 'kept'").select(*(c for c in table.TABLE.columns if c in frame.columns))
        for frame, table in ((people_sent, customers), (goods_sent, products))
    )
    clicks = events.classify_events(wild(spark, "events"), "GBP", Clean().clock_skew_seconds)
    bought = orders.classify_orders(wild(spark, "orders"), goods, people, wild(spark, "rates"), "GBP")
    outcomes = {"customers": people_sent, "products": goods_sent, "events": clicks, "orders": bought}
    counts = Counter()
    frames = [frame.select(F.lit(table).alias("table"), "outcome", "rules") for table, frame in outcomes.items()]
    for row in union_all(frames).collect():
        counts[row.table] += 1
        assert row.outcome in ("kept", "reject", "duplicate")
        assert (row.outcome == "kept") == (row.rules == [])
        assert set(row.rules) <= {rule.name for rule in rules.RULES if rule.table == row.table}
    assert counts == dict.fromkeys(outcomes, ROWS)
    assert len(people.collect()) > 0, "kept rows can be collected, whatever years they have"
    seen = customers.add_known_customer(clicks.where("outcome = 'kept'"), people)
    links = identities.identities(visitor_days.visitor_days(seen), Clean())
    assert {row.rule for row in links.collect()} <= rules.rule_names(rules.LINKED)
