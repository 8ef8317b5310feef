"""The time columns of a bronze row, read once for landing and cleaning alike: what a moment is, and when an event was."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def moment(name: str) -> Column:
    """A text column as a timestamp, UTC where it names no zone; null where it is none.

    None are a time of day without a date, and years that no shop had or that Python does not know.
    """
    read = f"try_cast(trim({name}) AS TIMESTAMP)"
    known = f"{read} >= TIMESTAMP'1900-01-01' AND {read} < TIMESTAMP'9999-12-31'"
    return F.expr(f"CASE WHEN trim({name}) RLIKE '^[0-9]{{4}}-' AND {known} THEN {read} END")


def event_time(skew_seconds: float) -> tuple[Column, Column]:
    """When an event of bronze.events was, and by how many seconds its client's clock was corrected (null: not).

    A client's clock that differs by more than `skew_seconds` from the server's, when the event went out and came in, is
    taken to have differed as much when it happened: Snowplow's derived_tstamp. Without `sent_at`, an event from after its
    arrival happened when it arrived.
    """
    own, sent, received = moment("event_at"), moment("sent_at"), moment("received_at")
    behind = F.unix_micros(received) - F.unix_micros(sent)
    shift = F.when(F.abs(behind) > int(skew_seconds * 1e6), behind).when(
        sent.isNull() & (own > received), F.unix_micros(received) - F.unix_micros(own)
    )
    return F.coalesce(F.timestamp_micros(F.unix_micros(own) + shift), own), F.when(own.isNotNull(), shift) / 1e6
