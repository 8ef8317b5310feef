"""features.customers in plain Python, from the meanings in docs/features.md, over clean rows as dictionaries."""

import math
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

ZERO = Decimal(0)
NUMBERS = {"mobile": "phone", "phone": "phone", "smartphone": "phone", "desktop": "desktop", "computer": "desktop",
           "laptop": "desktop", "pc": "desktop", "tablet": "tablet"}  # fmt: skip


def features(log: dict[str, list[dict]], day: date, near_holiday, dormant_days: int = 365) -> dict | None:
    """What features.customers says as of `day` of the customer with these rows; None where unknown by then.

    `log` has the rows of clean `events`, `orders`, `returns` and `customers`; `near_holiday(day)` is a bool.
    """
    events = [
        e for e in log["events"] if not e["is_bot"] and max(e["day"], e["identified_on"]) <= day
        and (e["customer_id"] or day < e["shared_since"])  # else theirs only until the device was known to be shared
    ]  # fmt: skip
    lines = [o for o in log["orders"] if o["known_from"] <= day < o["known_until"] and o["quantity"] > 0]
    returns = [r for r in log["returns"] if r["day"] <= day]
    records = [c for c in log["customers"] if c["day"] <= day]
    since = [d for c in records for d in _registered(c)]
    if records and since and min(since) > day:
        records, since = [], []
    if not (events or lines or returns or records):
        return None
    history = History(events, lines, returns, day, near_holiday)
    seen, acted, ordered = history.days_seen, history.days_acted, history.order_days
    row = {
        "is_active": bool(acted) and max(acted) > day - timedelta(days=dormant_days),
        "first_known_day": min([*since, *seen], default=day),
        "first_seen_day": min(seen, default=None),
        "last_seen_day": max(acted, default=None),
        "first_order_day": min(ordered, default=None),
        "last_order_day": max(ordered, default=None),
        "country": max(records, key=lambda c: c["day"])["country"] if records else None,
    }
    row |= history.activity() | history.money()
    row["recency_days"] = (day - row["last_seen_day"]).days if acted else None
    row["order_recency_days"] = (day - row["last_order_day"]).days if ordered else None
    row["tenure_days"] = (day - row["first_known_day"]).days
    return row


def _registered(record: dict) -> list[date]:
    at, valid_from = record["registered_at"], record["day"]
    return [*([at.date()] if at else []), *([valid_from] if valid_from > date(1970, 1, 1) else [])]


def differences(actual: dict[str, dict], expected: dict[str, dict]) -> dict[str, list[str]]:
    """Return, by customer, the columns of features.customers that differ from the expected: doubles by more than 1e-9."""
    wrong = {name: ["is there"] for name in actual.keys() - expected.keys()}
    for name, row in expected.items():
        actual_row = actual.get(name)
        columns = [c for c in actual_row if c not in ("customer_id", "day", "vector")] if actual_row else []
        different = [f"{c}: {actual_row[c]!r}, not {row[c]!r}" for c in columns if not _equal(actual_row[c], row[c])]
        if different or not actual_row:
            wrong[name] = different or ["is missing"]
    return wrong


def _equal(a, b) -> bool:
    if isinstance(a, float) and b is not None:
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    return a == b


class History:
    """One customer's rows as of a day, counted in windows."""

    def __init__(self, events, lines, returns, day, near_holiday):
        self.events, self.lines, self.returns, self.day, self.near_holiday = events, lines, returns, day, near_holiday
        sessions, orders = defaultdict(list), defaultdict(list)
        for event in events:
            sessions[event["session_id"]].append(event)
        for line in lines:
            orders[line["day"], line.get("shop"), line["order_id"]].append(line)
        orders = {key: part for key, part in orders.items() if not _cancelled(part, day)}
        self.held = [line for part in orders.values() for line in part]
        self.sessions = [{"day": part[0]["session_started_at"].date(), "events": part} for part in sessions.values()]
        self.hits = [e for part in sessions.values() for e in _of_type(part, "search") if _leads_on(e, part)]
        self.orders = [
            {"day": d, "at": min(line["ordered_at"] for line in part), "lines": part, "paid": sum(map(_paid, part))}
            for (d, *_), part in orders.items()
            if any(line["line_kind"] != "discount" for line in part)
        ]
        self.order_days = {order["day"] for order in self.orders}
        paid_on = {line["day"] for line in lines if line["gross_amount"]}
        self.days_acted = {event["day"] for event in events} | self.order_days | paid_on
        self.days_seen = self.days_acted | {r["day"] for r in returns}

    def last(self, rows, days, near=0):
        back = self.day - timedelta(days=near)
        return [row for row in rows if back - timedelta(days=days - near) < row["day"] <= back]

    def activity(self) -> dict:
        row, of = {}, _of_type
        for w in (7, 30, 90, 365):
            events, sessions = self.last(self.events, w), self.last(self.sessions, w)
            row |= {f"events_{w}d": len(events), f"sessions_{w}d": len(sessions)}
            carts = [s for s in sessions if of(s["events"], "add_to_cart")]
            bought = [s for s in sessions if of(s["events"], "purchase")]
            left = [s for s in carts if not of(s["events"], "purchase")]
            searches = of(events, "search")
            hits = self.last(self.hits, w)
            row |= {
                f"active_days_{w}d": len({e["day"] for e in events}),
                f"views_{w}d": len(of(events, "view")),
                f"searches_{w}d": len(searches),
                f"search_terms_{w}d": len({e["search_term"] for e in searches} - {None}),
                f"search_hits_{w}d": len(hits),
                f"search_misses_{w}d": len(searches) - len(hits),
                f"search_hit_share_{w}d": _by(len(hits), len(searches)),
                f"cart_adds_{w}d": len(of(events, "add_to_cart")),
                f"checkouts_{w}d": len(of(events, "begin_checkout")),
                f"abandoned_carts_{w}d": len(left),
                f"abandoned_share_{w}d": _by(len(left), len(carts)),
                f"session_seconds_{w}d": _by(sum(map(_seconds, sessions)), len(sessions)),
                f"events_per_session_{w}d": _by(len(events), len(sessions)),
                f"bounce_share_{w}d": _by(sum(len(s["events"]) == 1 for s in sessions), len(sessions)),
                f"cart_rate_{w}d": _by(len(carts), len(sessions)),
                f"checkout_rate_{w}d": _by(sum(bool(of(s["events"], "begin_checkout")) for s in carts), len(carts)),
                f"purchase_rate_{w}d": _by(len(bought), len(sessions)),
                f"search_share_{w}d": _by(len(searches), len(events)),
                f"events_trend_{w}d": _trend(len(events), len(self.last(self.events, 2 * w, w))),
                f"sessions_trend_{w}d": _trend(len(sessions), len(self.last(self.sessions, 2 * w, w))),
            }
        return row | self.rhythm(self.last(self.events, 365))

    def rhythm(self, events) -> dict:
        hours = [e["event_at"].hour for e in events]
        turns = [math.radians((e["event_at"].hour * 60 + e["event_at"].minute) / 4) for e in events]
        sine, cosine = (sum(round(f(t) * 1e6) for t in turns) for f in (math.sin, math.cos))
        devices = Counter(NUMBERS[e["device"]] for e in events if e["device"] in NUMBERS)
        opening = (e for e in events if e["event_at"] == e["session_started_at"] and e["channel"] is not None)
        channels = Counter(e["channel"] for e in opening)
        return {
            "night_share_365d": _by(sum(h < 6 for h in hours), len(events)),
            "morning_share_365d": _by(sum(6 <= h < 12 for h in hours), len(events)),
            "evening_share_365d": _by(sum(h >= 18 for h in hours), len(events)),
            "hour_sine_365d": _by(sine / 1e6, len(events)),
            "hour_cosine_365d": _by(cosine / 1e6, len(events)),
            "mean_hour_365d": math.degrees(math.atan2(sine, cosine)) / 15 % 24 if sine or cosine else None,
            "weekend_share_365d": _by(sum(e["day"].isoweekday() > 5 for e in events), len(events)),
            "mobile_share_365d": _by(devices["phone"], len(events)),
            "tablet_share_365d": _by(devices["tablet"], len(events)),
            "desktop_share_365d": _by(devices["desktop"], len(events)),
            "device": max(("phone", "desktop", "tablet"), key=lambda d: devices[d]) if devices else None,
            "channel": min(channels, key=lambda c: (-channels[c], c)) if channels else None,
        }

    def money(self) -> dict:
        ever = _sum(self.lines, "gross_amount") - _sum(self.lines, "discount_amount") - _sum(self.returns, "amount")
        row = {"orders_life": len(self.orders), "order_days_life": len(self.order_days), "net_life": ever}
        for w in (7, 30, 90, 365):
            lines, orders, returns = self.last(self.lines, w), self.last(self.orders, w), self.last(self.returns, w)
            goods = [line for line in self.last(self.held, w) if line["line_kind"] == "product"]
            gross, discount = _sum(lines, "gross_amount"), _sum(lines, "discount_amount")
            returned, paid = _sum(returns, "amount"), [order["paid"] for order in orders]
            back = {(r["day"], r.get("shop"), r["return_order_id"], r["return_line_no"]): r["kind"] for r in returns}
            n = len(orders)
            row |= {
                f"orders_{w}d": n,
                f"order_days_{w}d": len({order["day"] for order in orders}),
                f"net_{w}d": gross - discount - returned,
                f"gross_{w}d": gross,
                f"average_order_{w}d": _by(sum(paid), n),
                f"largest_order_{w}d": max(paid, default=None),
                f"smallest_order_{w}d": min(paid, default=None),
                f"items_per_order_{w}d": _by(_sum(goods, "quantity"), n),
                f"lines_per_order_{w}d": _by(len(goods), n),
                f"products_bought_{w}d": len({line["product_id"] for line in goods}),
                f"categories_bought_{w}d": len({line["category"] for line in goods} - {None}),
                f"discount_share_{w}d": _by(discount, gross),
                f"discounted_order_share_{w}d": _by(sum(_sum(o["lines"], "discount_amount") > 0 for o in orders), n),
                f"return_share_{w}d": _by(returned, gross),
                f"postage_share_{w}d": _by(_sum([x for x in lines if x["line_kind"] == "postage"], "gross_amount"), gross),
                f"returns_{w}d": len(back),
                f"cancellations_{w}d": list(back.values()).count("cancellation"),
                f"weekend_order_share_{w}d": _by(sum(o["day"].isoweekday() > 5 for o in orders), n),
                f"morning_order_share_{w}d": _by(sum(o["at"].hour < 12 for o in orders), n),
                f"evening_order_share_{w}d": _by(sum(o["at"].hour >= 18 for o in orders), n),
                f"holiday_order_share_{w}d": _by(sum(self.near_holiday(o["day"]) for o in orders), n),
                f"net_trend_{w}d": _trend(gross - discount - returned, self.net_before(w)),
                f"orders_trend_{w}d": _trend(n, len(self.last(self.orders, 2 * w, w))),
            }
            for q in (1, 2, 3, 4):
                row[f"q{q}_order_share_{w}d"] = _by(sum((o["day"].month + 2) // 3 == q for o in orders), n)
            row |= _categories(goods, w)
        return row | self.gaps()

    def net_before(self, w):
        lines, returns = self.last(self.lines, 2 * w, w), self.last(self.returns, 2 * w, w)
        return _sum(lines, "gross_amount") - _sum(lines, "discount_amount") - _sum(returns, "amount")

    def gaps(self) -> dict:
        ever = sorted(self.order_days)
        days = sorted({order["day"] for order in self.last(self.orders, 365)})
        gaps = [(later - earlier).days for earlier, later in pairwise(days)]
        mean = sum(gaps) / len(gaps) if gaps else 0
        return {
            "order_gap_days": (ever[-1] - ever[0]).days / (len(ever) - 1) if len(ever) > 1 else None,
            "longest_order_gap_365d": max(gaps, default=None),
            "order_gap_deviation_365d": math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps)) if gaps else None,
        }


def _categories(goods, w) -> dict:
    money = defaultdict(lambda: ZERO)
    for line in goods:
        if line["category"] is not None:
            money[line["category"]] += _paid(line)
    total = sum(money.values())
    shares = [float(amount / total) for amount in money.values()] if total else []
    return {
        f"top_category_share_{w}d": max(shares, default=None),
        f"category_entropy_{w}d": abs(sum(-p * math.log(p) for p in shares if p)) if shares else None,
    }


def _of_type(events, event_type):
    return [e for e in events if e["event_type"] == event_type]


def _leads_on(search, session) -> bool:
    products = [e for e in session if e["event_type"] == "add_to_cart" or (e["event_type"] == "view" and e["product_id"])]
    return any(search["event_at"] <= e["event_at"] <= search["event_at"] + timedelta(minutes=10) for e in products)


def _seconds(session) -> int:
    times = [int(e["event_at"].replace(microsecond=0).timestamp()) for e in session["events"]]
    return max(times) - min(times)


def _cancelled(lines, day) -> bool:
    """Whether all products of an order were cancelled by the day."""
    products = [line for line in lines if line["line_kind"] == "product"]
    return bool(products) and all(x["status"] == "cancelled" and x["returned_at"].date() <= day for x in products)


def _paid(line) -> Decimal:
    return line["gross_amount"] - line["discount_amount"]


def _sum(rows, column) -> Decimal:
    return sum((row[column] for row in rows), ZERO)


def _by(part, whole):
    return float(part) / float(whole) if whole else None


def _trend(now, before):
    return _by(now - before, abs(now) + abs(before))
