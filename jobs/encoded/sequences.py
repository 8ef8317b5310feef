"""encoded.sequences: one row per customer with an event and day, the vector of their events in order.

Inputs: features.event_sequences and the sequence encoder of the day's champion. Only customers whose events changed since the
last encoded day are read and encoded again; the others keep the vector that the same model gave them. A customer without events
has no row. A day whose champion has no sequence encoder has no rows.
"""

from collections.abc import Mapping
from datetime import date
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs import event_sequences
from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import COLLECT, Tables
from jobs.errors import UserError
from jobs.storage import models
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_lists

SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'as of the end of this day, in the business time zone',
    model_version STRING NOT NULL COMMENT 'version of the model whose sequence encoder it is',
    vector ARRAY<FLOAT> NOT NULL COMMENT 'place of the events in order, of length 1; not comparable across models',
    n_events BIGINT NOT NULL COMMENT 'events known on the day; the encoder reads the last ones of them',
    last_event_at TIMESTAMP NOT NULL COMMENT 'time of the last event, UTC',
    fingerprint BIGINT NOT NULL COMMENT 'sum of the fingerprints of the events: the vector is new where it differs'"""
TABLE = Table("encoded.sequences", __doc__.split("\n\n")[0], SCHEMA, "day", {"has_events": "n_events > 0"})
CUSTOMERS = Table("features.customers", "Who is known.", "customer_id STRING, day DATE", partition="day")
_ENCODED = pa.schema([("customer_id", pa.string()), ("vector", pa.list_(pa.float32()))])


def encode_events(
    tables: Tables, content: bytes, max_events: int, changed: pa.Array, owners: Mapping[str, str] | None = None
) -> Tables:
    """Return `encoded` (customer_id, vector) of the `changed` customers that have `events`, rows of features.event_sequences.

    Key: customer, or the account that theirs is part of by `owners`. About 25 µs of CPU a customer and 2 µs an event. Raises
    UserError where a vector is no number.
    """
    ids = event_sequences.name_owners(tables["events"]["customer_id"], owners or {}).unique()
    ids = ids.filter(pc.is_in(ids, changed)).sort()
    if not len(ids):
        return {"encoded": _ENCODED.empty_table()}
    sequences = event_sequences.to_sequences(tables["events"], ids, max_events, owners)
    vectors = event_sequences.encode_sequences(content, sequences)
    if not np.isfinite(vectors).all():
        customer = ids[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise UserError(
            f"encode: customer {customer} gets a sequence vector that is no number; train again: shoal train --retrain"
        )
    return {"encoded": pa.table({"customer_id": ids, "vector": to_lists(vectors)}, schema=_ENCODED)}


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Encode the events of all customers of the day with the day's champion.

    Raises UserError without the encoder's file, for a damaged one, and where it does not reproduce its golden vectors; nothing is
    written then.
    """
    lake.create(TABLE)
    champion = models.champion(settings.models, day)
    meta = models.meta(settings.models, champion["version"]).get("sequence") if champion else None
    if meta is None:
        if day in lake.days(TABLE.name):
            lake.replace_rows(TABLE, TABLE.arrow_schema.empty_table(), [day])
        return
    version = champion["version"]
    content = models.read(settings.models, version, models.SEQUENCE)
    event_sequences.require_golden(content, meta["golden"], version)
    people = _read_frame(lake, Rows(CUSTOMERS, "customer_id", ("customer_id",), [day]))
    summaries = to_frame(event_sequences.read_summaries(lake.root, day)).join(people, "customer_id", "semi")
    kept = summaries.join(_read_earlier(lake, version, day), ["customer_id", "fingerprint"], "inner")
    changed = summaries.join(kept, "customer_id", "anti")
    encoded = _encode_changed(lake, settings, day, content, meta["settings"]["max_events"], changed)
    rows = pl.concat([kept.select(encoded.columns), encoded]).with_columns(day=pl.lit(day), model_version=pl.lit(version))
    lake.replace_rows(TABLE, rows.sort("customer_id").select(TABLE.columns).to_arrow(), [day])


def _read_earlier(lake: Lake, version: str, day: date) -> pl.DataFrame:
    """Return (customer_id, fingerprint, vector) of the last day before that this model has encoded."""
    earlier = max((encoded for encoded in lake.days(TABLE.name) if encoded < day), default=None)
    of_model = Rows(
        TABLE,
        "customer_id",
        ("customer_id", "fingerprint", "vector"),
        [earlier] if earlier else [],
        where=pc.field("model_version") == version,
    )
    return _read_frame(lake, of_model)


def _encode_changed(
    lake: Lake, settings: Settings, day: date, content: bytes, max_events: int, changed: pl.DataFrame
) -> pl.DataFrame:
    """Return the columns of `changed` with the vectors of these customers."""
    if changed.is_empty():
        return changed.with_columns(vector=pl.lit(None, pl.List(pl.Float32)))
    owners = event_sequences.read_owners(lake.root, day)
    ids = changed["customer_id"].to_arrow().cast(pa.string())
    accounts = pa.concat_arrays([ids, pa.array(list(owners), pa.string())])
    where = event_sequences.is_known(day) & pc.field("customer_id").isin(accounts)
    days = event_sequences.days_until(lake.root, day)
    rows = Rows(event_sequences.TABLE, partial(event_sequences.find_owners, owners=owners), None, days, where=where)
    kernel = partial(encode_events, content=content, max_events=max_events, changed=ids, owners=owners)
    n_rows = lake.count_rows(event_sequences.TABLE.name, days)
    with open_runner(lake, settings, n_rows) as runner:
        inputs = runner.read({"events": rows}, count_buckets(n_rows))
        vectors = to_frame(runner.run(kernel, inputs, {"encoded": COLLECT}).collected["encoded"])
    return changed.join(vectors, "customer_id", "inner")


def _read_frame(lake: Lake, rows: Rows) -> pl.DataFrame:
    return to_frame(read_rows(lake.root, rows))
