"""What each group of inputs adds to the prediction of each outcome: one row per fit of the models, outcome and group.

Input: the facts of the champion of the models of outcomes. The kind of model that is best by features alone is fitted again on
the features and a group, and both are tested on the same customers. The rows of a fit are written once, on its day.
"""

from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    model_version STRING COMMENT 'Version of the models of outcomes',
    day DATE COMMENT 'Day on which they were fitted',
    outcome STRING COMMENT 'Name in conf/outcomes.toml',
    input_group STRING COMMENT 'Group of inputs: text, own_vectors or sequence; all: every group that the shop has',
    method STRING COMMENT 'Kind of model that was fitted without and with the group',
    n_customers BIGINT COMMENT 'Customers that both were tested on',
    n_with_group BIGINT COMMENT 'Of them, who have a vector of the group, or of any',
    roc_auc DOUBLE COMMENT 'Area under the ROC curve of the features alone, 0.5: by chance, 1: without an error',
    gain DOUBLE COMMENT 'What the group adds to it',
    gain_low DOUBLE COMMENT 'Lower end of the 95 % interval of the gain, over resamples of the customers',
    gain_high DOUBLE COMMENT 'Upper end of the 95 % interval of the gain'
"""
TABLE = Table(
    "scores.ablation",
    "One row per fit of the models of outcomes, outcome and group of inputs: what the group adds.",
    SCHEMA,
    checks={"has_key": "model_version IS NOT NULL AND outcome IS NOT NULL AND input_group IS NOT NULL"},
)


def list_gains(meta: dict) -> list[dict]:
    """Return the rows of a fit by the facts in its meta.json; none where it had no groups.

    >>> facts = {"ablation": [{"input_group": "text", "gain": 0.02}]}
    >>> list_gains({"version": "v1", "day": "2024-06-01", "outcomes": {"churn": facts}})[0]["outcome"]
    'churn'
    """
    key = {"model_version": meta["version"], "day": date.fromisoformat(meta["day"])}
    return [
        key | {"outcome": outcome} | row
        for outcome, facts in sorted(meta["outcomes"].items())
        for row in facts.get("ablation", [])
    ]


def run(lake: Lake, settings: Settings, day: date, retrain: bool) -> None:
    """Write the rows of the day's models of outcomes where they are not there; `retrain` is the other tables'."""
    lake.create(TABLE)
    entry = models.champion(settings.models, day, models.CUSTOMER_OUTCOMES)
    if entry is None:
        return
    of_model = ds.field("model_version") == entry["version"]
    if not lake.read_small_table(TABLE, ["model_version"], of_model):
        meta = models.meta(settings.models, entry["version"], models.CUSTOMER_OUTCOMES)
        if rows := list_gains(meta):
            lake.replace_where(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), of_model)
