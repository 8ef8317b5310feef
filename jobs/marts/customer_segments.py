"""One row per customer, as of the latest published day: the segment, since when, how sure and why.

Input: features.customers, segments.assignments, segments.definitions, segments.calibration, segments.history, and the
encoder of the day. Publishing a day that is older than the published one changes nothing.

Confidence is the share of refits under which customers with such a margin are in the same segment. About a customer first known
fewer than `segment.known_days` days ago less is known. In proportion to the missing days, the segment's share of all active
customers counts instead: the best guess for a customer never seen.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import catalogue
from jobs.config.settings import Settings
from jobs.encoder import REPRESENTATIONS, OnnxEncoder, load_encoder
from jobs.errors import UserError
from jobs.marts import _members
from jobs.marts._reasons import Explainer, explain_against_runner_up, fit_explainer, lead_of_runner_up
from jobs.progress import log
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix
from jobs.traits import DORMANT

# Lists of the features that go together, and so are one reason, as JSON.
FAMILIES_PROPERTY = "shoal.families"
SAMPLE_PER_SEGMENT = 2000  # customers that the explainer is fitted on; drawn by hash, so about as many

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; keeps its meaning over time; 0: dormant',
    segment_name STRING COMMENT 'Name of the segment, unique per day',
    since_day DATE COMMENT 'First day of the present stay in the segment',
    previous_segment_id INT COMMENT 'Segment on the known day before since_day; null: not known on it',
    as_of_day DATE COMMENT 'Nothing after the end of this day (UTC) is in this row',
    recency_days BIGINT COMMENT 'Days since the last event or order; null: never any',
    orders_365d BIGINT COMMENT 'Orders in the last 365 days',
    net_365d DECIMAL(18,4) COMMENT 'Net amount of the orders of the last 365 days, home currency',
    confidence DOUBLE COMMENT 'Share of refits on resampled customers under which such a customer is in this segment: 0 to 1',
    reasons ARRAY<STRING> COMMENT 'Up to three: what puts the customer here rather than in the runner-up',
    model_version STRING COMMENT 'Version of the encoder',
    runner_up_id INT COMMENT 'Segment with the second nearest centre; null for dormant',
    runner_up_name STRING COMMENT 'Name of that segment',
    reasons_hold BOOLEAN COMMENT 'Whether the customer moves to another segment once the reasons are as typical of the runner-up',
    outlier_reason STRING COMMENT 'Far from the segment, unlike other customers, or both; null: no outlier'
"""
TABLE = Table(
    "marts.customer_segments",
    "One row per customer: the segment as of the latest published day, since when, how sure and why.",
    SCHEMA,
    checks={"has_customer": "customer_id IS NOT NULL", "segment_not_negative": "segment_id >= 0"},
    properties={"delta.dataSkippingNumIndexedCols": "10"},  # up to confidence: reports filter on these, so they have bounds
)


@dataclass(frozen=True)
class Calibration:
    """How sure a margin makes the segment, by segment id."""

    curves: dict[int, tuple[list[float], list[float]]]  # margins and shares of refits
    shares: dict[int, float]  # of the active customers
    known_days: int

    def confidence(self, segments: np.ndarray, margins: np.ndarray, tenure_days: np.ndarray) -> np.ndarray:
        """Return the confidence of n active customers, 0 to 1.

        >>> calibration = Calibration({1: ([0.0, 0.2], [0.5, 1.0])}, {1: 0.3}, known_days=10)
        >>> calibration.confidence(np.array([1, 1, 1]), np.array([0.1, 0.9, 0.9]), np.array([400, 9, 4])).round(6).tolist()
        [0.75, 1.0, 0.65]
        """
        known_share = np.minimum((tenure_days + 1) / self.known_days, 1.0)
        confidence = np.empty(len(segments))
        for segment_id in np.unique(segments):
            is_member, (curve_margins, curve_shares) = segments == segment_id, self.curves[segment_id]
            share = self.shares[segment_id]
            gain = np.interp(margins[is_member], curve_margins, curve_shares) - share if curve_margins else 0.0
            confidence[is_member] = share + known_share[is_member] * gain
        return confidence


def describe_customers(
    members: DataFrame,
    names: dict[int, str],
    memberships: DataFrame,
    explainer: Explainer | None,
    calibration: Calibration,
    day: date,
) -> DataFrame:
    """Rows of _members.read_members() and select_memberships() -> marts.customer_segments as of `day`.

    `names` are the names of the segments by id. `explainer` may be None where all customers are dormant.
    """
    customers = members.join(memberships, "customer_id", how="left")
    explain = functools.partial(_explain_batches, explainer, calibration)
    explained = customers.select(*_CARRIED, *_EXPLAINED_BY).mapInArrow(explain, _EXPLAINED)
    name_of = F.create_map(*(F.lit(part) for pair in names.items() for part in pair))
    return explained.select(
        "customer_id",
        "segment_id",
        name_of[F.col("segment_id")].alias("segment_name"),
        "since_day",
        "previous_segment_id",
        F.lit(day).alias("as_of_day"),
        "recency_days",
        "orders_365d",
        "net_365d",
        "confidence",
        "reasons",
        "model_version",
        "runner_up_id",
        name_of[F.col("runner_up_id")].alias("runner_up_name"),
        "reasons_hold",
        "outlier_reason",
    )


def select_memberships(history: DataFrame, day: date) -> DataFrame:
    """segments.history -> (customer_id, since_day, previous_segment_id) of the intervals that hold on `day`."""
    holds = (F.col("valid_from") <= F.lit(day)) & (F.col("valid_to").isNull() | (F.col("valid_to") > F.lit(day)))
    return history.where(holds).select("customer_id", F.col("valid_from").alias("since_day"), "previous_segment_id")


_CARRIED = (
    "customer_id", "segment_id", "since_day", "previous_segment_id", "recency_days", "orders_365d", "net_365d",
    "model_version", "runner_up_id", "outlier_reason",
)  # fmt: skip
_EXPLAINED_BY = ("distance", "margin", "tenure_days", "vector", "attributes")
_EXPLAINED = """
    customer_id STRING, segment_id INT, since_day DATE, previous_segment_id INT, recency_days BIGINT, orders_365d BIGINT,
    net_365d DECIMAL(18,4), model_version STRING, runner_up_id INT, outlier_reason STRING,
    confidence DOUBLE, reasons ARRAY<STRING>, reasons_hold BOOLEAN
"""


def _explain_batches(
    explainer: Explainer | None, calibration: Calibration, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        confidence = np.ones(batch.num_rows)  # dormant customers are in their segment by rule: no doubt
        reasons = np.empty(batch.num_rows, dtype=object)
        hold = np.zeros(batch.num_rows, dtype=bool)
        is_dormant = batch["segment_id"].to_numpy() == DORMANT
        for row in np.flatnonzero(is_dormant):
            reasons[row] = _explain_dormant(batch["recency_days"][row].as_py())
        if not is_dormant.all():
            rows = np.flatnonzero(~is_dormant)
            active = batch.filter(pa.array(~is_dormant))
            columns = (active[name].to_numpy() for name in ("segment_id", "runner_up_id", "distance", "margin", "tenure_days"))
            segments, runners_up, distances, margins, tenure_days = columns
            values, attributes = _to_inputs(active)
            leads = lead_of_runner_up(explainer, segments, runners_up, distances, margins)
            texts, hold[rows] = explain_against_runner_up(explainer, values, attributes, segments, runners_up, leads)
            for row, reasons_of_row in zip(rows.tolist(), texts, strict=True):
                reasons[row] = reasons_of_row
            confidence[rows] = calibration.confidence(segments, margins, tenure_days)
        columns = [
            *(batch[name] for name in _CARRIED),
            pa.array(confidence),
            pa.array(reasons, pa.list_(pa.string())),
            pa.array(hold, mask=is_dormant),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=[*_CARRIED, "confidence", "reasons", "reasons_hold"])


def _to_inputs(rows: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns vector and attributes as the two inputs of an encoder: n x d float32 and n x a text."""
    texts = rows["attributes"].flatten().fill_null("").to_numpy(zero_copy_only=False)
    return to_matrix(rows["vector"]), texts.astype(object).reshape(rows.num_rows, -1)


def _explain_dormant(days: int | None) -> list[str]:
    return ["no event or order on record" if days is None else f"no event or order for {days:,} days"]


class Inputs(NamedTuple):
    """What a day is published with, besides its customers."""

    version: str
    attributes: list[str]
    sizes: dict[int, int]  # active customers by segment
    calibration: Calibration
    encoder: OnnxEncoder | None  # None where all customers are dormant


def read_inputs(lake: Lake, settings: Settings, day: date) -> Inputs | None:
    """Return what publishing the day needs; None where a later day is published.

    It is read before anything is written. Raises UserError where the day is not segmented or not encoded, or files of its model
    are missing.
    """
    published = max((as_of for (as_of,) in lake.count_by(TABLE.name, ["as_of_day"])), default=day)
    if published > day:
        log(f"kept  {TABLE.name}: {published} is published, {day} is older")
        return None
    version, _ = _members.read_assigned_model(lake, day)
    calibration_rows = lake.read_small_table("segments.calibration", where=ds.field("model_version") == version)
    if not calibration_rows:
        raise UserError(f"publish: segments.calibration lacks model {version}; run first: shoal segment --day {day}")
    counts = lake.count_by("segments.assignments", ["segment_id"], ds.field("day") == day)
    sizes = {segment_id: n for (segment_id,), n in counts.items() if segment_id != DORMANT}
    calibration = Calibration(
        {row["segment_id"]: (row["margins"], row["shares"]) for row in calibration_rows},
        {segment_id: n / sum(sizes.values()) for segment_id, n in sizes.items()},
        settings.segment.known_days,
    )
    attributes = list(models.meta(settings.models, version)["attributes"])
    return Inputs(version, attributes, sizes, calibration, _open_encoder(lake, settings, version, day) if sizes else None)


def publish(lake: Lake, day: date, inputs: Inputs) -> None:
    """Write the customers of the day."""
    members = _members.read_members(lake, day, inputs.attributes)
    explainer = _fit_explainer(lake, day, inputs, inputs.encoder) if inputs.encoder else None
    names, memberships = _members.read_segment_names(lake, day), select_memberships(_members.read_history(lake, day), day)
    customers = describe_customers(members, names, memberships, explainer, inputs.calibration, day)
    lake.replace(TABLE, customers.repartition(1).sortWithinPartitions("customer_id"))
    if explainer:
        families = [[explainer.features[column] for column in family] for family in explainer.families]
        lake.set_property(TABLE, FAMILIES_PROPERTY, json.dumps(families))


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the day, unless a later one is published."""
    inputs = read_inputs(lake, settings, day)
    if inputs:
        publish(lake, day, inputs)


def _open_encoder(lake: Lake, settings: Settings, version: str, day: date) -> OnnxEncoder:
    of_day = (ds.field("model_version") == version) & (ds.field("day") == day)
    encodings = lake.count_by("encoded.customers", ["representation"], of_day)
    if not encodings:
        raise UserError(
            f"publish: encoded.customers has no rows of model {version} on {day}; run first: shoal encode --day {day}"
        )
    representation = next(iter(encodings))[0] or models.LEARNED_EMBEDDING
    return load_encoder(settings.models, version, [REPRESENTATIONS[representation]])


def _fit_explainer(lake: Lake, day: date, inputs: Inputs, encoder: OnnxEncoder) -> Explainer:
    """Fit the explainer on a sample: all customers of a small segment, a share by hash of a large one."""
    of_model = ds.field("model_version") == inputs.version
    definitions = lake.read_small_table("segments.definitions", ["segment_id", "center"], of_model)
    rows = sorted((row for row in definitions if row["segment_id"] != DORMANT), key=itemgetter("segment_id"))
    features = json.loads(lake.properties("features.customers")["shoal.vector"])
    units = {feature.name: feature.unit for feature in catalogue.FEATURES}
    is_drawn = " OR ".join(
        f"segment_id = {segment_id} AND pmod(xxhash64(customer_id), {n}) < {SAMPLE_PER_SEGMENT}"
        for segment_id, n in inputs.sizes.items()
    )
    members = _members.read_members(lake, day, inputs.attributes, is_drawn)
    sample = members.select("customer_id", "segment_id", "vector", "attributes")
    (batch,) = sample.toArrow().sort_by("customer_id").combine_chunks().to_batches()
    return fit_explainer(
        encoder,
        features,
        [units[name] for name in features],
        np.array([row["segment_id"] for row in rows]),
        np.array([row["center"] for row in rows], dtype=np.float64),
        *_to_inputs(batch),
        batch["segment_id"].to_numpy(),
    )
