"""The page a person looks at: one file per day, readable without a network, from the published tables and no JVM.

Input: marts.segment_profiles of the day, which must be there; segments.*, encoded.customers, quality.*, clean.events,
marts.segment_moves, marts.refreshes and the model's facts, whose sections say so where they have nothing for the day.
"""

import functools
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from jobs import catalogue, pictures
from jobs.cli import text_table
from jobs.config.settings import KMEANS, Settings
from jobs.config.source_mapping import load_source
from jobs.errors import UserError
from jobs.progress import format_days
from jobs.storage import models
from jobs.storage.delta import read_arrow, sum_by

DORMANT = 0
TRAITS_SHOWN = 3
LONGEST_EFFECT_SDS = 3.0  # longer bars are cut, so that one extreme segment does not flatten the others
MOVES_SHOWN = 20
MAP_POINTS = 5000
MAP_WIDTH, MAP_HEIGHT = 760, 460
MAP_LAYERS = 10
DAYS_SHOWN = 365
CURVE_WIDTH, CURVE_HEIGHT = 760, 180
MAP_TAIL = 0.005  # this share of the points at either end of an axis may lie outside the map, so that few stretch it
COLOURS = 8  # that most people can tell apart; the ninth segment takes the first again, its number is on the map
NONE = "–"
_TEMPLATE = "report.html.jinja"
_UNITS = {feature.name: feature.unit for feature in catalogue.FEATURES}


def run(settings: Settings, day: date) -> str:
    """Write `<reports>/<day>/index.html`, whole or not at all, and return its path.

    Raises UserError where the day is not published, or the page cannot be written.
    """
    page = _page(settings, day)
    path = _path(settings, day)
    try:
        _write(path, page.encode())
    except OSError as error:
        raise UserError(f"report: {path} cannot be written ({error}); choose another folder with SHOAL_REPORTS") from error
    return path


def segments_as_text(settings: Settings) -> str:
    """The segments of the latest published day as a table for the terminal.

    Raises UserError where no day is published.
    """
    columns = ["day", "segment_id", "segment_name", "n_customers", "share", "orders_365d", "net_365d"]
    columns += ["typical_recency_days", "model_version"]
    profiles = read_arrow(settings.lake, "marts.segment_profiles", columns)
    if profiles.num_rows == 0:
        raise UserError(f"report: marts.segment_profiles in {settings.lake} has no rows; run first: shoal refresh --day DAY")
    day = pc.max(profiles["day"]).as_py()
    rows = sorted(profiles.filter(pc.equal(profiles["day"], day)).to_pylist(), key=_by_id)
    currency = load_source(settings.source).currency
    head = ["segment", "name", "customers", "share", "orders, 365 days", f"net, 365 days, {currency}", "typical recency"]
    lines = [
        [
            str(row["segment_id"]),
            row["segment_name"],
            count(row["n_customers"]),
            percent(row["share"]),
            count(row["orders_365d"]),
            whole_money(row["net_365d"]),
            days(row["typical_recency_days"]),
        ]
        for row in rows
    ]
    path = _path(settings, day)
    written = "://" in path or Path(path).exists()
    return "\n".join(
        [
            *text_table.align_columns([head, *lines], left={1}),
            "",
            f"as of  {day}",
            f"model  {rows[0]['model_version']}",
            f"report {path if written else f'not written yet; run: shoal report --day {day}'}",
        ]
    )


def reconciliation_as_text(settings: Settings, days: list[date]) -> tuple[str, list[str]]:
    """What became of the rows of `days`, by table and by rule, as tables for the terminal; and the tables and days of
    which rows are unaccounted for, in words.

    Raises UserError where none of the days was cleaned.
    """
    wanted = set(days)
    rows = [row for row in read_arrow(settings.lake, "quality.reconciliation").to_pylist() if row["day"] in wanted]
    if not rows:
        raise UserError(
            f"reconcile: quality.reconciliation in {settings.lake} has no rows for {format_days(days)};"
            f" run first: shoal clean --day {days[-1]}"
        )
    accounts = _accounts(rows, days[-1])
    figures = {
        "rows_in": "rows in",
        "rows_out": "rows out",
        "rejects": "refused",
        "duplicates": "repeated",
        "difference": "unaccounted",
    }
    tables = [[table, *(count(sums["all"][name]) for name in figures)] for table, sums in accounts["tables"]]
    rules = [
        [table, figures[kind], rule, count(n["all"]), money(_measured(rows, table, f"{figures[kind]}_{rule}"))]
        for (table, kind, rule), n in accounts["rules"]
    ]
    parts = [
        f"{format_days(days)}, days with rows: {accounts['n_days']}",
        "",
        *text_table.align_columns([["table", *figures.values()], *tables], left={0}),
    ]
    if rules:
        parts += ["", *text_table.align_columns([["table", "what", "rule", "rows", "money"], *rules], left={0, 1, 2})]
    of_money, wrong_money = _money_by_day(settings, [row for row in rows if row["table"] == "clean.orders"])
    wrong = sorted((row["table"], row["day"]) for row in rows if row["difference"])
    return "\n".join(parts + of_money), [f"{table}, day {day}" for table, day in wrong] + wrong_money


def _money_by_day(settings: Settings, accounts: list[dict]) -> tuple[list[str], list[str]]:
    """What came in and what became of it by day, as lines; and in words the days on which some is unaccounted for.

    Taken from the tables themselves, as a later return changes what stands at the day of its order.
    """
    of_orders = ["gross_amount", "discount_amount", "returned_amount", "net_amount"]
    sold = sum_by(settings.lake, "clean.orders", ["day"], of_orders)
    given_back: Counter = Counter()
    by_order: Counter = Counter()
    for (day, order_day), (amount,) in sum_by(settings.lake, "clean.returns", ["day", "order_day"], ["amount"]).items():
        given_back[day] += amount
        by_order[order_day or day] += amount
    lines, totals, wrong = [], [Decimal(0)] * 8, []
    for account in sorted(accounts, key=lambda account: account["day"]):
        day, measures = account["day"], dict(account["measures"] or [])
        apart = [sum(v for name, v in measures.items() if name.startswith(kind)) for kind in ("refused_", "repeated_")]
        gross, discounts, returns, net = sold.get((day,), [Decimal(0)] * 4)
        figures = [measures.get("amount", 0), *apart, gross, discounts, returns, net, given_back[day]]
        totals = [a + b for a, b in zip(totals, figures, strict=True)]
        lines.append([str(day), *map(money, figures)])
        adds_up = gross - discounts - returns == net and returns == by_order[day]
        if measures.get("unaccounted") or not adds_up:
            wrong.append(f"clean.orders, day {day}, money")
    if not lines:
        return [], wrong
    head = ["day", "came in", "refused", "repeated", "gross", "discounts", "returns", "net", "given back"]
    lines += [["in all", *map(money, totals)]] if lines[1:] else []
    note = f"money in {load_source(settings.source).currency}: returns by the day of their order, given back by the day of refund"
    return ["", note, "", *text_table.align_columns([head, *lines], left={0})], wrong


def _measured(rows: list[dict], table: str, name: str) -> Decimal | None:
    """The sum of a measure over the rows of a table; None where it has none."""
    found = [measures[name] for row in rows if row["table"] == table and name in (measures := dict(row["measures"] or []))]
    return sum(found) if found else None


def count(value: float | None) -> str:
    """
    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return NONE if value is None else f"{value:,.0f}"


whole_money = count


def money(value: Decimal | float | None) -> str:
    """
    >>> money(Decimal("-1234.5000"))
    '-1,234.50'
    """
    return NONE if value is None else f"{value:,.2f}"


def plain(value: Decimal | float) -> str:
    """
    >>> plain(Decimal("57404.9100")), plain(Decimal("91.0000")), plain(20)
    ('57,404.91', '91', '20')
    """
    return f"{value:,.2f}".removesuffix(".00")


def percent(share: float | None) -> str:
    """
    >>> percent(0.1234), percent(0.0004), percent(-0.0001), percent(None)
    ('12.3 %', '<0.1 %', '0.0 %', '–')
    """
    if share is None:
        return NONE
    return "<0.1 %" if 0 < share < 0.001 else f"{share * 100:z.1f} %"


def days(value: float | None) -> str:
    """
    >>> days(1.0), days(12.5), days(None)
    ('1 day', '12.5 days', '–')
    """
    return NONE if value is None else f"{value:,.4g} day{'' if value == 1 else 's'}"


def number(value: float | None) -> str:
    """Three digits, or all before the point.

    >>> number(0.04213), number(12345.6), number(3.0), number(0.000663)
    ('0.0421', '12,346', '3', '<0.001')
    """
    if value is None:
        return NONE
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def in_unit(feature: str, value: float, currency: str) -> str:
    """A value of a feature with the unit that the catalogue states.

    >>> in_unit("net_30d", 12.5, "GBP"), in_unit("recency_days", 1.0, "GBP"), in_unit("orders_30d", 1.25, "GBP")
    ('12.50 GBP', '1 day', '1.25')
    """
    unit = _UNITS.get(feature, "")
    if unit == "home currency":
        return f"{money(value)} {currency}"
    if unit == "share":
        return percent(value)
    if unit in ("", "count", "-1 to 1"):
        return number(value)
    return f"{number(value)} {unit.removesuffix('s') if value == 1 else unit}"


def _page(settings: Settings, day: date) -> str:
    profiles = read_arrow(settings.lake, "marts.segment_profiles", day=day).to_pylist()
    if not profiles:
        raise UserError(
            f"report: marts.segment_profiles in {settings.lake} has no rows on {day}; run first: shoal publish --day {day}"
        )
    profiles.sort(key=_by_id)
    shop = load_source(settings.source)
    rows = functools.partial(_rows, settings.lake)
    version = profiles[0]["model_version"]
    definitions = rows("segments.definitions")
    names = {d["segment_id"]: d["name"] for d in sorted(definitions, key=lambda d: d["fitted_on"])}
    names |= {p["segment_id"]: p["segment_name"] for p in profiles}
    results = rows("quality.results", day=day)
    run = max(rows("marts.refreshes", day=day), key=lambda run: run["finished_at"], default=None)
    tried = [dict.fromkeys(_LATER_COLUMNS) | row for row in rows("segments.candidates")]
    headline = _headline(profiles)
    of_model = [d for d in definitions if d["model_version"] == version]
    segments = _segments(profiles, headline["active"], of_model, shop.currency)
    return _environment().get_template(_TEMPLATE).render(
        day=day,
        source=shop.name.replace("_", " "),
        currency=shop.currency,
        headline=headline,
        segments=segments,
        sizes=_sizes(settings.lake, day, names),
        map=_map(settings.lake, day, version, definitions, segments),
        moves=_moves(rows("marts.segment_moves", day=day), names),
        candidates=_candidates([c for c in tried if c["model_version"] == version]),
        fit=_fit(of_model),
        gate=_gate(run),
        represented=REPRESENTED,
        accounts=_accounts(rows("quality.reconciliation"), day),
        robots=_robots(settings.lake, day),
        alarms=Counter(alarm["rule"] for alarm in rows("clean.identity_alarms") if alarm["since"] <= day),
        checks=_checks(results),
        drift=_drift(results),
        model=_model(settings.models, version, day),
        run=run,
    )  # fmt: skip


def _headline(profiles: list[dict]) -> dict:
    largest = max(profiles, key=lambda p: p["n_customers"])
    known = round(largest["n_customers"] / largest["share"])
    listed = sum(p["n_customers"] for p in profiles)
    dormant = sum(p["n_customers"] for p in profiles if p["segment_id"] == DORMANT)
    return {
        "customers": known,
        "dormant": dormant,
        "active": known - dormant,
        "segments": sum(p["segment_id"] != DORMANT for p in profiles),
        "orders": sum(p["orders_365d"] or 0 for p in profiles),
        "net": sum(p["net_365d"] or 0 for p in profiles),
        "unlisted": known - listed,
    }


def _segments(profiles: list[dict], active: int, definitions: list[dict], currency: str) -> list[dict]:
    described = {d["segment_id"]: d for d in definitions}
    # Of the active ones: where nineteen of twenty are dormant, shares of all customers would say nothing.
    of_active = {p["segment_id"]: p["n_customers"] / active for p in profiles if p["segment_id"] != DORMANT}
    largest = max([*of_active.values(), *(p["net_share"] or 0 for p in profiles)])  # one scale for both bars
    shown = {p["segment_id"]: _strongest(p["traits"] or []) for p in profiles}
    ends = (abs(end) for traits in shown.values() for t in traits for end in (t["low"], t["high"]))
    widest = min(max(ends, default=0), LONGEST_EFFECT_SDS)
    return [
        p
        | {
            "colour": _colour(p["segment_id"]),
            "active_share": of_active.get(p["segment_id"]),
            "active_bar": of_active.get(p["segment_id"], 0) / largest if largest else 0,
            "net_bar": max(p["net_share"] or 0, 0) / largest if largest else 0,
            "definition": described.get(p["segment_id"]),
            "traits": [_trait(t, widest, currency) for t in shown[p["segment_id"]]],
        }
        for p in profiles
    ]


def _strongest(traits: Iterable[dict]) -> list[dict]:
    """The first traits, a feature in one window only: the same thing over 30, 90 and 365 days is one trait."""
    of_kind: dict[str, dict] = {}
    for trait in traits:
        stem, _, window = trait["feature"].rpartition("_")
        of_kind.setdefault(stem if window.removesuffix("d").isdigit() or window == "life" else trait["feature"], trait)
    return list(of_kind.values())[:TRAITS_SHOWN]


def _trait(trait: dict, widest: float, currency: str) -> dict:
    """The trait with its places on a scale from -widest to widest, as shares of its length from the left."""
    cut = {name: max(-widest, min(widest, trait[name])) for name in ("effect", "low", "high")}
    place = {name: 0.5 + 0.5 * value / widest if widest else 0.5 for name, value in cut.items()}
    return {
        "meaning": trait["meaning"],
        "feature": trait["feature"],
        "typical": in_unit(trait["feature"], trait["typical"], currency),
        "overall": in_unit(trait["feature"], trait["overall"], currency),
        "effect": f"{trait['effect']:+.2f}",
        "interval": f"{trait['low']:+.2f} to {trait['high']:+.2f}",
        "bar": (min(place["effect"], 0.5), abs(place["effect"] - 0.5)),
        "whisker": (place["low"], place["high"] - place["low"]),
        "above": trait["effect"] > 0,
    }


def _map(root: str, day: date, version: str, definitions: list[dict], segments: list[dict]) -> dict | None:
    """The active customers on the first two principal axes of their vectors, or None where there are no vectors."""
    encoded = _table(root, "encoded.customers", ["customer_id", "vector"], day)
    assigned = _table(root, "segments.assignments", ["customer_id", "segment_id"], day)
    if encoded is None or assigned is None:
        return None
    published = pa.array([s["segment_id"] for s in segments if s["segment_id"] != DORMANT], pa.int32())
    assigned = assigned.filter(pc.is_in(assigned["segment_id"], value_set=published))
    at = pc.index_in(encoded["customer_id"], value_set=assigned["customer_id"].combine_chunks())
    encoded = encoded.append_column("at", at).filter(pc.is_valid(at))
    if encoded.num_rows < 2:
        return None
    segment_ids = assigned["segment_id"].take(encoded["at"]).to_numpy()
    lists = encoded["vector"].combine_chunks()
    vectors = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(lists), -1)
    mean, axes, explained = _principal_axes(vectors)
    sample = _sample(encoded["customer_id"].to_pylist())
    points = (vectors[sample] - mean) @ axes
    drawn = {s["segment_id"]: s for s in segments}
    centred = [d for d in definitions if d["model_version"] == version and d["center"] and d["segment_id"] in drawn]
    centred.sort(key=_by_id)
    centres = (np.array([d["center"] for d in centred]).reshape(-1, vectors.shape[1]) - mean) @ axes
    to_picture = _scale(points, centres)
    places = to_picture(points)
    inside = ((places >= 0) & (places <= (MAP_WIDTH, MAP_HEIGHT))).all(axis=1)
    # In layers, so that no segment covers another and dense places are darker.
    layer = np.arange(len(sample)) % MAP_LAYERS
    of_point = segment_ids[sample]
    return {
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
        "clouds": [
            (drawn[i]["colour"], _dots(places[inside & (layer == at) & (of_point == i)]))
            for at in range(MAP_LAYERS)
            for i in np.unique(of_point).tolist()
        ],
        "centres": [
            {"segment_id": d["segment_id"], "name": drawn[d["segment_id"]]["segment_name"],
             "colour": drawn[d["segment_id"]]["colour"], "x": round(x), "y": round(y)}
            for d, (x, y) in zip(centred, to_picture(centres).tolist(), strict=True)
        ],
        "shown": int(inside.sum()),
        "outside": int((~inside).sum()),
        "active": len(vectors),
        "dimensions": vectors.shape[1],
        "explained": explained,
    }  # fmt: skip


def _principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(mean, the two axes as columns, their share of the variance) of vectors (n x latent); the sign is fixed."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    _, spread, directions = np.linalg.svd(centred.T @ centred / len(vectors))
    axes = np.zeros((vectors.shape[1], 2))
    axes[:, : min(2, len(directions))] = directions[:2].T
    strongest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    axes *= np.where(strongest < 0, -1.0, 1.0)
    return mean, axes, float(spread[:2].sum() / spread.sum()) if spread.sum() > 0 else 1.0


def _sample(customer_ids: Sequence[str]) -> np.ndarray:
    """The positions of at most MAP_POINTS customers, the same ones whatever the order of the rows."""
    hashes = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in customer_ids]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__)[:MAP_POINTS])


def _scale(points: np.ndarray, centres: np.ndarray):
    """What turns coordinates (n x 2) into places in the picture; y grows upwards before, downwards after."""
    low, high = np.quantile(points, [MAP_TAIL, 1 - MAP_TAIL], axis=0)
    every = np.vstack([low, high, centres])
    low, high = every.min(axis=0), every.max(axis=0)
    margin, size = 24, np.array([MAP_WIDTH, MAP_HEIGHT], dtype=float)
    unit = ((size - 2 * margin) / np.where(high > low, high - low, 1.0)).min()  # one scale for both: distances are true
    middle = (low + high) / 2
    return lambda at: size / 2 + (at - middle) * unit * (1.0, -1.0)


def _dots(places: np.ndarray) -> str:
    """An SVG path of one dot for each place: far shorter than as many circles."""
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places.tolist())


def _sizes(root: str, day: date, names: dict[int, str]) -> dict | None:
    """The customers of each segment but the dormant on the published days up to the day, DAYS_SHOWN at most, as lines."""
    rows = _rows(root, "marts.segment_profiles", columns=["day", "segment_id", "n_customers"])
    known = [p for p in rows if p["segment_id"] != DORMANT]
    days = sorted({p["day"] for p in known if p["day"] <= day})[-DAYS_SHOWN:]
    drawn = pictures.over_time((p["day"], p["segment_id"], p["n_customers"]) for p in known if p["day"] in days)
    for line in drawn["lines"] if drawn else ():
        line |= {"name": names.get(line["segment_id"], ""), "colour": _colour(line["segment_id"])}
    return drawn


def _moves(moves: list[dict], names: dict[int, str]) -> dict:
    moves.sort(key=lambda m: (-m["customers"], pictures.null_last(m["from_segment_id"]), pictures.null_last(m["to_segment_id"])))
    apart = [m for m in moves if (m["from_segment_id"], m["to_segment_id"]) != (None, None)]
    shown = [
        m
        | {
            "from_name": names.get(m["from_segment_id"], "new customers"),
            "to_name": names.get(m["to_segment_id"], "no longer known"),
            "from_colour": _colour(m["from_segment_id"]),
            "to_colour": _colour(m["to_segment_id"]),
        }
        for m in apart[:MOVES_SHOWN]
    ]
    rest = apart[MOVES_SHOWN:]
    flow = pictures.flow([(m["from_segment_id"], m["to_segment_id"], m["customers"]) for m in apart]) if apart else None
    for side, other in (("left", "new customers"), ("right", "no longer known")):
        for bar in flow[side] if flow else ():
            bar |= {"name": names.get(bar["segment_id"], other), "colour": _colour(bar["segment_id"])}
    for ribbon in flow["ribbons"] if flow else ():
        ribbon["colour"] = _colour(ribbon["from"])
    return {
        "flow": flow,
        "rows": shown,
        "previous_day": moves[0]["previous_day"] if moves else None,
        "customers": sum(m["customers"] for m in moves),
        "rest": (len(rest), sum(m["customers"] for m in rest)),
        "together": sum(m["customers"] for m in moves) - sum(m["customers"] for m in apart),
    }


# What customers can be clustered by, as a person calls it.
REPRESENTED = {
    "learned": "what was learned",
    "pca": "principal components",
    "features": "scaled features",
    "live": "what was live",
}

# Of segments.candidates: a lake made before may lack them.
_LATER_COLUMNS = ("calinski_harabasz", "cluster_stability", "representation", "method")


def _gate(run: dict | None) -> dict | None:
    """What the manifest says was last decided, and the figures of the representations that were held against each other."""
    if not (run and run.get("decision")):
        return None
    published, _, reason = run["decision"].partition(": ")
    rows = sorted(run["judged"], key=lambda one: [*REPRESENTED].index(one["representation"]))
    return {"day": run["decided_on"], "published": published, "reason": reason, "rows": rows}


def _candidates(tried: list[dict]) -> dict | None:
    """The numbers of segments that were tried of what is published, in order, two figures of each as lines of a picture, 0 at its
    foot, and the other methods."""
    published = next((c["representation"] for c in tried if c["chosen"]), None)
    tried = [c for c in tried if c["representation"] == published]
    rows = sorted((c for c in tried if c["method"] in (None, KMEANS)), key=lambda c: c["k"])
    if not rows:
        return None
    taken = next((c["k"] for c in tried if c["chosen"]), None)
    others = [c for c in tried if c["method"] not in (None, KMEANS)]
    step = CURVE_WIDTH / len(rows)
    drawn = [c | {"x": round(step * (at + 0.5))} for at, c in enumerate(rows)]

    def line(figure: str) -> list[dict]:
        known = (c for c in drawn if c[figure] is not None)
        return [c | {"y": round(CURVE_HEIGHT * (1 - max(c[figure], 0))), "value": c[figure]} for c in known]

    return {
        "rows": [c | {"least_stable": min(c["cluster_stability"] or [], default=None)} for c in drawn],
        "lines": [(name, style, line(name)) for name, style in (("silhouette", "first"), ("stability", "second"))],
        "width": CURVE_WIDTH,
        "height": CURVE_HEIGHT,
        "is_refused": any(c["chosen"] and c["refused_by"] for c in rows),
        "representation": published,
        "methods": [*(c for c in rows if c["k"] == taken and others), *sorted(others, key=lambda c: c["method"])],
    }


def _fit(definitions: list[dict]) -> dict | None:
    """How well all active customers lay in the segments at the fit; None where a lake made before does not say."""
    known = [d for d in definitions if d.get("silhouette") is not None]
    if not known:
        return None
    n = sum(d["n_customers"] for d in known)
    return {
        "n_customers": n,
        "day": known[0]["fitted_on"],
        "silhouette": sum(d["silhouette"] * d["n_customers"] for d in known) / n,
        "davies_bouldin": sum(d["davies_bouldin"] for d in known) / len(known),
        "least": min(known, key=lambda d: d["silhouette"]),
    }


def _accounts(rows: list[dict], day: date) -> dict:
    """By table, what became of the rows of the day and of all days up to it, and by which rules."""
    rows = [row for row in rows if row["day"] <= day]
    tables: dict[str, dict[str, Counter]] = defaultdict(lambda: {"day": Counter(), "all": Counter()})
    rules: dict[tuple[str, str, str], Counter] = defaultdict(Counter)
    for row in rows:
        for scope in ["all"] + ["day"] * (row["day"] == day):
            for name in ("rows_in", "rows_out", "difference"):
                tables[row["table"]][scope][name] += row[name]
            for kind in ("rejects", "duplicates"):
                for rule, n in dict(row[kind] or []).items():
                    tables[row["table"]][scope][kind] += n
                    rules[row["table"], kind, rule][scope] += n
    return {
        "tables": sorted(tables.items()),
        "rules": sorted(rules.items(), key=lambda item: (item[0][0], item[0][1], -item[1]["all"], item[0][2])),
        "n_days": len({row["day"] for row in rows}),
        "measures": {r["table"]: dict(r["measures"]) for r in rows if r["day"] == day and r["measures"]},
    }


def _robots(root: str, day: date) -> dict | None:
    events = _table(root, "clean.events", ["bot_rule"], day)
    if events is None or events.num_rows == 0:
        return None
    counts = pc.value_counts(events["bot_rule"].drop_null()).to_pylist()
    rules = Counter({row["values"]: row["counts"] for row in counts})
    return {"events": events.num_rows, "share": rules.total() / events.num_rows, "rules": rules.most_common()}


def _checks(results: list[dict]) -> dict:
    failed = [r for r in results if not r["success"]]
    failed.sort(key=lambda r: (r["severity"] != "critical", r["table"], r["column"] or "", r["expectation"]))
    return {"n": len(results), "passed": len(results) - len(failed), "failed": failed,
            "tables": len({r["table"] for r in results}),
            "unknown": sum(r["observed"] == "not known" for r in results)}  # fmt: skip


def _drift(results: list[dict]) -> dict:
    """How far the day's active customers are from those of the training: figures by what they are of, the largest first."""
    known = {r["column"]: float(r["observed"]) for r in results if r["column"] and _is_drift(r) and r["observed"] != "not known"}
    errors, beyond = known.pop("psi_reconstruction_error", None), known.pop("out_of_range", None)
    features = sorted(((name.removeprefix("psi_"), psi) for name, psi in known.items()), key=lambda one: -one[1])
    return {"errors": errors, "out_of_range": beyond, "features": features}


def _is_drift(result: dict) -> bool:
    return result["column"] == "out_of_range" or result["column"].startswith("psi_")


def _model(root: str, version: str, day: date) -> dict | None:
    """What the model's meta.json says, and since when it is champion; None where its files are gone."""
    if not models.exists(root, version):
        return None
    champion = models.champion(root, day)
    since = champion["since"] if champion and champion["version"] == version else None
    return models.meta(root, version) | {"since": since}


def _table(root: str, name: str, columns: list[str], day: date) -> pa.Table | None:
    try:
        return read_arrow(root, name, columns, day)
    except UserError:  # not there: its section says so
        return None


def _rows(root: str, name: str, day: date | None = None, columns: list[str] | None = None) -> list[dict]:
    try:
        return read_arrow(root, name, columns, day=day).to_pylist()
    except UserError:  # not there: its section says so
        return []


def _by_id(row: dict) -> tuple[bool, int]:
    return row["segment_id"] == DORMANT, row["segment_id"]


def _colour(segment_id: int | None) -> str:
    """The style class of a segment; it follows the id, so that a segment keeps its colour from day to day."""
    return "c0" if not segment_id else f"c{(segment_id - 1) % COLOURS + 1}"


def _environment():
    import jinja2

    # Names come from data: everything is escaped, whatever the file is called.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"count": count, "money": money, "percent": percent, "days": days, "number": number, "plain": plain}
    environment.filters |= filters | {"length_of": lambda share: f"{share * 100:.2f}%"}
    return environment


def _path(settings: Settings, day: date) -> str:
    return f"{settings.reports}/{day}/index.html"


def _write(path: str, content: bytes) -> None:
    if "://" in path:  # an object store shows a new object whole or not at all
        filesystem, key = fs.FileSystem.from_uri(path)
        with filesystem.open_output_stream(key) as stream:
            stream.write(content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(".index.html.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
