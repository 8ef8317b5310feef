"""The time columns of a bronze row, read alike when it is landed and when it is cleaned."""

from pyspark.sql import Column
from pyspark.sql import functions as F


def parse_time(name: str) -> Column:
    """Return a text column as a timestamp, UTC where it names no zone; null where it is no time.

    A time of day without a date is no time, nor is a year that no shop had or that Python does not have.
    """
    timestamp = f"try_cast(trim({name}) AS TIMESTAMP)"
    is_possible = f"{timestamp} >= TIMESTAMP'1900-01-01' AND {timestamp} < TIMESTAMP'9999-12-31'"
    return F.expr(f"CASE WHEN trim({name}) RLIKE '^[0-9]{{4}}-' AND {is_possible} THEN {timestamp} END")


def correct_event_time(skew_seconds: float) -> tuple[Column, Column]:
    """Return the time of an event of bronze.events, and the seconds by which its client's clock was corrected, else null.

    The client's clock is wrong where it differs by more than `skew_seconds` from the server's, between sending and
    receiving. It is then taken to have differed as much when the event happened: Snowplow's derived_tstamp. Without
    `sent_at`, an event from after its arrival happened when it arrived.
    """
    own, sent, received = parse_time("event_at"), parse_time("sent_at"), parse_time("received_at")
    difference = F.unix_micros(received) - F.unix_micros(sent)
    shift = F.when(F.abs(difference) > int(skew_seconds * 1e6), difference).when(
        sent.isNull() & (own > received), F.unix_micros(received) - F.unix_micros(own)
    )
    return F.coalesce(F.timestamp_micros(F.unix_micros(own) + shift), own), F.when(own.isNotNull(), shift) / 1e6
