"""One row per segment and model: what a segment is, from the day the model was first clustered on.

Input: encoded.customers and features.customers of that day, the chosen k of segments.candidates, and the assignments
under the model before. A cluster that shares at least `segment.kept_share` of the customers of the smaller side with a
live segment keeps its id; any other gets an id never used before. A segment that keeps its id keeps its name too, unless one of
the facts the name rests on has changed by `segment.renamed_at` standard deviations since the name was given. Segment 0,
dormant, is given by rule and has no centre.
"""

import json
import math
from collections.abc import Sequence
from datetime import date
from itertools import count
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import catalogue, traits
from jobs.catalogue import Feature
from jobs.config.settings import KMEANS, Segment, Settings
from jobs.errors import UserError
from jobs.progress import log
from jobs.segments import _centres, _clustering, _indices, _inputs, _matching, candidates
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.traits import DORMANT, Trait

DISTANCE_DECIMALS = 9
FACT = ("feature", "typical", "overall", "effect")
INDEX_DIGITS = 9  # that the order of a sum's addends does not reach
INDICES = ("wss", "silhouette", "davies_bouldin")

SCHEMA = """
    segment_id INT COMMENT 'Keeps its meaning across models; 0 is dormant, clusters start at 1',
    model_version STRING COMMENT 'Version of the encoder in whose space the centre lies',
    name STRING COMMENT 'Short, unique within the model, from what marks the segment',
    description STRING COMMENT 'What the name rests on, with numbers',
    center ARRAY<FLOAT> COMMENT 'Centre in the space of the model; null for dormant',
    radius DOUBLE COMMENT 'Mean distance of the members from the centre at the fit; null for dormant',
    outlier_distance DOUBLE COMMENT 'A member farther from the centre than this is an outlier; null for dormant',
    n_customers BIGINT COMMENT 'Members at the fit',
    fitted_on DATE COMMENT 'Day whose customers were clustered',
    born_on DATE COMMENT 'First day the segment existed, under whichever model',
    retired_on DATE COMMENT 'First day it no longer did; null while it lives',
    facts ARRAY<STRUCT<
        feature: STRING COMMENT 'Name of the feature',
        typical: DOUBLE COMMENT 'Mean of the segment',
        overall: DOUBLE COMMENT 'Mean of all active customers',
        effect: DOUBLE COMMENT '(typical - overall) / standard deviation of all active customers'
    >> COMMENT 'What the name rests on, as it was when the name was given; null for dormant',
    wss DOUBLE COMMENT 'Sum of the squared distances of the members from their mean at the fit; null for dormant',
    silhouette DOUBLE COMMENT 'Mean silhouette of the members at the fit, on squared distances, -1 to 1; null for dormant',
    davies_bouldin DOUBLE COMMENT 'The segment in the Davies-Bouldin index, the mean of all; lower is better; null for dormant'
"""
TABLE = Table(
    "segments.definitions",
    "One row per segment and model: name, description, centre and life span of a segment.",
    SCHEMA,
    checks={"segment_not_negative": "segment_id >= 0"},
)


class Cluster(NamedTuple):
    """One cluster of the fit, or the dormant customers (number 0, no centre)."""

    number: int
    n_customers: int
    center: list[float] | None
    radius: float | None  # mean distance of the members
    outlier_distance: float | None
    traits: list[Trait]
    wss: float | None = None
    silhouette: float | None = None
    davies_bouldin: float | None = None


def definitions(
    clusters: list[Cluster],
    kept: dict[int, int],
    known: list[dict],
    version: str,
    day: date,
    features: Sequence[Feature],
    renamed_at: float,
) -> list[dict]:
    """All rows of segments.definitions once `version`, fitted on `day`, joins the `known` rows.

    `kept` says which cluster number keeps which segment id; the others get new ids, the largest cluster first.
    `features` is the catalogue.
    """
    fresh = count(max((row["segment_id"] for row in known), default=DORMANT) + 1)
    by_size = sorted(clusters, key=lambda cluster: (-cluster.n_customers, cluster.number))
    ids = {c.number: DORMANT if c.number == DORMANT else kept.get(c.number) or next(fresh) for c in by_size}
    marks = {ids[c.number]: c.traits for c in clusters if c.number != DORMANT}
    lasting = _lasting(marks, known, renamed_at)
    names = traits.names(marks, features, {segment_id: row["name"] for segment_id, row in lasting.items()})
    names[DORMANT] = "Dormant"
    facts = {
        segment_id: lasting[segment_id]["facts"]
        if segment_id in lasting and names[segment_id] == lasting[segment_id]["name"]
        else [dict(zip(FACT, (t.feature, t.typical, t.overall, t.effect), strict=True)) for t in traits.facts(found, features)]
        for segment_id, found in marks.items()
    }
    new = [
        {
            "segment_id": ids[cluster.number],
            "model_version": version,
            "name": names[ids[cluster.number]],
            "description": _description(cluster, facts.get(ids[cluster.number], []), features),
            "center": cluster.center,
            "radius": cluster.radius,
            "outlier_distance": cluster.outlier_distance,
            "n_customers": cluster.n_customers,
            "fitted_on": day,
            "facts": facts.get(ids[cluster.number]),
            **{name: getattr(cluster, name) for name in INDICES},
        }
        for cluster in clusters
    ]
    rows = [*known, *sorted(new, key=lambda row: row["segment_id"])]
    return [row | _life(row, rows) for row in rows]


def _lasting(marks: dict[int, list[Trait]], known: list[dict], renamed_at: float) -> dict[int, dict]:
    """By segment id the latest known row, where all facts its name rests on are still much as they were."""
    latest = {row["segment_id"]: row for row in sorted(known, key=itemgetter("fitted_on"))}
    return {
        segment_id: latest[segment_id]
        for segment_id, found in marks.items()
        if segment_id in latest and _change(latest[segment_id].get("facts"), found) < renamed_at
    }


def _change(facts: list[dict] | None, found: list[Trait]) -> float:
    """The largest change of a fact's effect; endless where a fact is gone, or none were kept: by an earlier version of Shoal."""
    effects = {trait.feature: trait.effect for trait in found}
    return max((abs(effects.get(fact["feature"], math.inf) - fact["effect"]) for fact in facts or []), default=math.inf)


def _description(cluster: Cluster, facts: list[dict], features: Sequence[Feature]) -> str:
    if cluster.number == DORMANT:
        return f"{cluster.n_customers:,} customers without a recent event or order"
    found = {trait.feature: trait for trait in cluster.traits}
    told = "; ".join(traits.in_words(found[fact["feature"]], features) for fact in facts)
    return f"{cluster.n_customers:,} customers: {told}" if told else f"{cluster.n_customers:,} customers"


def _life(row: dict, rows: list[dict]) -> dict[str, date | None]:
    """born_on and retired_on follow from which models hold the id, in whatever order the models were fitted."""
    holding = {r["model_version"] for r in rows if r["segment_id"] == row["segment_id"]}
    born_on = min(r["fitted_on"] for r in rows if r["model_version"] in holding)
    without = [r["fitted_on"] for r in rows if r["model_version"] not in holding and r["fitted_on"] > born_on]
    return {"born_on": born_on, "retired_on": min(without, default=None)}


def _fitted_centres(active: DataFrame, of_sample: np.ndarray, before: DataFrame | None, segment: Segment) -> np.ndarray:
    """(customer_id, vector) -> as many centres as the sample has (k x latent), float32, as they are stored and used later.

    MLlib starts again until the customers are as near to its centres as to those of the sample, which is cheap to fit often.
    Where the segments `before` are as many, and lie in the new space nearly as well, their places are taken instead: many fits
    are nearly as good as the best, and of those the one that moves few customers is the better.
    """
    k = len(of_sample)
    points = _clustering.points(active).persist()
    try:
        fitted = _clustering.best_centres(points, k, segment, _clustering.spread(points, of_sample))
        earlier = fitted[:0] if before is None else _clustering.carried_over(points, before)
        if len(earlier) == len(fitted):
            free, carried = (_clustering.spread(points, centres) for centres in (fitted, earlier))
            stay = carried <= free * (1 + segment.continuity)
            worse = f"{carried / free - 1:+.2%}" if free else "none"
            log(f"fit   the segments before, in the new space: sum of squares {worse}; they {'stay' if stay else 'do not'}")
            fitted = earlier if stay else fitted
    finally:
        points.unpersist()
    centres = np.unique(fitted.astype(np.float32), axis=0)
    if len(centres) < 2:
        raise UserError("segment: all active customers lie in one place; train again: shoal train --retrain")
    if len(centres) < k:
        log(f"segment: asked for {k} clusters, the customers gave {len(centres)}")
    return centres


def _clusters(clustered: DataFrame, features: DataFrame, centres: np.ndarray, names: list[str], sigmas: float) -> list:
    """Clusters with members, from columns NEAREST of all customers and their feature vectors."""
    spread = clustered.groupBy("segment_id").agg(
        F.count("*").alias("n"), F.avg("distance").alias("mean"), F.stddev_pop("distance").alias("sd")
    )
    active = clustered.where(F.col("segment_id") != DORMANT).join(features, "customer_id", how="inner")
    marks = traits.traits(traits.statistics(active, names), catalogue.FEATURES)
    clusters = []
    for row in sorted(spread.collect(), key=lambda row: row.segment_id):
        numbers = (None, None, None)
        if row.segment_id != DORMANT:
            outlier_distance = round(row.mean + sigmas * row.sd, DISTANCE_DECIMALS)
            numbers = (centres[row.segment_id - 1].tolist(), round(row.mean, DISTANCE_DECIMALS), outlier_distance)
        clusters.append(Cluster(row.segment_id, row.n, *numbers, marks.get(row.segment_id, [])))
    if clusters[0].number != DORMANT:
        clusters.insert(0, Cluster(DORMANT, 0, None, None, None, []))
    return clusters


def _with_indices(clusters: list[Cluster], customers: DataFrame, centres: np.ndarray) -> list[Cluster]:
    """The clusters with how well all active of `customers` lie in them; centres (k x latent) in the order of their numbers."""
    has_members, found = _indices.distributed(customers.where("is_active"), centres)
    log(
        f"fit   {found.sizes.sum():,} active customers: silhouette {found.silhouette:.3f}, Davies-Bouldin "
        f"{found.davies_bouldin:.3f}, Calinski-Harabasz {found.calinski_harabasz:,.0f}"
    )
    columns = ([float(f"{v:.{INDEX_DIGITS}g}") for v in values] for values in (found.squares, found.silhouettes, found.overlaps))
    of_number = dict(zip((np.flatnonzero(has_members) + 1).tolist(), zip(*columns, strict=True), strict=True))
    return [c._replace(**dict(zip(INDICES, of_number.get(c.number, (None,) * 3), strict=True))) for c in clusters]


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Cluster the day's active customers once per champion; a model that has its segments keeps them."""
    version = _inputs.champion_version(settings, day)
    known = lake.read_small_table(TABLE)
    if any(row["model_version"] == version for row in known):
        return
    curve = lake.read_small_table(
        candidates.TABLE, ["centers", "method"], (ds.field("model_version") == version) & ds.field("chosen")
    )
    if not curve or curve[0]["centers"] is None:  # null: the row was written before they were kept
        raise UserError(f"segment: segments.candidates lacks model {version}; run again: shoal segment --day {day}")
    customers = _inputs.known_customers(lake, version, day)
    centres = np.array(curve[0]["centers"], dtype=np.float32)
    before = _matching.before(lake, version, day)
    if curve[0]["method"] in (None, KMEANS):  # of another method the centres are those of the sample
        active = customers.where("is_active").select("customer_id", "vector")
        centres = _fitted_centres(active, centres, before, settings.segment)
    numbered = _centres.Centres(
        np.arange(1, len(centres) + 1, dtype=np.int32), centres.astype(np.float64), np.full(len(centres), np.inf)
    )
    clustered = _centres.nearest(customers, numbered).persist()
    try:
        names = json.loads(lake.properties("features.customers")["shoal.vector"])
        features = lake.read("features.customers", day, day).select("customer_id", "vector")
        clusters = _clusters(clustered, features, centres, names, settings.segment.outlier_sigmas)
        clusters = _with_indices(clusters, customers, numbered.points)
        kept = {}
        if before is not None:
            kept = _matching.matches(_matching.shared_customers(before, clustered), settings.segment.kept_share)
    finally:
        clustered.unpersist()
    rows = definitions(clusters, kept, known, version, day, catalogue.FEATURES, settings.segment.renamed_at)
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA))
