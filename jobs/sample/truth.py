"""What was planted, counted while the files are written, for the folder truth/."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from jobs.sample.currencies import CURRENCIES, HOME_CURRENCY, UNITS_PER_RATE, draw_rates
from jobs.sample.orders import EXTRA_LINES
from jobs.sample.products import CONTROL_TERMS, FIRST_ODD_TERM
from jobs.sample.robots import EventsByName
from jobs.sample.rows import DISCOUNT, KINDS, RETURN, RULES
from jobs.sample.text_columns import write_text
from jobs.sample.times import DAY_MS, EPOCH


class Truth:
    """The counts, defects and sums of all files so far; nothing personal."""

    def __init__(self, seed: int):
        self.seed = seed
        self.rows: Counter[str] = Counter()  # by kind of file
        self.defects: list[tuple[str, int, str]] = []  # file, data row from 1, rule
        self.kept: Counter[str] = Counter()  # odd rows that are no rejects
        self.robots: dict[str, set[int]] = defaultdict(set)  # visitors by rule
        self.people: dict[str, set[int]] = defaultdict(set)  # visitors who look like robots, by kind
        self.money: Counter[str] = Counter()  # millionths of the home currency
        # First versions of restated order lines by (order, line): file, row and discount.
        self._first_versions: dict[tuple[int, int], tuple[str, int, int]] = {}

    def add_robots(self, robots: EventsByName, people: EventsByName) -> None:
        """Note the visitors of the day's robots and of people who look like robots."""
        for visitors, parts in ((self.robots, robots), (self.people, people)):
            for name, events in parts:
                visitors[name].update(events["visitor"].tolist())

    def add_events(self, file: str, events: np.ndarray, has_bad_price: np.ndarray, offsets_ms: np.ndarray, day: int) -> None:
        """Count a day's file of events; `offsets_ms` is by how much each client's clock is wrong."""
        self._add_rows("events", file, events)
        is_sound = events["rule"] == 0
        has_control_character = np.isin(events["term"] - FIRST_ODD_TERM, CONTROL_TERMS)
        self.kept["late"] += int((is_sound & (events["time"] // DAY_MS < day)).sum())
        self.kept["no_id"] += int((is_sound & (events["id"] < 0)).sum())
        self.kept["clock_skew"] += int((offsets_ms != 0).sum())
        self.kept["bad_price"] += int((is_sound & has_bad_price).sum())
        self.kept["control_character"] += int((is_sound & has_control_character).sum())

    def add_orders(self, file: str, orders: np.ndarray) -> None:
        """Count a day's file of orders and sum its money; a second version replaces the first."""
        self._add_rows("orders", file, orders)
        is_sound, kind = orders["rule"] == 0, orders["kind"]
        self.kept["price_from_catalogue"] += int((is_sound & orders["blank_price"]).sum())
        for extra, *_ in EXTRA_LINES:
            self.kept[f"{KINDS[extra]}_line"] += int((is_sound & (kind == extra)).sum())
        self.kept["return_without_order"] += int((is_sound & (kind == RETURN) & (orders["original_id"] < 0)).sum())
        positions = np.flatnonzero(is_sound)
        day_numbers = np.unique(orders["time"][positions] // DAY_MS).tolist()
        rates = {number: self._rates_on(EPOCH + timedelta(days=number)) for number in day_numbers}
        for i in positions:
            order = orders[i]
            self._add_money(file, int(i) + 1, order, rates[int(order["time"]) // DAY_MS][CURRENCIES[order["currency"]]])

    def _add_rows(self, kind: str, file: str, rows: np.ndarray) -> None:
        self.rows[kind] += len(rows)
        for i in np.flatnonzero(rows["rule"]):
            self.defects.append((file, int(i) + 1, RULES[rows["rule"][i]]))

    def _rates_on(self, day: date) -> dict[str, int]:
        return {HOME_CURRENCY: UNITS_PER_RATE, **draw_rates(day, self.seed)}

    def _add_money(self, file: str, row: int, order: np.void, rate: int) -> None:
        gross, discount = abs(int(order["quantity"])) * int(order["price"]) * rate, int(order["discount"]) * rate
        key = (int(order["id"]), int(order["line"]))
        if order["restated"]:
            self._first_versions[key] = (file, row, discount)
        elif key in self._first_versions:
            first_file, first_row, first_discount = self._first_versions.pop(key)
            self.defects.append((first_file, first_row, "superseded"))
            self.money["gross"] -= gross
            self.money["discounts"] -= first_discount
        if order["kind"] == RETURN:
            self.money["returns"] += gross - discount
        elif order["kind"] == DISCOUNT:
            self.money["discounts"] -= gross
        else:
            self.money["gross"] += gross
            self.money["discounts"] += discount

    def write(
        self, folder: Path, groups: list[tuple[str, str, str, str]], parameters: dict[str, int], first: date, last: date
    ) -> None:
        """Write customers.csv from (customer id, type, taste, rhythm), defects.csv and truth.json."""
        write_text(folder / "customers.csv", "customer_id,type,taste,rhythm", [",".join(row) for row in groups])
        write_text(folder / "defects.csv", "file,row,rule", [f"{f},{r},{rule}" for f, r, rule in sorted(self.defects)])
        sums = {**self.money, "net": self.money["gross"] - self.money["discounts"] - self.money["returns"]}
        truth = {
            "parameters": parameters,
            "first_day": str(first),
            "last_day": str(last),
            "rows": dict(sorted(self.rows.items())),
            "money": {
                "currency": HOME_CURRENCY,
                **{name: _format_millionths(sums.get(name, 0)) for name in ("gross", "discounts", "returns", "net")},
            },
            "types": _count_names(type_ for _, type_, _, _ in groups),
            "tastes": _count_names(taste for _, _, taste, _ in groups if taste),
            "rhythms": _count_names(rhythm for _, _, _, rhythm in groups if rhythm),
            "defects": _count_names(rule for _, _, rule in self.defects),
            "kept": dict(sorted(self.kept.items())),
            "robots": _list_visitors(self.robots),
            "people": _list_visitors(self.people),
        }
        (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def to_client_ids(visitors: np.ndarray) -> np.ndarray:
    """Return the visitor ids as they stand in the files."""
    return (visitors >> np.uint64(8)).astype("i8")


def _count_names(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _list_visitors(visitors_by_name: dict[str, set[int]]) -> dict[str, list[str]]:
    return {name: sorted(str(visitor >> 8) for visitor in visitors) for name, visitors in sorted(visitors_by_name.items())}


def _format_millionths(millionths: int) -> str:
    """
    >>> _format_millionths(-1234500)
    '-1.2345'
    """
    if millionths % 100:
        raise ValueError(f"{millionths} millionths are not exact in four decimals")
    sign, ten_thousandths = "-" if millionths < 0 else "", abs(millionths) // 100
    return f"{sign}{ten_thousandths // 10_000}.{ten_thousandths % 10_000:04}"
