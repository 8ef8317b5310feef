"""clean.customers: attributes as known on a day."""

from jobs.clean import customers
from jobs.config.source_mapping import COLUMNS


def test_an_unknown_registration_is_null_and_other_fields_are_attributes(spark):
    sent = [("anna", "1970-01-01 00:00:00", 1), ("bert", "2024-02-01 10:00:00", 2), ("", "2024-02-01", 3)]
    frame = spark.createDataFrame(sent, "customer_id STRING, registered_at STRING, _row BIGINT")
    others = [f"CAST(NULL AS STRING) AS {c}" for c in COLUMNS["customers"] if c not in frame.columns]
    raw = frame.selectExpr("*", *others, "map('ltv', '3') AS _extra", "'f' AS _file", "DATE'2024-03-01' AS day")
    rows = customers.classify_customers(raw).orderBy("_row").collect()
    assert [(r.outcome, str(r.registered_at)) for r in rows] == [
        ("kept", "None"), ("kept", "2024-02-01 10:00:00"), ("reject", "2024-02-01 00:00:00"),
    ]  # fmt: skip
    assert rows[0].attributes == {"ltv": "3"}
