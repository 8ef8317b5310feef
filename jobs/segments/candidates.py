"""One row per model, representation, method and number of clusters that was tried: the evidence for what is published.

Input: features.customers and encoded.customers of the day the model is first clustered on, features.customers of the day of
the model's backtest and features.customer_days since; at most `segment.sample` active customers, chosen by a hash of their
id, so that the choice does not depend on order or partitions. Written once per model. What was learned is tried with every
number of clusters; by the number chosen it is held against the scaled features and their principal components, clustered
the same way. What the gate decides of that, `models` keeps: the representation of the champion, or the champion before.
"""

from datetime import date

import numpy as np
import pyarrow.dataset as ds
from pyspark.sql import DataFrame

from jobs.config.settings import BEST, KMEANS, Segment, Settings
from jobs.encoder import REPRESENTATIONS, load_encoder
from jobs.errors import UserError
from jobs.segments import _customers, _inputs, _judge, _methods, _sweep
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.models import LEARNED_EMBEDDING
from jobs.storage.table import Table, quote_sql

SCHEMA = """
    model_version STRING COMMENT 'Version of the encoder whose vectors were clustered',
    k INT COMMENT 'Number of clusters',
    day DATE COMMENT 'Day whose active customers were clustered',
    n_customers BIGINT COMMENT 'Customers in the sample',
    wss DOUBLE COMMENT 'Within-cluster sum of squared distances, the best of the seeds',
    silhouette DOUBLE COMMENT 'Mean silhouette on squared Euclidean distances, -1 to 1',
    smallest_share DOUBLE COMMENT 'Share of the sample in the smallest cluster, 0 to 1',
    davies_bouldin DOUBLE COMMENT 'Davies-Bouldin index in its own space, lower is better',
    stability DOUBLE COMMENT 'Mean adjusted Rand index over pairs of resamples of the customers, 1: clustered alike',
    refused_by STRING COMMENT 'The rule, or the gate, that refused this row; null: accepted',
    chosen BOOLEAN COMMENT 'Whether this is what is published; by a k that is refused only where all were',
    calinski_harabasz DOUBLE COMMENT 'Calinski-Harabasz index, higher is better',
    centers ARRAY<ARRAY<FLOAT>> COMMENT 'Centres of the clusters of the sample, the largest cluster first',
    cluster_sizes ARRAY<BIGINT> COMMENT 'By cluster: its customers of the sample',
    cluster_stability ARRAY<DOUBLE> COMMENT 'By cluster: mean Jaccard overlap with the most alike of each resample, 0 to 1',
    representation STRING COMMENT 'learned, pca or features; live: what was published before; null: learned',
    method STRING COMMENT 'kmeans, bisecting, gaussian_mixture, ward or hdbscan; null: kmeans',
    common_davies_bouldin DOUBLE COMMENT 'Davies-Bouldin index in the space of the scaled features, by which the gate judges',
    separation DOUBLE COMMENT 'Share of the variance of revenue, orders and churn after a day that its clusters told',
    separation_low DOUBLE COMMENT 'Lower end of the 95 % interval of the separation',
    separation_high DOUBLE COMMENT 'Upper end of the 95 % interval of the separation',
    decision STRING COMMENT 'What the gate decided of the model, and why'
"""
TABLE = Table(
    "segments.candidates",
    "One row per model, representation, method and number of clusters tried: the evidence for what is published.",
    SCHEMA,
    checks={"k_positive": "k > 0"},
)


def candidates(
    vectors: np.ndarray,
    version: str,
    day: date,
    segment: Segment,
    representation: str = LEARNED_EMBEDDING,
    live_k: int | None = None,
) -> list[dict]:
    """Vectors (n x latent) of the sample of `day` -> rows of segments.candidates of the model `version`, one of them chosen.

    `live_k` is as of _sweep.every().

    Raises UserError as _sweep.every() and _methods.beside() do.
    """
    rows = _methods.beside([one.row for one in _sweep.every(vectors, day, segment, live_k)], vectors, segment)
    facts = {"representation": representation, "decision": f"segment.representation is {representation}: not judged"}
    return _with_facts([row | facts for row in rows], version, day, len(vectors))


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Judge the day's champion, once, and let `models` know: by what of it customers are clustered, or that the one before stays.

    Raises UserError where nothing can be clustered; the champion is as it was then.
    """
    champion = _inputs.champion(settings, day)
    version, representation = champion["version"], settings.segment.representation
    lake.create(TABLE)  # a lake made before may lack columns
    rows = lake.read_small_table(TABLE, ["representation", "chosen"], ds.field("model_version") == version)
    if not rows:
        known = _inputs.known_customers(lake, version, day)
        if representation == BEST:
            found, n = _judge.judged(lake, settings, day, champion)
            rows = _with_facts(found, version, day, n)
        else:
            vectors, live_k = _vectors(lake, settings, day, version, known), _judge.n_live(lake, settings, champion)
            rows = candidates(vectors, version, day, settings.segment, representation, live_k)
        frame = lake.spark.createDataFrame([dict.fromkeys(TABLE.columns) | row for row in rows], SCHEMA)
        lake.replace(TABLE, frame, f"model_version = {quote_sql(version)}")
    since = date.fromisoformat(champion["since"])
    chosen = next((row["representation"] or LEARNED_EMBEDDING for row in rows if row["chosen"]), None)
    if chosen is None:
        before = _judge.live(lake, settings, champion)
        if before is None:
            raise UserError(
                f"segment: the gate refused model {version} on {day} and nothing else is live; train again: shoal train --retrain"
            )
        models.promote(settings.models, before["version"], since, before["representation"])
    elif chosen != champion["representation"]:
        models.promote(settings.models, version, since, chosen)


def _vectors(lake: Lake, settings: Settings, day: date, version: str, known: DataFrame) -> np.ndarray:
    """The sample of the `known` customers of the day (n x latent) as the representation of the setting."""
    name, n = settings.segment.representation, settings.segment.sample
    if name == LEARNED_EMBEDDING:
        active = known.where("is_active AND vector IS NOT NULL")
        return _customers.matrix(_customers.drawn(active, n).select("vector").toArrow()["vector"])
    sample = _customers.sample(lake, day, models.meta(settings.models, version), n)
    return load_encoder(settings.models, version, [REPRESENTATIONS[name]]).run(*sample.given)[0]


def _with_facts(rows: list[dict], version: str, day: date, n: int) -> list[dict]:
    return [{"method": KMEANS, "n_customers": n} | row | {"model_version": version, "day": day} for row in rows]
