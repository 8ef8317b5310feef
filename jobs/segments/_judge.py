"""The gate's work for one model: its representations clustered the same way, and what is live only where it is asked for."""

from datetime import date, timedelta
from functools import cache, cached_property, partial
from operator import itemgetter

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import functions as F
from sklearn.metrics import davies_bouldin_score, pairwise_distances_argmin

from jobs.config.settings import Settings
from jobs.encoder import REPRESENTATIONS, load_encoder
from jobs.errors import UserError
from jobs.progress import log
from jobs.segments import _customers, _gate, _methods, _sweep
from jobs.segments._customers import Sample
from jobs.segments._gate import LIVE, Contender
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.models import BACKTEST, LEARNED_EMBEDDING

PLAIN = ("pca", "features")  # the simplest last


def judged(lake: Lake, settings: Settings, day: date, champion: dict) -> tuple[list[dict], int]:
    """What segments.candidates says of the champion, the customers in its sample left out; and their number.

    Raises UserError where neither what was learned nor the principal components can be clustered.
    """
    version, segment = champion["version"], settings.segment
    meta = models.meta(settings.models, version)
    today = _customers.sample(lake, day, meta, segment.sample)
    outputs = load_encoder(settings.models, version, list(REPRESENTATIONS.values())).run(*today.given)
    spaces = dict(zip(REPRESENTATIONS, outputs, strict=True))
    backtest = Backtest(lake, settings, day, meta)
    live_k = n_live(lake, settings, champion)
    try:
        base, lost = LEARNED_EMBEDDING, None
        curves = {base: _sweep.every(spaces[base], day, segment, live_k)}
    except UserError as error:
        base, lost = PLAIN[0], str(error)
        curves = {base: _sweep.every(spaces[base], day, segment, live_k)}
    at_k = {base: next(one for one in curves[base] if one.row["chosen"])}
    k = at_k[base].row["k"]
    at_k |= {name: next(_sweep.sweep(spaces[name], [k], segment)) for name in PLAIN if name != base}
    told = backtest.told(version, {name: (REPRESENTATIONS[name], k) for name in at_k})
    common = spaces["features"]
    contenders = {
        name: Contender(name, k, one.row["stability"], _compactness(common, one.fit.labels), told.get(name))
        for name, one in at_k.items()
    }
    stands = cache(partial(_standing, lake, settings, champion, meta, today, common, backtest))
    published, reason = _gate.decided(contenders.get(LEARNED_EMBEDDING), [contenders[name] for name in PLAIN], stands)
    decision = "; ".join(filter(None, [f"{published}: {reason}", lost, backtest.lacking]))
    log(f"gate  {day}  {decision}")
    if published not in (LIVE, *curves):
        curves[published] = _sweep.every(spaces[published], day, segment, live_k)

    def rows(name: str) -> list[dict]:
        refusal = {} if name == published else {"refused_by": at_k[name].row["refused_by"] or f"gate: {published} is published"}
        judgement = _figures(contenders[name]) | refusal
        of_name = [one.row | (judgement if one.row["k"] == k else {}) for one in curves.get(name, [at_k[name]])]
        return _methods.beside(of_name, spaces[name], segment) if name == published else [r | {"chosen": False} for r in of_name]

    found = [row | {"representation": name} for name in at_k for row in rows(name)]
    if published != LEARNED_EMBEDDING and (standing := stands()):  # else nobody asked for it
        found.append(_figures(standing) | {"k": standing.k, "representation": LIVE, "chosen": False})
    return [row | {"decision": decision} for row in found], len(today.ids)


def live(lake: Lake, settings: Settings, champion: dict) -> dict | None:
    """What was champion before, with its "centers" (k x latent) in this lake; None where nothing was or has any."""
    reigns = (one for one in models.champion_history(settings.models) if one["since"] < champion["since"])
    before = max((one for one in reigns if one["version"] != champion["version"]), key=itemgetter("since"), default=None)
    if before is None:
        return None
    of_model = (ds.field("model_version") == before["version"]) & ds.field("center").is_valid()
    centers = [row["center"] for row in lake.read_small_table("segments.definitions", ["center"], of_model)]
    return before | {"centers": np.array(centers)} if centers else None


def n_live(lake: Lake, settings: Settings, champion: dict) -> int | None:
    """How many segments are live, the dormant not counted; None where there are none."""
    before = live(lake, settings, champion)
    return len(before["centers"]) if before else None


class Backtest:
    """The customers as of the day of a model's backtest, and what they did from then until `day`."""

    def __init__(self, lake: Lake, settings: Settings, day: date, meta: dict):
        self._lake, self._settings, self._day, self._meta = lake, settings, day, meta
        told = _backtested(meta)
        lacking = told.get("left_out")
        self._before = None if lacking else date.fromisoformat(told["day"])
        if self._before and self._before not in lake.days("features.customers"):
            self._before, lacking = None, f"features.customers has no rows on {self._before}"
        self.lacking = f"separation is not known: {lacking}" if lacking else None

    def told(self, version: str, wanted: dict[str, tuple[str, int]]) -> dict[str, np.ndarray]:
        """By name, as of _gate.told, what so many clusters of this output of the backtest of `version` told of the outcomes.

        Nothing where it is not known.
        """
        if self._before is None:
            return {}
        outputs, ks = zip(*wanted.values(), strict=True)
        spaces = load_encoder(self._settings.models, version, outputs, BACKTEST).run(*self._sample.given)
        segment = self._settings.segment
        labels = [_sweep.best(space, k, segment).labels for space, k in zip(spaces, ks, strict=True)]
        return dict(zip(wanted, _gate.told(self._outcomes, labels, segment.seed) or [], strict=False))

    @cached_property
    def _sample(self) -> Sample:
        return _customers.sample(self._lake, self._before, self._meta, self._settings.segment.sample)

    @cached_property
    def _outcomes(self) -> np.ndarray:
        """n x 3: net amount and orders, as logarithms lest a few large ones decide, and 1 for who did not come again."""
        days = self._lake.read("features.customer_days", self._before + timedelta(days=1), self._day)
        known = days.where((F.col("identified_on") <= self._day) & (F.col("known_until") > self._day))
        sums = [F.sum(name).cast("double").alias(name) for name in ("net", "orders", "events")]
        rows = known.groupBy("customer_id").agg(*sums).toArrow().combine_chunks()
        places = pc.index_in(self._sample.ids, rows["customer_id"].combine_chunks())
        net, orders, events = (np.nan_to_num(rows[name].take(places).to_numpy()) for name in ("net", "orders", "events"))
        return np.stack([np.sign(net) * np.log1p(np.abs(net)), np.log1p(orders.clip(0)), orders + events <= 0], axis=1)


def _standing(
    lake: Lake, settings: Settings, champion: dict, meta: dict, today: Sample, common: np.ndarray, backtest: Backtest
) -> Contender | None:
    """What is live, as it clusters the customers of today; None where nothing is, or where it cannot: it can't stay then."""
    before = live(lake, settings, champion)
    if before is None:
        return None
    version, output, k = before["version"], REPRESENTATIONS[before["representation"]], len(before["centers"])
    try:
        told = models.meta(settings.models, version)
        if told["features"] != meta["features"] or list(told["attributes"]) != list(meta["attributes"]):
            raise UserError(f"models: {version} was trained on other features")
        (vectors,) = load_encoder(settings.models, version, [output]).run(*today.given)
        (tried,) = _sweep.sweep(vectors, [k], settings.segment)
        earlier = {} if "left_out" in _backtested(told) else backtest.told(version, {LIVE: (output, k)})
    except UserError as error:
        log(f"gate  {version}, which is live, cannot stay: {error}")
        return None
    labels = pairwise_distances_argmin(vectors, before["centers"])
    return Contender(LIVE, k, tried.row["stability"], _compactness(common, labels), earlier.get(LIVE))


def _backtested(meta: dict) -> dict:
    """What meta.json of a model says of its backtest; "left_out" is the reason where there is none."""
    return meta.get("backtest") or {"left_out": "train.backtest_days is 0"}


def _figures(one: Contender) -> dict:
    low_to_high = dict(zip(("separation", "separation_low", "separation_high"), one.separation or (None,) * 3, strict=True))
    return {"stability": one.stability, "common_davies_bouldin": one.davies_bouldin} | low_to_high


def _compactness(space: np.ndarray, labels: np.ndarray) -> float | None:
    return float(davies_bouldin_score(space, labels)) if len(np.unique(labels)) > 1 else None
