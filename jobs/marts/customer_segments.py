"""One row per customer, as of the latest published day: the segment, since when, how sure and why.

Input: features.customers, segments.assignments, segments.definitions, segments.calibration, segments.history,
scores.customer_values, scores.holdouts, the declared campaigns, and the encoder of the day. Publishing a day that is older than
the published one changes nothing.

Confidence is the share of refits under which customers with such a margin are in the same segment. About a customer first known
fewer than `segment.known_days` days ago less is known. In proportion to the missing days, the segment's share of all active
customers counts instead: the best guess for a customer never seen.
"""

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import xxhash

from jobs import catalogue
from jobs.config.settings import Settings
from jobs.encoder import to_inputs
from jobs.engine.runner import open_runner
from jobs.engine.tasks import COLLECT
from jobs.errors import UserError
from jobs.input_groups import align_vectors, rows_of_group
from jobs.marts import _members
from jobs.marts._campaigns import list_in_force
from jobs.marts._reasons import Explainer, explain_against_runner_up, fit_explainer, lead_of_runner_up
from jobs.progress import log
from jobs.representations import RepresentationEncoder, load_representations
from jobs.segment_history import holds_on
from jobs.storage import models
from jobs.storage import rows as storage_rows
from jobs.storage.commits import write_files
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.traits import DORMANT

# Lists of the features that go together, and so are one reason, as JSON.
FAMILIES_PROPERTY = "shoal.families"
CUSTOMERS_PER_BUCKET = 100_000  # a bucket is explained by one process
BATCH_ROWS = 10_000  # customers explained at once
SAMPLE_PER_SEGMENT = 2000  # customers that the explainer is fitted on; drawn by hash, so about as many

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; keeps its meaning over time; 0: dormant',
    segment_name STRING COMMENT 'Name of the segment, unique per day',
    since_day DATE COMMENT 'First day of the present stay in the segment',
    previous_segment_id INT COMMENT 'Segment on the known day before since_day; null: not known on it',
    as_of_day DATE COMMENT 'Nothing after the end of this day (business time zone) is in this row',
    recency_days BIGINT COMMENT 'Days since the last event or order; null: never any',
    orders_365d BIGINT COMMENT 'Orders in the last 365 days',
    net_365d DECIMAL(18,4) COMMENT 'Net amount of the orders of the last 365 days, home currency',
    confidence DOUBLE COMMENT 'Share of refits on resampled customers under which such a customer is in this segment: 0 to 1',
    reasons ARRAY<STRING> COMMENT 'Up to three: what puts the customer here rather than in the runner-up',
    model_version STRING COMMENT 'Version of the encoder',
    runner_up_id INT COMMENT 'Segment with the second nearest centre; null for dormant',
    runner_up_name STRING COMMENT 'Name of that segment',
    reasons_hold BOOLEAN COMMENT 'Whether the customer moves to another segment once the reasons are as typical of the runner-up',
    outlier_reason STRING COMMENT 'Far from the segment, unlike other customers, or both; null: no outlier',
    expected_net_365d DECIMAL(18,4) COMMENT 'Expected net amount of the next 365 days, home currency; null: never ordered',
    p_alive DOUBLE COMMENT 'Probability of being a customer still, 0 to 1; null: never ordered, or no model beats a plain rule',
    churn_90d DOUBLE COMMENT 'Probability of not ordering again in the usual time, at most 90 days; null: not eligible',
    holdout BOOLEAN COMMENT 'Whether a campaign that is announced or in force must leave the customer alone',
    holdouts ARRAY<STRING> COMMENT 'Names of these campaigns; empty: none'
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


_EXPLANATION = {"confidence": pl.Float64(), "reasons": pl.List(pl.String), "reasons_hold": pl.Boolean()}


def describe_customers(
    tables: dict[str, pa.Table],
    names: dict[int, str],
    explainer: Explainer | None,
    calibration: Calibration,
    attributes: Collection[str],
    day: date,
    groups: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, pa.Table]:
    """Return marts.customer_segments as of `day`.

    Key: customer. Inputs: `customers`, `assignments` and, of the active customers alone, `vectors`, with the schemas of the
    scans of _members; `memberships`, the intervals of segments.history that hold on the day; `values` and `churn` of the
    customers that have any, and `holdouts`, the campaigns that customers are held out of. `names` are the names of the segments
    by id, `attributes` the text columns that the encoder reads, and `groups` the groups of inputs, with the dimensions of their
    vectors, whose rows are inputs too. `explainer` may be None where all customers are dormant. Output:
    `rows`, sorted by customer. About 40 µs of CPU an active customer, whom the encoder reads several times.
    """
    members = _join_members(
        *(to_frame(tables[name]) for name in ("assignments", "customers", "memberships", "values", "churn", "holdouts"))
    )
    is_dormant = pl.col("segment_id") == DORMANT
    active, dormant = members.filter(~is_dormant), members.filter(is_dormant)
    ids = active["customer_id"].to_arrow().cast(pa.string())
    of_groups = [align_vectors(tables[group], ids, n_dimensions) for group, n_dimensions in groups.items()]
    explained = _explain_active(active, tables["vectors"], of_groups, explainer, calibration, attributes, day)
    rows = pl.concat([active.hstack(explained), dormant.hstack(_explain_dormant(dormant))]).sort("customer_id")
    described = rows.with_columns(
        segment_name=_name_of("segment_id", names), runner_up_name=_name_of("runner_up_id", names), as_of_day=pl.lit(day)
    )
    return {"rows": described.select(TABLE.columns).to_arrow()}


def _join_members(
    assignments: pl.DataFrame,
    customers: pl.DataFrame,
    memberships: pl.DataFrame,
    values: pl.DataFrame,
    churn: pl.DataFrame,
    holdouts: pl.DataFrame,
) -> pl.DataFrame:
    """Return the customers that have features and a segment, with the stay, the segment before it, and their scores.

    `holdouts` are the campaigns that they are held out of.
    """
    stays = memberships.select("customer_id", "previous_segment_id", since_day="valid_from")
    members = assignments.join(customers, "customer_id", how="inner")
    members = members.join(stays, "customer_id", how="left").join(values, "customer_id", how="left")
    members = members.join(churn.select("customer_id", churn_90d="probability"), "customer_id", how="left")
    lists = holdouts.group_by("customer_id").agg(holdouts=pl.col("campaign").sort())
    members = members.join(lists, "customer_id", how="left")
    empty = pl.lit([], pl.List(pl.String))
    return members.with_columns(holdout=pl.col("holdouts").is_not_null(), holdouts=pl.col("holdouts").fill_null(empty))


def _name_of(segment: str, names: dict[int, str]) -> pl.Expr:
    return pl.col(segment).replace_strict(names, default=None, return_dtype=pl.String)


def _explain_active(
    active: pl.DataFrame,
    vectors: pa.Table,
    of_groups: list[np.ndarray],
    explainer: Explainer | None,
    calibration: Calibration,
    attributes: Collection[str],
    day: date,
) -> pl.DataFrame:
    """Return the columns of _EXPLANATION of n active customers, BATCH_ROWS at once; `of_groups` are their vectors (n x d)."""
    vectors = vectors.combine_chunks()
    positions = pc.index_in(active["customer_id"].to_arrow().cast(pa.string()), value_set=vectors["customer_id"])
    _require_vectors(positions.null_count, day)
    parts = [pl.DataFrame(schema=_EXPLANATION)]
    for start in range(0, len(active), BATCH_ROWS):
        batch = slice(start, start + BATCH_ROWS)
        rows = vectors.take(positions.slice(start, BATCH_ROWS))
        inputs = to_inputs(rows, list(attributes), [matrix[batch] for matrix in of_groups])
        parts.append(_explain_batch(active[batch], inputs, explainer, calibration))
    return pl.concat(parts)


def _require_vectors(n_missing: int, day: date) -> None:
    """Raise UserError where customers of a segment have no vector: features.customers was written again since."""
    if n_missing:
        raise UserError(
            f"publish: {n_missing:,} customers are in a segment on {day} and not active in features.customers;"
            f" run again: shoal segment --day {day}"
        )


def _explain_batch(
    active: pl.DataFrame, inputs: tuple[np.ndarray, np.ndarray], explainer: Explainer, calibration: Calibration
) -> pl.DataFrame:
    columns = (active[name].to_numpy() for name in ("segment_id", "runner_up_id", "distance", "margin", "tenure_days"))
    segments, runners_up, distances, margins, tenure_days = columns
    leads = lead_of_runner_up(explainer, segments, runners_up, distances, margins)
    reasons, hold = explain_against_runner_up(explainer, *inputs, segments, runners_up, leads)
    confidence = calibration.confidence(segments, margins, tenure_days)
    texts = pl.from_arrow(pa.array(reasons, pa.list_(pa.string())))  # Polars takes ten times as long to read the lists itself
    return pl.DataFrame({"confidence": confidence, "reasons": texts, "reasons_hold": hold}, _EXPLANATION)


def _explain_dormant(dormant: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of _EXPLANATION of dormant customers, who are in their segment by rule: no doubt."""
    silences = dormant["recency_days"].drop_nulls().unique()
    texts = {days: f"no event or order for {days:,} days" for days in silences}
    reason = pl.col("recency_days").replace_strict(texts, default="no event or order on record", return_dtype=pl.String)
    return dormant.select(confidence=pl.lit(1.0), reasons=pl.concat_list(reason), reasons_hold=pl.lit(None, pl.Boolean))


def draw_sample(assignments: pa.Table, sizes: dict[int, int]) -> pa.Array:
    """Return the ids of the customers that the explainer is fitted on: of a large segment a share by hash, all of a small one.

    `sizes` are the active customers by segment. The hash is that of Spark's xxhash64, so that the same customers are drawn
    as ever.
    """
    active = assignments.filter(pc.not_equal(assignments["segment_id"], DORMANT))
    hashes = [xxhash.xxh64_intdigest(customer_id, 42) for customer_id in active["customer_id"].cast(pa.binary()).to_pylist()]
    segment_ids = active["segment_id"].to_numpy()
    n_customers = np.array([sizes[segment_id] for segment_id in segment_ids.tolist()], dtype=np.int64)
    is_drawn = np.array(hashes, dtype=np.uint64).view(np.int64) % n_customers < SAMPLE_PER_SEGMENT
    return active["customer_id"].filter(pa.array(is_drawn)).combine_chunks()


class Inputs(NamedTuple):
    """What a day is published with, besides its customers."""

    version: str
    attributes: list[str]
    sizes: dict[int, int]  # active customers by segment
    calibration: Calibration
    encoder: RepresentationEncoder | None  # None where all customers are dormant

    @property
    def groups(self) -> dict[str, int]:
        """The groups of inputs that the encoder reads, with the dimensions of their vectors."""
        return {group: facts["dimensions"] for group, facts in self.encoder.groups.items()} if self.encoder else {}


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


def publish(lake: Lake, settings: Settings, day: date, inputs: Inputs) -> None:
    """Write the customers of the day."""
    opened = lake.open_for_write(TABLE)
    explainer = _fit_explainer(lake, day, inputs, inputs.encoder) if inputs.encoder else None
    names = _members.read_segment_names(lake, day)
    kernel = functools.partial(
        describe_customers,
        names=names, explainer=explainer, calibration=inputs.calibration, attributes=inputs.attributes, day=day,
        groups=inputs.groups,
    )  # fmt: skip
    _, n_customers = _members.read_assigned_model(lake, day)
    scans = {
        "customers": _members.scan_customers(lake, [day], _members.CUSTOMER_COLUMNS.names),
        "vectors": _members.scan_vectors(lake, day, inputs.attributes),
        "assignments": _members.scan_assignments(lake, day),
        "memberships": _members.scan_history(lake, day, holds_on(day)),
    }
    with open_runner(lake, settings, n_customers) as runner:
        scores = {"values": _members.list_values(lake, day), "churn": _members.list_churn(lake, day)}
        sources = {name: _members.to_input(scan) for name, scan in scans.items()} | scores
        sources |= {group: rows_of_group(group, day) for group in inputs.groups}
        sources["holdouts"] = _members.list_holdouts(lake, list_in_force(lake, settings, day))
        rows = runner.read(sources, _count_buckets(n_customers))
        described = runner.run(kernel, rows, {"rows": COLLECT}).collected["rows"]
    # One file, in order, however many buckets there were.
    opened.commit(write_files(lake.root, TABLE, described.sort_by("customer_id")), None)
    if explainer:
        families = [[explainer.features[column] for column in family] for family in explainer.families]
        lake.set_property(TABLE, FAMILIES_PROPERTY, json.dumps(families))


def _count_buckets(n_customers: int) -> int:
    return max(1, -(-n_customers // CUSTOMERS_PER_BUCKET))


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the day, unless a later one is published."""
    inputs = read_inputs(lake, settings, day)
    if inputs:
        publish(lake, settings, day, inputs)


def _open_encoder(lake: Lake, settings: Settings, version: str, day: date) -> RepresentationEncoder:
    of_day = (ds.field("model_version") == version) & (ds.field("day") == day)
    encodings = lake.count_by("encoded.customers", ["representation"], of_day)
    if not encodings:
        raise UserError(
            f"publish: encoded.customers has no rows of model {version} on {day}; run first: shoal encode --day {day}"
        )
    representation = next(iter(encodings))[0] or models.LEARNED_EMBEDDING
    return load_representations(settings.models, version, models.meta(settings.models, version), [representation])


def _fit_explainer(lake: Lake, day: date, inputs: Inputs, encoder: RepresentationEncoder) -> Explainer:
    """Fit the explainer on a sample: all customers of a small segment, a share by hash of a large one."""
    of_model = ds.field("model_version") == inputs.version
    definitions = lake.read_small_table("segments.definitions", ["segment_id", "center"], of_model)
    rows = sorted((row for row in definitions if row["segment_id"] != DORMANT), key=itemgetter("segment_id"))
    features = json.loads(lake.properties("features.customers")["shoal.vector"])
    units = {feature.name: feature.unit for feature in catalogue.FEATURES}
    assignments = _members.read_rows(_members.scan_assignments(lake, day, ["customer_id", "segment_id"]))
    ids = draw_sample(assignments, inputs.sizes)
    scan = _members.scan_vectors(lake, day, inputs.attributes)
    drawn = (batch.filter(pc.is_in(batch["customer_id"], ids)) for batch in _members.read_batches(scan))
    sample = pa.concat_tables([scan.schema.empty_table(), *drawn]).sort_by("customer_id")
    _require_vectors(len(ids) - sample.num_rows, day)
    ids = sample["customer_id"].combine_chunks()
    of_groups = [
        align_vectors(storage_rows.read_rows(lake.root, rows_of_group(group, day)), ids, n_dimensions)
        for group, n_dimensions in inputs.groups.items()
    ]
    segments = assignments["segment_id"].take(pc.index_in(sample["customer_id"], value_set=assignments["customer_id"]))
    return fit_explainer(
        encoder,
        features,
        [units[name] for name in features],
        np.array([row["segment_id"] for row in rows]),
        np.array([row["center"] for row in rows], dtype=np.float64),
        *to_inputs(sample, inputs.attributes, of_groups),
        segments.to_numpy(),
    )
