"""What is wrong in the files: broken, late and duplicate rows. Each row breaks one rule at most."""

from datetime import date

import numpy as np

from jobs.sample.draws import choose_index
from jobs.sample.orders import add_extra_lines, draw_bookings, draw_returns, mark_missing_rates
from jobs.sample.rows import RULE, UNKNOWN
from jobs.sample.shop import Shop
from jobs.sample.times import DAY_MS

Batch = tuple[np.ndarray, np.ndarray]  # rows, and the day number of the file that each arrives in

# Share of the events that each defect is planted in; the first six are names of rules.
EVENT_DEFECTS = {
    "no_time": 0.0006, "future": 0.0005, "too_late": 0.0005, "no_visitor": 0.0006, "unknown_type": 0.0006,
    "malformed": 0.0005, "bad_price": 0.0005, "late": 0.004, "same_id": 0.002, "same_id_next_day": 0.001,
    "no_id": 0.003, "same_event": 0.0008, "same_event_next_day": 0.0004,
}  # fmt: skip
EVENT_RULES = tuple(EVENT_DEFECTS)[:6]
ORDER_RULES = ("no_time", "future", "no_order_id", "bad_quantity", "bad_price", "malformed")
ORDER_DEFECTS = dict.fromkeys(ORDER_RULES, 0.0015) | {"restated": 0.008, "twice": 0.002, "reload": 0.002}


def plant_event_defects(rng: np.random.Generator, events: np.ndarray) -> list[Batch]:
    """Plant defects among the day's events; return these and their copies, each with the day it arrives."""
    names = list(EVENT_DEFECTS)
    defect = choose_index(rng.random(len(events)), np.cumsum(list(EVENT_DEFECTS.values())))
    arrival = events["time"] // DAY_MS
    for code, name in enumerate(EVENT_RULES):
        events["rule"][defect == code] = RULE[name]

    def positions(name: str) -> np.ndarray:
        return np.flatnonzero(defect == names.index(name))

    future, too_late, late = positions("future"), positions("too_late"), positions("late")
    events["time"][future] += rng.integers(2, 40, len(future)) * DAY_MS
    arrival[too_late] += rng.integers(5, 20, len(too_late))
    arrival[late] += rng.integers(1, 4, len(late))
    events["bad_price"][positions("bad_price")] = True
    events["action"][positions("unknown_type")] = UNKNOWN
    for name in ("no_id", "same_event", "same_event_next_day"):
        events["id"][positions(name)] = -1
    batches = [(events, arrival)]
    for name in ("same_id", "same_id_next_day", "same_event", "same_event_next_day"):
        copies = events[positions(name)].copy()
        copies["rule"] = RULE[name.removesuffix("_next_day")]
        batches.append((copies, copies["time"] // DAY_MS + name.endswith("_next_day")))
    return batches


def plant_order_defects(rng: np.random.Generator, sales: tuple[np.ndarray, np.ndarray], shop: Shop, day: date) -> list[Batch]:
    """Plant defects among the day's sales; return these, their copies and second versions, and all other order lines.

    Each line comes with the day it arrives.
    """
    orders, return_share = sales
    arrival = orders["time"] // DAY_MS
    defect = _mark_order_defects(rng, orders, shop)
    names = list(ORDER_DEFECTS)
    newer, twice, reload = (orders[defect == names.index(name)].copy() for name in ("restated", "twice", "reload"))
    newer["restated"] = False
    newer["modified"] += rng.integers(8 * 3600, 20 * 3600, len(newer)) * 1000
    newer["discount"] = newer["quantity"] * newer["price"] // 5 + 1
    twice["rule"] = reload["rule"] = RULE["exact"]
    may_return = (orders["rule"] == 0) & (defect < 0)
    returns = draw_returns(rng, shop, orders, return_share, may_return, day)
    extra, refunds = add_extra_lines(shop, orders, day)
    bookings = draw_bookings(rng, shop, day)
    return [
        (orders, arrival),
        (newer, newer["time"] // DAY_MS + 1),
        (twice, twice["time"] // DAY_MS),
        (reload, reload["time"] // DAY_MS + 1),
        *((rows, rows["time"] // DAY_MS) for rows in (returns, extra, refunds, bookings)),
    ]


def _mark_order_defects(rng: np.random.Generator, orders: np.ndarray, shop: Shop) -> np.ndarray:
    """Mark the defects in the lines, in the home currency only; return the position of each line's defect, -1 for none."""
    n, names = len(orders), list(ORDER_DEFECTS)
    mark_missing_rates(orders)
    is_sound = (orders["currency"] == 0) & (orders["rule"] == 0)
    pick = rng.random(n)
    has_price = shop.products.has_price[orders["product"]]
    no_price = is_sound & ~has_price & (pick < 0.3)
    orders["blank_price"] = no_price | (is_sound & has_price & (pick < 0.003))  # the latter have a price in the catalogue
    orders["rule"][no_price] = RULE["no_price"]
    is_sound &= ~orders["blank_price"]

    defect = choose_index(rng.random(n), np.cumsum(list(ORDER_DEFECTS.values())), is_sound)
    for code, name in enumerate(ORDER_RULES):
        orders["rule"][defect == code] = RULE[name]
    orders["variant"] = rng.integers(0, 12, n)
    future = defect == names.index("future")
    orders["time"][future] += rng.integers(2, 30, future.sum()) * DAY_MS
    orders["modified"] = orders["time"]
    orders["restated"] = defect == names.index("restated")
    return defect
