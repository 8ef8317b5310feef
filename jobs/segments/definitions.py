"""One row per segment and model: what a segment is, from the day the model was first clustered on.

Input: encoded.customers and features.customers of that day, the chosen k of segments.candidates, and the assignments
under the previous model. A cluster that shares at least `segment.kept_share` of the customers of the smaller side with a
live segment keeps its id; any other gets an id never used before. A segment that keeps its id keeps its name too, unless one of
the facts that the name rests on has changed by `segment.renamed_at` standard deviations since the name was given. Segment 0,
dormant, is given by rule and has no centre.
"""

import json
import math
from collections.abc import Sequence
from datetime import date
from functools import partial
from itertools import count
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs import catalogue, traits
from jobs.catalogue import Feature
from jobs.config.settings import KMEANS, Settings
from jobs.encoder import features_table
from jobs.errors import UserError
from jobs.segments import _inputs, _matching, candidates
from jobs.segments._centres import find_nearest
from jobs.segments._clusters import INDICES, Cluster, add_indices, describe_clusters
from jobs.segments._fit import fit_centres
from jobs.segments._inputs import ActiveCustomers
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix
from jobs.traits import DORMANT, Trait

FACT = ("feature", "typical", "overall", "effect")

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
    born_on DATE COMMENT 'First day the segment existed, under any model',
    retired_on DATE COMMENT 'First day the segment no longer existed; null while it does',
    facts ARRAY<STRUCT<
        feature: STRING COMMENT 'Name of the feature',
        typical: DOUBLE COMMENT 'Mean of the segment',
        overall: DOUBLE COMMENT 'Mean of all active customers',
        effect: DOUBLE COMMENT '(typical - overall) / standard deviation of all active customers'
    >> COMMENT 'What the name rests on, as of the day the name was given; null for dormant',
    wss DOUBLE COMMENT 'Sum of the squared distances of the members from their mean at the fit; null for dormant',
    silhouette DOUBLE COMMENT 'Mean silhouette of the members at the fit, on squared distances, -1 to 1; null for dormant',
    davies_bouldin DOUBLE COMMENT 'Overlap with the most similar segment; its mean is the Davies-Bouldin index; null for dormant'
"""
TABLE = Table(
    "segments.definitions",
    "One row per segment and model: name, description, centre and life span of a segment.",
    SCHEMA,
    checks={"segment_not_negative": "segment_id >= 0"},
)


def define_segments(
    clusters: list[Cluster],
    kept_ids: dict[int, int],
    earlier: list[dict],
    version: str,
    day: date,
    features: Sequence[Feature],
    renamed_at: float,
) -> list[dict]:
    """Return all rows of segments.definitions once `version`, fitted on `day`, joins the `earlier` rows.

    `kept_ids` holds, by cluster number, the segment id that the cluster keeps; the others get new ids, the largest cluster
    first. `features` is the catalogue; `renamed_at` is the setting segment.renamed_at.
    """
    new_ids = count(max((row["segment_id"] for row in earlier), default=DORMANT) + 1)
    by_size = sorted(clusters, key=lambda cluster: (-cluster.n_customers, cluster.number))
    ids = {c.number: DORMANT if c.number == DORMANT else kept_ids.get(c.number) or next(new_ids) for c in by_size}
    segment_traits = {ids[c.number]: c.traits for c in clusters if c.number != DORMANT}
    names, facts = _name_segments(segment_traits, earlier, features, renamed_at)
    rows = [
        {
            "segment_id": ids[cluster.number],
            "model_version": version,
            "name": names[ids[cluster.number]],
            "description": _describe(cluster, facts.get(ids[cluster.number], []), features),
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
    rows = [*earlier, *sorted(rows, key=itemgetter("segment_id"))]
    return [row | _life_span(row, rows) for row in rows]


def _name_segments(
    segment_traits: dict[int, list[Trait]], earlier: list[dict], features: Sequence[Feature], renamed_at: float
) -> tuple[dict[int, str], dict[int, list[dict]]]:
    """Return the names and the facts they rest on, by segment id; a name is kept while its facts have hardly changed."""
    kept = _find_kept_names(segment_traits, earlier, renamed_at)
    names = traits.name_segments(segment_traits, features, {segment_id: row["name"] for segment_id, row in kept.items()})
    facts = {}
    for segment_id, ranked in segment_traits.items():
        if segment_id in kept and names[segment_id] == kept[segment_id]["name"]:
            facts[segment_id] = kept[segment_id]["facts"]
        else:
            selected = traits.select_facts(ranked, features)
            facts[segment_id] = [dict(zip(FACT, (t.feature, t.typical, t.overall, t.effect), strict=True)) for t in selected]
    return names | {DORMANT: "Dormant"}, facts


def _find_kept_names(segment_traits: dict[int, list[Trait]], earlier: list[dict], renamed_at: float) -> dict[int, dict]:
    """Return, by segment id, the latest earlier row, where no fact that its name rests on has changed by `renamed_at`."""
    latest = {row["segment_id"]: row for row in sorted(earlier, key=itemgetter("fitted_on"))}
    return {
        segment_id: latest[segment_id]
        for segment_id, ranked in segment_traits.items()
        if segment_id in latest and _largest_change(latest[segment_id].get("facts"), ranked) < renamed_at
    }


def _largest_change(facts: list[dict] | None, ranked: list[Trait]) -> float:
    """Return the largest change of a fact's effect; infinite where a fact is gone, or an earlier version of Shoal kept none."""
    effects = {trait.feature: trait.effect for trait in ranked}
    return max((abs(effects.get(fact["feature"], math.inf) - fact["effect"]) for fact in facts or []), default=math.inf)


def _describe(cluster: Cluster, facts: list[dict], features: Sequence[Feature]) -> str:
    if cluster.number == DORMANT:
        return f"{cluster.n_customers:,} customers without a recent event or order"
    by_feature = {trait.feature: trait for trait in cluster.traits}
    text = "; ".join(traits.describe_trait(by_feature[fact["feature"]], features) for fact in facts)
    return f"{cluster.n_customers:,} customers: {text}" if text else f"{cluster.n_customers:,} customers"


def _life_span(row: dict, rows: list[dict]) -> dict[str, date | None]:
    """Return born_on and retired_on: they follow from which models have the id, in whatever order the models were fitted."""
    versions = {r["model_version"] for r in rows if r["segment_id"] == row["segment_id"]}
    born_on = min(r["fitted_on"] for r in rows if r["model_version"] in versions)
    days_without = [r["fitted_on"] for r in rows if r["model_version"] not in versions and r["fitted_on"] > born_on]
    return {"born_on": born_on, "retired_on": min(days_without, default=None)}


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Cluster the day's active customers once per champion; a model that has its segments keeps them."""
    version = _inputs.champion_version(settings, day)
    earlier = lake.read_small_table(TABLE)
    if any(row["model_version"] == version for row in earlier):
        return
    sample_centres, method = _read_sample_centres(lake, version, day)
    customers = _inputs.read_active(lake, version, day)
    _inputs.require_all_encoded(customers)
    previous = _matching.read_previous_assignments(lake, version, day)
    centres = sample_centres  # which methods other than K-Means keep
    if method == KMEANS:
        centres = fit_centres(customers, sample_centres, previous, settings.segment, partial(_fit_in_spark, lake))
    clusters, numbers = _describe_clusters(lake, settings, customers, centres)
    kept_ids = {}
    if previous is not None:
        shared = _matching.count_shared_customers(previous, pa.table({"customer_id": customers.ids, "segment_id": numbers}))
        kept_ids = _matching.match_segments(shared, settings.segment.kept_share)
    rows = define_segments(clusters, kept_ids, earlier, version, day, catalogue.FEATURES, settings.segment.renamed_at)
    lake.replace_rows(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema))


def needs_spark(lake: Lake, settings: Settings, day: date) -> bool:
    """Return whether the day's champion is still to be fitted by MLlib; candidates may yet make another model champion."""
    version = _inputs.champion_version(settings, day)
    is_defined = lake.read_small_table(TABLE, ["segment_id"], ds.field("model_version") == version)
    return settings.segment.method == KMEANS and not is_defined


def _fit_in_spark(lake: Lake, *arguments: Any) -> np.ndarray:
    from jobs.segments._kmeans import fit_best_centres  # with it comes pyspark, which most days do without

    return fit_best_centres(lake.spark, *arguments)


def _describe_clusters(
    lake: Lake, settings: Settings, customers: ActiveCustomers, centres: np.ndarray
) -> tuple[list[Cluster], np.ndarray]:
    """Return the clusters of centres (k x latent), and the number of the cluster of each of n customers."""
    points = centres.astype(np.float64)
    nearest = find_nearest(customers.vectors, points)
    numbers = (nearest.nearest + 1).astype(np.int32)
    names = json.loads(lake.properties("features.customers")["shoal.vector"])
    statistics = traits.feature_statistics(_read_features(lake, customers), numbers, names)
    sigmas = settings.segment.outlier_sigmas
    clusters = describe_clusters(nearest, customers.n_dormant, centres, statistics, catalogue.FEATURES, sigmas)
    return add_indices(clusters, customers.vectors, points), numbers


def _read_features(lake: Lake, customers: ActiveCustomers) -> np.ndarray:
    """Return the features (n x d) of the customers."""
    columns = Rows(features_table(), "customer_id", ("customer_id", "vector"), [customers.day], customers.ids)
    rows = read_rows(lake.root, columns)
    return to_matrix(rows["vector"])[pc.index_in(customers.ids, rows["customer_id"].combine_chunks()).to_numpy()]


def _read_sample_centres(lake: Lake, version: str, day: date) -> tuple[np.ndarray, str]:
    """Return the centres (k x latent) that segments.candidates has chosen for the model, and their method."""
    is_chosen = (ds.field("model_version") == version) & ds.field("chosen")
    rows = lake.read_small_table(candidates.TABLE, ["centers", "method"], is_chosen)
    if not rows or rows[0]["centers"] is None:  # null: an earlier version of Shoal did not keep them
        raise UserError(f"segment: segments.candidates lacks model {version}; run again: shoal segment --day {day}")
    return np.array(rows[0]["centers"], dtype=np.float32), rows[0]["method"] or KMEANS
