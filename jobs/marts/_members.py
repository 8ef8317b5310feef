"""The customers of a day with their segment, and other inputs that the marts share."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.engine.tasks import Produced
from jobs.errors import UserError
from jobs.storage import delta
from jobs.storage.lake import Lake

BATCH_ROWS = 32_768  # customers read at once: their vectors of a hundred features take 13 MB
MONEY = pa.decimal128(18, 4)

CUSTOMER_COLUMNS = pa.schema(
    {
        "customer_id": pa.string(), "recency_days": pa.int64(), "orders_365d": pa.int64(), "net_365d": MONEY,
        "tenure_days": pa.int64(),
    }
)  # fmt: skip
SEGMENT_COLUMNS = pa.schema(
    {
        "customer_id": pa.string(), "segment_id": pa.int32(), "distance": pa.float64(), "runner_up_id": pa.int32(),
        "margin": pa.float64(), "is_outlier": pa.bool_(), "model_version": pa.string(), "outlier_reason": pa.string(),
    }
)  # fmt: skip
INTERVAL_COLUMNS = pa.schema(
    {
        "customer_id": pa.string(), "segment_id": pa.int32(), "valid_from": pa.date32(), "valid_to": pa.date32(),
        "previous_segment_id": pa.int32(),
    }
)  # fmt: skip

VALUE_COLUMNS = pa.schema({"customer_id": pa.string(), "expected_net_365d": MONEY, "p_alive": pa.float64()})
OUTCOME_COLUMNS = pa.schema({"customer_id": pa.string(), "probability": pa.float64()})
CHURN = "churn"  # the outcome of conf/outcomes.toml that has a column of its own
HOLDOUT_COLUMNS = pa.schema({"customer_id": pa.string(), "campaign": pa.string()})


class Scan(NamedTuple):
    """Columns and rows of a stored table, which may be more than fit into memory."""

    root: str
    table: str
    schema: pa.Schema
    where: ds.Expression


def read_batches(scan: Scan) -> Iterator[pa.Table]:
    """Yield the rows of a scan, BATCH_ROWS at most at once. Raises UserError where the table was not written."""
    rows = delta.open_dataset(delta.open_table(scan.root, scan.table))
    batches = rows.to_batches(
        columns=scan.schema.names, filter=scan.where, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1
    )
    for batch in batches:
        yield pa.Table.from_batches([batch]).cast(scan.schema)


def read_rows(scan: Scan) -> pa.Table:
    """Return the rows of a scan."""
    return pa.concat_tables([scan.schema.empty_table(), *read_batches(scan)])


def to_input(scan: Scan) -> Produced:
    """Return the rows of a scan as an input of a kernel whose key is the customer."""
    return Produced(read_batches, (scan,), scan.schema, "customer_id")


def list_values(lake: Lake, day: date) -> Produced:
    """Return the rows of scores.customer_values of a day, VALUE_COLUMNS, as an input; none where the day has no scores."""
    scan = Scan(lake.root, "scores.customer_values", VALUE_COLUMNS, ds.field("day") == day)
    return Produced(read_batches, (scan,) if lake.exists(scan.table) else (), scan.schema, "customer_id")


def list_churn(lake: Lake, day: date) -> Produced:
    """Return the rows of scores.customer_outcomes that say who may churn, OUTCOME_COLUMNS, as an input; none without scores."""
    where = (ds.field("day") == day) & (ds.field("outcome") == CHURN)
    scan = Scan(lake.root, "scores.customer_outcomes", OUTCOME_COLUMNS, where)
    return Produced(read_batches, (scan,) if lake.exists(scan.table) else (), scan.schema, "customer_id")


def list_holdouts(lake: Lake, campaigns: Collection[str]) -> Produced:
    """Return who is held out of these campaigns, HOLDOUT_COLUMNS, as an input; none where there is no campaign."""
    where = ds.field("holdout") & ds.field("campaign").isin(list(campaigns))
    scan = Scan(lake.root, "scores.holdouts", HOLDOUT_COLUMNS, where)
    return Produced(read_batches, (scan,) if campaigns and lake.exists(scan.table) else (), scan.schema, "customer_id")


def scan_customers(lake: Lake, days: Collection[date], columns: Sequence[str]) -> Scan:
    """Return a scan of features.customers; `columns` are of CUSTOMER_COLUMNS, and `day` if wanted."""
    schema = pa.schema([pa.field("day", pa.date32()) if name == "day" else CUSTOMER_COLUMNS.field(name) for name in columns])
    return Scan(lake.root, "features.customers", schema, ds.field("day").isin(list(days)))


def scan_vectors(lake: Lake, day: date, attributes: Sequence[str] = ()) -> Scan:
    """Return a scan of the active customers of a day: customer_id, vector, and text columns of features.customers.

    Dormant customers are in their segment by rule, and may be nineteen of twenty.
    """
    texts = [(name, pa.string()) for name in attributes]
    schema = pa.schema([("customer_id", pa.string()), ("vector", pa.list_(pa.float32())), *texts])
    return Scan(lake.root, "features.customers", schema, (ds.field("day") == day) & ds.field("is_active"))


def scan_assignments(lake: Lake, day: date, columns: Sequence[str] = SEGMENT_COLUMNS.names) -> Scan:
    """Return a scan of segments.assignments; `columns` are of SEGMENT_COLUMNS."""
    schema = pa.schema([SEGMENT_COLUMNS.field(name) for name in columns])
    return Scan(lake.root, "segments.assignments", schema, ds.field("day") == day)


def scan_history(lake: Lake, day: date, where: ds.Expression) -> Scan:
    """Return a scan of segments.history with INTERVAL_COLUMNS.

    Raises UserError where an earlier version of Shoal wrote the table without previous_segment_id.
    """
    name = "segments.history"
    delta.open_table(lake.root, name)
    if "previous_segment_id" not in delta.read_columns(lake.path(name)):
        raise UserError(f"publish: {name} in {lake.root} has no column previous_segment_id; run first: shoal segment --day {day}")
    return Scan(lake.root, name, INTERVAL_COLUMNS, where)


def read_assigned_model(lake: Lake, day: date) -> tuple[str, int]:
    """Return the model that `day` was assigned with, and the number of its customers.

    Raises UserError where the day has no assignments.
    """
    counts = lake.count_by("segments.assignments", ["model_version"], ds.field("day") == day)
    if not counts:
        raise UserError(f"publish: segments.assignments has no rows on {day}; run first: shoal segment --day {day}")
    return next(iter(counts))[0], sum(counts.values())


def read_segment_names(lake: Lake, day: date) -> dict[int, str]:
    """Return the names of the day's segments by id."""
    version, _ = read_assigned_model(lake, day)
    of_model = ds.field("model_version") == version
    return {
        row["segment_id"]: row["name"] for row in lake.read_small_table("segments.definitions", ["segment_id", "name"], of_model)
    }


def days_to_publish(lake: Lake, name: str, day: date) -> list[date]:
    """Return the days of a table of changes, `name`, that publishing `day` must write, so that the published days add up.

    They are the day itself, the known days before it that were never published, and the next known day, which is compared
    with it. Raises UserError where the day has no assignments.
    """
    read_assigned_model(lake, day)
    known_days = lake.days("segments.assignments")
    published = lake.count_by("marts.refreshes", ["day"]) if lake.exists(name) else {}
    last_published = max((earlier for (earlier,) in published if earlier < day), default=date.min)
    next_day = min((later for later in known_days if later > day), default=day)
    return [known_day for known_day in known_days if last_published < known_day <= next_day]
