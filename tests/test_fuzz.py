"""Damaged files are read or refused in one line, and every wild row is accounted for. benchmarks.fuzz runs more cases."""

from collections import Counter

from pyspark.sql import functions as F

from benchmarks import fuzz
from jobs.clean import customers, events, identities, orders, products, rules, visitor_days
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS

FILES, ROWS = 120, 20  # rows of each of four tables: 200 cases in all


def test_a_damaged_file_is_read_to_its_last_row_or_refused_in_one_line(tmp_path):
    n_refused = sum(fuzz.is_file_refused(tmp_path, seed) for seed in range(FILES))
    assert 0 < n_refused < FILES


def wild(spark, table):
    """Wild rows as landed, on three days."""
    given = [
        (*(text or None for text in row), {}, n, fuzz.DAYS[n % 3]) for n, row in enumerate(fuzz.make_rows(table, ROWS, seed=1))
    ]
    columns = ", ".join(f"{c} STRING" for c in COLUMNS[table])
    frame = spark.createDataFrame(given, f"{columns}, _extra MAP<STRING, STRING>, _row BIGINT, day DATE")
    landed = frame.withColumns({"_source": F.lit("wild"), "_file": F.lit("f"), "_file_day": F.col("day")})
    return landed.withColumn("_landed_at", F.lit(None).cast("timestamp"))


def test_a_wild_row_is_kept_refused_or_repeated_by_a_declared_rule(spark):
    known, listed = customers.judged(wild(spark, "customers")), products.judged(wild(spark, "products"), "GBP")
    people, goods = (
        frame.where("outcome = 'kept'").select(*(c for c in table.TABLE.columns if c in frame.columns))
        for frame, table in ((known, customers), (listed, products))
    )
    clicks = events.judged(wild(spark, "events"), "GBP", Clean().clock_skew_seconds)
    bought = orders.judged(wild(spark, "orders"), goods, people, wild(spark, "rates"), "GBP")
    judged = {"customers": known, "products": listed, "events": clicks, "orders": bought}
    found = Counter()
    outcomes = [frame.select(F.lit(table).alias("table"), "outcome", "rules") for table, frame in judged.items()]
    for row in outcomes[0].union(outcomes[1]).union(outcomes[2]).union(outcomes[3]).collect():
        found[row.table] += 1
        assert row.outcome in ("kept", "reject", "duplicate")
        assert (row.outcome == "kept") == (row.rules == [])
        assert set(row.rules) <= {rule.name for rule in rules.RULES if rule.table == row.table}
    assert found == dict.fromkeys(judged, ROWS)
    assert len(people.collect()) > 0, "what is kept can be told, whatever years it names"
    seen = customers.named(clicks.where("outcome = 'kept'"), people)
    links = identities.identities(visitor_days.visitor_days(seen), Clean())
    assert {row.rule for row in links.collect()} <= rules.rule_names(rules.LINKED)
