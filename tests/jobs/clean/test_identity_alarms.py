"""clean.identity_alarms: what too many customers share, written only when it changes. Scenarios of identities have examples."""

from jobs.clean import customers, identities, identity_alarms
from jobs.config.settings import Clean


def test_alarms_are_counted_in_the_log_and_written_only_when_they_change(lake, capsys):
    held = [("anna", "m", "2024-03-01"), ("bert", "m", "2024-03-02"), ("bert", "m", "2024-03-03"), ("carl", "own", "2024-03-01")]
    lake.replace(customers.TABLE, lake.spark.createDataFrame(held, "customer_id STRING, email_key STRING, day STRING").selectExpr(
        "customer_id", "CAST(day AS DATE) AS day", "email_key", "CAST(NULL AS TIMESTAMP) AS registered_at",
        "CAST(NULL AS STRING) AS country", "CAST(NULL AS MAP<STRING, STRING>) AS attributes"))  # fmt: skip
    lake.create(identities.TABLE)
    for _ in range(2):
        identity_alarms.run(lake, Clean())
    rows = [tuple(map(str, row)) for row in lake.read(identity_alarms.TABLE).collect()]
    assert rows == [("shared_mail", "m", "2024-03-02", "2")]
    assert lake.version(identity_alarms.TABLE.name) == 1
    assert capsys.readouterr().out.count("0 visitors, 1 addresses: too many customers") == 2
