"""One row per customer, as of the latest published day: the segment, since when, how sure and why.

Input: features.customers, segments.assignments, segments.definitions, segments.calibration, segments.history, and the
encoder of the day. Publishing a day older than what is published changes nothing. Confidence is the share of refits under
which customers with such a margin stay where they are. Of a customer first known fewer than `segment.known_days` days ago
less is known: in proportion to the missing days, what counts instead is the segment's share of all active customers, which
is what one would guess of a customer never seen.
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
from jobs.marts import _members, _reasons
from jobs.marts._reasons import Contrasts
from jobs.progress import log
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.traits import DORMANT

# Lists of the features that go together, and so are one reason, as JSON.
FAMILIES_PROPERTY = "shoal.families"
SAMPLE_PER_SEGMENT = 2000  # customers that reasons are found on; a share by hash, so about as many

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
    confidence DOUBLE COMMENT 'Share of refits on other customers under which such a customer is in this segment: 0 to 1',
    reasons ARRAY<STRING> COMMENT 'Up to three: what puts the customer here rather than in the runner-up',
    model_version STRING COMMENT 'Version of the encoder',
    runner_up_id INT COMMENT 'Segment with the second nearest centre; null for dormant',
    runner_up_name STRING COMMENT 'Name of that segment',
    reasons_hold BOOLEAN COMMENT 'With the reasons as is typical of the runner-up, the customer would be in another segment',
    outlier_reason STRING COMMENT 'Far from the segment, unlike other customers, or both; null: no outlier'
"""
TABLE = Table(
    "marts.customer_segments",
    "One row per customer: the segment as of the latest published day, since when, how sure and why.",
    SCHEMA,
    checks={"has_customer": "customer_id IS NOT NULL", "segment_not_negative": "segment_id >= 0"},
    properties={"delta.dataSkippingNumIndexedCols": "10"},  # up to confidence: what a report filters on has bounds
)


@dataclass(frozen=True)
class Sureness:
    """How sure a margin makes one of a segment, by segment id."""

    curves: dict[int, tuple[list[float], list[float]]]  # margins and shares
    sizes: dict[int, float]  # share of the active customers
    known_days: int

    def confidence(self, segments: np.ndarray, margins: np.ndarray, tenure_days: np.ndarray) -> np.ndarray:
        """Of n active customers, 0 to 1.

        >>> sure = Sureness({1: ([0.0, 0.2], [0.5, 1.0])}, {1: 0.3}, known_days=10)
        >>> sure.confidence(np.array([1, 1, 1]), np.array([0.1, 0.9, 0.9]), np.array([400, 9, 4])).round(6).tolist()
        [0.75, 1.0, 0.65]
        """
        known = np.minimum((tenure_days + 1) / self.known_days, 1.0)
        sure = np.empty(len(segments))
        for segment_id in np.unique(segments):
            mine, (at, share) = segments == segment_id, self.curves[segment_id]
            size = self.sizes[segment_id]
            sure[mine] = size + known[mine] * (np.interp(margins[mine], at, share) - size if at else 0.0)
        return sure


def customer_segments(
    members: DataFrame, names: dict[int, str], stays: DataFrame, contrasts: Contrasts | None, sureness: Sureness, day: date
) -> DataFrame:
    """members as from _members.members(), stays as from stays() -> marts.customer_segments as of `day`.

    `contrasts` may be missing where all are dormant.
    """
    known = members.join(stays, "customer_id", how="left")
    explain = functools.partial(_explained, contrasts, sureness)
    explained = known.select(*_CARRIED, *_GIVEN).mapInArrow(explain, _EXPLAINED)
    named = F.create_map(*(F.lit(part) for pair in names.items() for part in pair))
    return explained.select(
        "customer_id",
        "segment_id",
        named[F.col("segment_id")].alias("segment_name"),
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
        named[F.col("runner_up_id")].alias("runner_up_name"),
        "reasons_hold",
        "outlier_reason",
    )


def stays(history: DataFrame, day: date) -> DataFrame:
    """segments.history -> (customer_id, since_day, previous_segment_id) of the stay that holds on `day`."""
    holds = (F.col("valid_from") <= F.lit(day)) & (F.col("valid_to").isNull() | (F.col("valid_to") > F.lit(day)))
    return history.where(holds).select("customer_id", F.col("valid_from").alias("since_day"), "previous_segment_id")


_CARRIED = (
    "customer_id", "segment_id", "since_day", "previous_segment_id", "recency_days", "orders_365d", "net_365d",
    "model_version", "runner_up_id", "outlier_reason",
)  # fmt: skip
_GIVEN = ("distance", "margin", "tenure_days", "vector", "attributes")
_EXPLAINED = """
    customer_id STRING, segment_id INT, since_day DATE, previous_segment_id INT, recency_days BIGINT, orders_365d BIGINT,
    net_365d DECIMAL(18,4), model_version STRING, runner_up_id INT, outlier_reason STRING,
    confidence DOUBLE, reasons ARRAY<STRING>, reasons_hold BOOLEAN
"""


def _explained(contrasts: Contrasts | None, sureness: Sureness, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        confidence = np.ones(batch.num_rows)  # the rule for dormant customers leaves no doubt
        reasons = np.empty(batch.num_rows, dtype=object)
        hold = np.zeros(batch.num_rows, dtype=bool)
        is_dormant = batch["segment_id"].to_numpy() == DORMANT
        for row in np.flatnonzero(is_dormant):
            reasons[row] = _dormant_for(batch["recency_days"][row].as_py())
        if not is_dormant.all():
            rows = np.flatnonzero(~is_dormant)
            active = batch.filter(pa.array(~is_dormant))
            known = (active[name].to_numpy() for name in ("segment_id", "runner_up_id", "distance", "margin", "tenure_days"))
            segments, runners_up, distances, margins, tenure_days = known
            values, attributes = _matrices(active)
            towards = _reasons.towards_runner_up(contrasts, segments, runners_up, distances, margins)
            found, hold[rows] = _reasons.reasons(contrasts, values, attributes, segments, runners_up, towards)
            for row, texts in zip(rows.tolist(), found, strict=True):
                reasons[row] = texts
            confidence[rows] = sureness.confidence(segments, margins, tenure_days)
        columns = [
            *(batch[name] for name in _CARRIED),
            pa.array(confidence),
            pa.array(reasons, pa.list_(pa.string())),
            pa.array(hold, mask=is_dormant),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=[*_CARRIED, "confidence", "reasons", "reasons_hold"])


def _matrices(rows: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Columns vector and attributes as an encoder is given them: n x d float32, NaN = unknown; n x a text, empty = unknown."""

    values, attributes = (rows[name].flatten() for name in ("vector", "attributes"))
    matrix = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(rows.num_rows, -1)
    return matrix, attributes.fill_null("").to_numpy(zero_copy_only=False).astype(object).reshape(rows.num_rows, -1)


def _dormant_for(days: int | None) -> list[str]:
    return ["no event or order on record" if days is None else f"no event or order for {days:,} days"]


class Prepared(NamedTuple):
    """What a day is published with, besides its customers."""

    version: str
    attributes: list[str]
    sizes: dict[int, int]  # active customers by segment
    sureness: Sureness
    encoder: OnnxEncoder | None  # None where all are dormant: by rule


def prepared(lake: Lake, settings: Settings, day: date) -> Prepared | None:
    """Whatever publishing the day needs and may miss, so that it is missed before anything is written; None where a later day is
    published.

    Raises UserError where the day is not segmented or encoded, or its model has not all its files.
    """
    published = max((of for (of,) in lake.count_by(TABLE.name, ["as_of_day"])), default=day)
    if published > day:
        log(f"kept  {TABLE.name}: {published} is published, {day} is older")
        return None
    version, _ = _members.assigned(lake, day)
    of_model = ds.field("model_version") == version
    calibrated = lake.read_small_table("segments.calibration", where=of_model)
    if not calibrated:
        raise UserError(f"publish: segments.calibration lacks model {version}; run first: shoal segment --day {day}")
    sizes = {
        i: n for (i,), n in lake.count_by("segments.assignments", ["segment_id"], ds.field("day") == day).items() if i != DORMANT
    }
    sureness = Sureness(
        {row["segment_id"]: (row["margins"], row["shares"]) for row in calibrated},
        {segment_id: n / sum(sizes.values()) for segment_id, n in sizes.items()},
        settings.segment.known_days,
    )
    attributes = list(models.meta(settings.models, version)["attributes"])
    return Prepared(version, attributes, sizes, sureness, _encoder(lake, settings, version, day) if sizes else None)


def publish(lake: Lake, day: date, known: Prepared) -> None:
    """Publish the day."""
    members = _members.members(lake, day, known.attributes)
    contrasts = _contrasts(lake, day, known, known.encoder) if known.encoder else None
    names, held = _members.names(lake, day), stays(_members.history(lake, day), day)
    frame = customer_segments(members, names, held, contrasts, known.sureness, day)
    lake.replace(TABLE, frame.repartition(1).sortWithinPartitions("customer_id"))
    if contrasts:
        families = [[contrasts.features[column] for column in family] for family in contrasts.families]
        lake.set_property(TABLE, FAMILIES_PROPERTY, json.dumps(families))


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the day, unless a later one is published."""
    known = prepared(lake, settings, day)
    if known:
        publish(lake, day, known)


def _encoder(lake: Lake, settings: Settings, version: str, day: date) -> OnnxEncoder:
    of_day = (ds.field("model_version") == version) & (ds.field("day") == day)
    encoded = lake.count_by("encoded.customers", ["representation"], of_day)
    if not encoded:
        raise UserError(
            f"publish: encoded.customers has no rows of model {version} on {day}; run first: shoal encode --day {day}"
        )
    representation = next(iter(encoded))[0] or models.LEARNED_EMBEDDING
    return load_encoder(settings.models, version, [REPRESENTATIONS[representation]])


def _contrasts(lake: Lake, day: date, known: Prepared, encoder: OnnxEncoder) -> Contrasts:
    of_model = ds.field("model_version") == known.version
    defined = lake.read_small_table("segments.definitions", ["segment_id", "center"], of_model)
    rows = sorted((row for row in defined if row["segment_id"] != DORMANT), key=itemgetter("segment_id"))
    features = json.loads(lake.properties("features.customers")["shoal.vector"])
    units = {feature.name: feature.unit for feature in catalogue.FEATURES}
    # Of a smaller segment all, of a larger one a share by hash.
    drawn = " OR ".join(
        f"segment_id = {segment_id} AND pmod(xxhash64(customer_id), {n}) < {SAMPLE_PER_SEGMENT}"
        for segment_id, n in known.sizes.items()
    )
    sample = _members.members(lake, day, known.attributes, drawn).select("customer_id", "segment_id", "vector", "attributes")
    (batch,) = sample.toArrow().sort_by("customer_id").combine_chunks().to_batches()
    return _reasons.contrasts(
        encoder,
        features,
        [units[name] for name in features],
        np.array([row["segment_id"] for row in rows]),
        np.array([row["center"] for row in rows], dtype=np.float64),
        *_matrices(batch),
        batch["segment_id"].to_numpy(),
    )
