"""The backtest of a model: what customers did after an earlier day, explained by the clusters they were in on that day.

Training also trains an encoder on the customers of an earlier day only. It clusters the customers of that day, and what they
did until today is the outcome that the clusters should explain.
"""

from collections.abc import Sequence
from datetime import date
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config.settings import Settings
from jobs.representations import BASELINES, list_learned_representations, load_representations
from jobs.segments._sample import Sample, draw_sample
from jobs.segments.model_selection.gate import variance_explained
from jobs.segments.model_selection.k_sweep import fit_each
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

# The columns of features.customer_days that are read.
CUSTOMER_DAYS = Table(
    "features.customer_days",
    "What customers did on a day.",
    "customer_id STRING, day DATE, identified_on DATE, known_until DATE, net DECIMAL(18,4), orders BIGINT, events BIGINT",
    partition="day",
)


class Backtest:
    """The customers as of the backtest day of a model, and what they did from then until `day`.

    `missing` says why the variance explained is not known; None where it is.
    """

    missing: str | None

    def __init__(self, lake: Lake, settings: Settings, day: date, meta: dict):
        self._lake, self._settings, self._day, self._meta = lake, settings, day, meta
        self.missing = reason_without_backtest(meta)
        self._backtest_day = None if self.missing else date.fromisoformat(meta["backtest"]["day"])
        if self._backtest_day and self._backtest_day not in lake.days("features.customers"):
            self.missing = f"features.customers has no rows on {self._backtest_day}"

    def variance_explained(self, version: str, meta: dict, clusterings: dict[str, tuple[str, int]]) -> dict[str, np.ndarray]:
        """Return, by name, the shares of variance explained, as gate.variance_explained() gives them.

        `clusterings` holds by name a representation of the model `version` and the number of clusters, `meta` is the model's
        meta.json. The result lacks what the backtest of the model does not give.
        """
        if self.missing:
            return {}
        names, _ = self.find_representable([name for name, _ in clusterings.values()], meta)
        clusterings = {key: (name, k) for key, (name, k) in clusterings.items() if name in names}
        if not clusterings:
            return {}
        names, ks = zip(*clusterings.values(), strict=True)
        encoder = load_representations(self._settings.models, version, meta, names, is_backtest=True)
        spaces = encoder.run(*self._sample.read_inputs(encoder))
        segment = self._settings.segment
        labels = [fit.labels for fit in fit_each(spaces, ks, segment)]
        return dict(zip(clusterings, variance_explained(self._outcomes, labels, segment.seed) or [], strict=False))

    def find_representable(self, names: Sequence[str], meta: dict) -> tuple[list[str], str | None]:
        """Return which of these representations the backtest of a model gives, and why not all of them."""
        facts = meta["backtest"]
        trained = [name for name in names if name in (*list_learned_representations(facts), *BASELINES)]
        representable, reason = self._sample.find_representable(trained, facts)
        if len(trained) < len(names):
            reason = f"too few customers of {facts['day']} have what {', '.join(sorted(set(names) - set(trained)))} needs"
        return representable, reason

    @cached_property
    def _sample(self) -> Sample:
        return draw_sample(self._lake, self._backtest_day, self._meta, self._settings.segment.sample)

    @cached_property
    def _outcomes(self) -> np.ndarray:
        """Return n x 3: net amount and orders, as logarithms so that a few large ones do not decide, and 1 for churned."""
        days = [day for day in self._lake.days(CUSTOMER_DAYS.name) if self._backtest_day < day <= self._day]
        rows = read_rows(self._lake.root, Rows(CUSTOMER_DAYS, "customer_id", days=days, only=self._sample.ids))
        attributed = rows.filter((pc.field("identified_on") <= self._day) & (pc.field("known_until") > self._day))
        sums = attributed.group_by("customer_id").aggregate([(name, "sum") for name in ("net", "orders", "events")])
        places = pc.index_in(self._sample.ids, sums["customer_id"].combine_chunks())
        columns = (sums[f"{name}_sum"].cast(pa.float64()).take(places) for name in ("net", "orders", "events"))
        net, orders, events = (np.nan_to_num(column.to_numpy()) for column in columns)
        return np.stack([np.sign(net) * np.log1p(np.abs(net)), np.log1p(orders.clip(0)), orders + events <= 0], axis=1)


def reason_without_backtest(meta: dict) -> str | None:
    """Return why a model has no backtest, by its meta.json; None where it has one."""
    return (meta.get("backtest") or {"left_out": "train.backtest_days is 0"}).get("left_out")
