"""What becomes of each customer, as of a day: the probability of each outcome of conf/outcomes.toml, and what it depends on.

Input: features.customers of the day, and the champion of the models of outcomes. Only customers who are eligible for an outcome
have a row. A model is published only where it is better than a plain rule; `method` says which it was.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from jobs.config.outcomes import Outcome, load_outcomes
from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Tables, Write
from jobs.input_groups import SEQUENCE
from jobs.outcome_cases import RECENCIES, Inputs, load_inputs
from jobs.outcome_groups import SequenceModel, are_sequences_encoded, list_group_rows, read_groups, select_groups
from jobs.scores import _outcome_training
from jobs.scores._outcome_training import Champion, OutcomeModel
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

N_DRIVERS = 2
_SAMPLE = 20_000  # customers, by whose scores those of a larger shop are divided into tenths
SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, in the business time zone',
    outcome STRING COMMENT 'What may happen: a name in conf/outcomes.toml',
    window_days INT COMMENT 'In how many days to come it counts',
    probability DOUBLE COMMENT 'Calibrated probability that it happens, 0 to 1',
    decile INT COMMENT 'Tenth of the eligible customers of the day by their score, 1: the highest; null where all have the same',
    drivers ARRAY<STRUCT<
        feature: STRING COMMENT 'Input that the score depends on most: a column of features.customers, or one of its values',
        value: DOUBLE COMMENT 'Its value for the customer; null: not known, or no number',
        raises: BOOLEAN COMMENT 'Whether it makes the outcome more likely than for the mean customer'
    >> COMMENT 'The two inputs that the score of the customer depends on most; none where all have the same',
    method STRING COMMENT 'What the probability was made by: a fitted model, recency (a plain rule) or prevalence (all alike)',
    model_version STRING COMMENT 'Version of the models of outcomes'
"""
TABLE = Table(
    "scores.customer_outcomes",
    "One row per eligible customer, day and outcome: how likely it is.",
    SCHEMA,
    partition="day",
    checks={
        "has_customer": "customer_id IS NOT NULL AND outcome IS NOT NULL",
        "a_probability": "probability BETWEEN 0 AND 1",
        "a_tenth": "decile IS NULL OR decile BETWEEN 1 AND 10",
    },
)


def score_customers(
    tables: Tables,
    outcomes: Sequence[tuple[Outcome, OutcomeModel]],
    inputs: Inputs,
    version: str,
    edges: dict[str, np.ndarray],
    day: date,
) -> Tables:
    """Return scores.customer_outcomes as `outcomes`; the key is the customer.

    Takes `customers`, the columns that Inputs.customers_of names, and the rows of each group of inputs by its name. `edges` are
    the scores that divide the eligible customers of the day into tenths, by outcome. Sorted by outcome and customer.
    """
    customers = tables["customers"].sort_by("customer_id")
    ids = customers["customer_id"].combine_chunks()
    groups = select_groups(tables, inputs.reductions, inputs.sequences, ids)
    matrix, features = inputs.make_matrix(customers, groups)
    parts = []
    for outcome, model in outcomes:
        rows = np.flatnonzero(_find_eligible(customers, outcome, day))
        eligible = np.ascontiguousarray(matrix[rows])
        scores, contributions = model.explain(eligible)
        columns = {
            "customer_id": customers["customer_id"].take(pa.array(rows)),
            "day": pa.repeat(pa.scalar(day, pa.date32()), len(rows)),
            "outcome": pa.repeat(pa.scalar(outcome.name, pa.string()), len(rows)),
            "window_days": pa.repeat(pa.scalar(outcome.window_days, pa.int32()), len(rows)),
            "probability": model.calibration.apply(scores),
            "decile": _find_decile(scores, edges[outcome.name]),
            "drivers": _find_drivers(contributions, inputs, features[rows]),
            "method": pa.repeat(pa.scalar(model.method, pa.string()), len(rows)),
            "model_version": pa.repeat(pa.scalar(version, pa.string()), len(rows)),
        }
        parts.append(pa.table(columns).cast(TABLE.arrow_schema))
    return {"outcomes": pa.concat_tables([TABLE.arrow_schema.empty_table(), *parts])}


def _find_decile(scores: np.ndarray, edges: np.ndarray) -> pa.Array:
    """Return the tenth that each score is in, 1 the highest; null where the edges do not differ: all are alike."""
    if edges[0] == edges[-1]:
        return pa.nulls(len(scores), pa.int32())
    return pa.array(10 - np.searchsorted(edges, scores, side="right"), pa.int32())


def _find_eligible(customers: pa.Table, outcome: Outcome, day: date) -> np.ndarray:
    """Return which of n customers are eligible as of a day (n booleans)."""
    column, days = outcome.eligible_since
    since = pl.Series(pl.from_arrow(customers[column]))
    return (since > day - timedelta(days=days)).fill_null(False).to_numpy()


def _find_drivers(contributions: np.ndarray, inputs: Inputs, features: np.ndarray) -> pa.ListArray:
    """Return the N_DRIVERS named inputs with the largest contributions; dimensions of the learned vector have no name."""
    names = [*inputs.names, *RECENCIES]
    named = [*range(len(inputs.names)), *inputs.recency_columns.values()]
    contributions = contributions[:, named]
    top = _find_largest(np.abs(contributions), N_DRIVERS)
    effects = np.take_along_axis(contributions, top, axis=1)
    counts = (effects != 0).sum(axis=1)
    is_driver = effects.ravel() != 0
    # The column of the feature with the same name; the last, of NaN, for a value of an attribute or a flag.
    positions = {name: n for n, name in enumerate(inputs.features)}
    sources = np.array([positions.get(name, len(positions)) for name in names])
    rows = np.repeat(np.arange(len(features)), top.shape[1])[is_driver]
    chosen = top.ravel()[is_driver]
    columns = sources[chosen]
    values = np.where(columns < len(positions), features[rows, np.minimum(columns, len(positions) - 1)], np.nan).astype(float)
    structs = pa.StructArray.from_arrays(
        [
            pa.DictionaryArray.from_arrays(pa.array(chosen.astype(np.int32)), pa.array(names)).cast(pa.string()),
            pa.array(values, from_pandas=True),
            pa.array(effects.ravel()[is_driver] > 0),
        ],
        ["feature", "value", "raises"],
    )
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)), structs)


def _find_largest(values: np.ndarray, k: int) -> np.ndarray:
    """Return the columns of the k largest of each row (n x k), the largest first, equal ones in their order; changes `values`.

    A search for each costs a third of a sort of them all.
    """
    rows, columns = np.arange(len(values)), np.empty((len(values), k), np.int64)
    for place in range(k):
        columns[:, place] = values.argmax(axis=1)
        values[rows, columns[:, place]] = -1
    return columns


def run(lake: Lake, settings: Settings, day: date, retrain: bool) -> str | None:
    """Write the outcomes of the day by the champion of the day, whose models are fitted first where they are due.

    Returns in words which outcomes are left out and why, or None.
    """
    champion = _outcome_training.prepare_champion(lake, settings, day, retrain)
    if champion is None or not champion.models:
        lake.replace_rows(TABLE, TABLE.arrow_schema.empty_table(), [day])
        return _describe(champion.left_out) if champion else None
    inputs = _load_inputs(lake, settings, champion, day)
    declared = load_outcomes(settings.outcomes)
    outcomes = [(outcome, champion.models[outcome.name]) for outcome in declared if outcome.name in champion.models]
    n_rows = lake.count_rows("features.customers", [day])
    edges = _find_edges(lake, inputs, outcomes, day)
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, n_rows) as runner:
        of_groups = list_group_rows(lake.root, day, inputs.reductions, inputs.sequences)
        read = runner.read({"customers": inputs.customers_of(day), **of_groups}, count_buckets(n_rows))
        kernel = partial(score_customers, outcomes=outcomes, inputs=inputs, version=champion.version, edges=edges, day=day)
        opened.commit(runner.run(kernel, read, {"outcomes": Write(TABLE, gather=True)}).files["outcomes"], [day])
    return _describe(champion.left_out)


def _load_inputs(lake: Lake, settings: Settings, champion: Champion, day: date) -> Inputs:
    """Return the inputs of the champion's models, with its encoder of events where the day has no vectors by that one."""
    inputs = replace(load_inputs(settings.models, champion.encoder, champion.uses_vector), reductions=champion.reductions)
    versions = [reduction.model for reduction in champion.reductions if reduction.group == SEQUENCE]
    if not versions or are_sequences_encoded(lake.root, day, versions[0]):
        return inputs
    return replace(inputs, sequences=SequenceModel.load(lake.root, settings.models, versions[0], day))


def _describe(left_out: dict[str, str]) -> str | None:
    """Return in words which outcomes are left out."""
    return "; ".join(f"outcome {name}: {reason}" for name, reason in left_out.items()) or None


def _find_edges(lake: Lake, inputs: Inputs, outcomes: Sequence[tuple[Outcome, OutcomeModel]], day: date) -> dict[str, np.ndarray]:
    """Return the nine scores that divide the eligible customers of the day, or a random sample of them, into tenths."""
    ids = to_frame(read_rows(lake.root, Rows(inputs.table, "customer_id", ("customer_id",), [day])))
    sample = ids.sort(ids["customer_id"].hash(17), "customer_id").head(_SAMPLE)["customer_id"].sort().to_arrow().cast(pa.string())
    customers = read_rows(lake.root, inputs.customers_of(day, sample if len(ids) > _SAMPLE else None))
    places = customers["customer_id"].combine_chunks()
    groups = read_groups(lake.root, day, places, inputs.sequences) if inputs.reductions else {}
    matrix, _ = inputs.make_matrix(customers, groups)
    edges = {}
    for outcome, model in outcomes:
        scores = model.score(matrix[_find_eligible(customers, outcome, day)])
        edges[outcome.name] = np.quantile(scores, np.arange(1, 10) / 10) if len(scores) else np.zeros(9)
    return edges
