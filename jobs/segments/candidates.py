"""One row per model, representation, method and number of clusters that was tried: the evidence for what is published.

Input: features.customers and encoded.customers of the day the model is first clustered on, features.customers of the day of
the model's backtest and features.customer_days since. At most `segment.sample` active customers are used, chosen by a hash of
their id, so that the choice does not depend on order or partitions. The rows of a model are written once, those of the other
methods than K-Means after the rest, because only people read them.

The learned embedding is tried with every number of clusters. The other representations are clustered with the number that was
chosen: learned embeddings with groups of inputs, the sequence embedding, principal components (PCA) and the scaled raw features.
The gate compares them. The model store keeps the gate's decision: the
representation of the champion, or the previous champion.
"""

from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.settings import KMEANS, Settings
from jobs.errors import UserError
from jobs.segments import _inputs
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.models import LEARNED_EMBEDDING
from jobs.storage.table import Table

SCHEMA = """
    model_version STRING COMMENT 'Version of the encoder whose vectors were clustered',
    k INT COMMENT 'Number of clusters',
    day DATE COMMENT 'Day whose active customers were clustered',
    n_customers BIGINT COMMENT 'Customers in the sample',
    wss DOUBLE COMMENT 'Inertia: within-cluster sum of squared distances, of the best seed',
    silhouette DOUBLE COMMENT 'Mean silhouette on squared Euclidean distances, -1 to 1',
    smallest_share DOUBLE COMMENT 'Share of the sample in the smallest cluster, 0 to 1',
    davies_bouldin DOUBLE COMMENT 'Davies-Bouldin index in its own space, lower is better',
    stability DOUBLE COMMENT 'Mean adjusted Rand index over pairs of resamples of the customers, 1: clustered alike',
    refused_by STRING COMMENT 'The rule, or the gate, that refused this row; null: accepted',
    chosen BOOLEAN COMMENT 'Whether this is what is published; where every k was refused, the most stable k is published',
    calinski_harabasz DOUBLE COMMENT 'Calinski-Harabasz index, higher is better',
    centers ARRAY<ARRAY<FLOAT>> COMMENT 'Centres of the clusters of the sample, the largest cluster first',
    cluster_sizes ARRAY<BIGINT> COMMENT 'By cluster: its customers of the sample',
    cluster_stability ARRAY<DOUBLE> COMMENT 'By cluster: mean Jaccard overlap with the most alike of each resample, 0 to 1',
    representation STRING COMMENT 'learned, learned_text and so on, sequence, pca, features: raw ones, live; null: learned',
    method STRING COMMENT 'kmeans, bisecting, gaussian_mixture, ward or hdbscan; null: kmeans',
    common_davies_bouldin DOUBLE COMMENT 'Davies-Bouldin index in the space of the features and groups, which the gate compares',
    separation DOUBLE COMMENT 'Share of the variance of later revenue, orders and churn that the clusters of a day explain',
    separation_low DOUBLE COMMENT 'Lower end of the 95 % interval of the separation',
    separation_high DOUBLE COMMENT 'Upper end of the 95 % interval of the separation',
    decision STRING COMMENT 'What the gate decided about the model, and why'
"""
TABLE = Table(
    "segments.candidates",
    "One row per model, representation, method and number of clusters tried: the evidence for what is published.",
    SCHEMA,
    checks={"k_positive": "k > 0"},
)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Evaluate the day's champion once, and make the gate's decision the champion of the day.

    Raises UserError where nothing can be clustered; the champion stays as it was then.
    """
    champion = _inputs.champion(settings, day)
    version = champion["version"]
    lake.create(TABLE)  # a lake of an earlier version of Shoal may lack columns
    of_model = ds.field("model_version") == version
    rows = lake.read_small_table(TABLE, ["representation", "chosen"], of_model)
    if not rows:
        from jobs.segments.model_selection.evaluate import evaluate_model  # scikit-learn takes a second

        rows = evaluate_model(lake, settings, day, champion)
        lake.replace_where(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), of_model)
    chosen = next((row["representation"] or LEARNED_EMBEDDING for row in rows if row["chosen"]), None)
    if chosen is None:
        _keep_live_model(lake, settings, day, champion)
    elif chosen != champion["representation"]:
        models.promote(settings.models, version, date.fromisoformat(champion["since"]), chosen)


def add_alternatives(lake: Lake, settings: Settings, day: date) -> None:
    """Add the rows of the other methods than K-Means to those of the day's champion, where it was evaluated on this day.

    They are for comparison: nothing that follows on the day needs them.
    """
    version = _inputs.champion_version(settings, day)
    columns = ["model_version", "day", "k", "representation", "method", "chosen", "decision"]
    rows = lake.read_small_table(TABLE, columns, (ds.field("model_version") == version) & (ds.field("day") == day))
    chosen = next((row for row in rows if row["chosen"]), None)
    if chosen is None or any(row["method"] != KMEANS for row in rows):
        return
    from jobs.segments.model_selection.evaluate import list_alternatives

    alternatives = pa.Table.from_pylist(list_alternatives(lake, settings, chosen), TABLE.arrow_schema)
    lake.replace_where(TABLE, alternatives, (ds.field("model_version") == version) & (ds.field("method") != KMEANS))


def _keep_live_model(lake: Lake, settings: Settings, day: date, champion: dict) -> None:
    """Make the live model champion from the day on which `champion` became it."""
    from jobs.segments.model_selection.live_model import read_live_model

    live = read_live_model(lake, settings, champion)
    if live is None:
        raise UserError(
            f"segment: the gate refused model {champion['version']} on {day} and nothing else is live; "
            "train again: shoal train --retrain"
        )
    models.promote(settings.models, live.version, date.fromisoformat(champion["since"]), live.representation)
