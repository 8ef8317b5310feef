"""Write the sample shop into a folder, whole or not at all, and say until which day it goes."""

import json
import os
import shutil
import tempfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from jobs.errors import UserError
from jobs.sample import files
from jobs.sample.currencies import UNITS_PER_RATE, draw_rates
from jobs.sample.customers import ALL_PLANTS, Plants
from jobs.sample.defects import plant_event_defects, plant_order_defects
from jobs.sample.orders import draw_sales
from jobs.sample.products import N_PRODUCTS, PRODUCT_HEADER, list_products
from jobs.sample.robots import draw_robot_like_people, draw_robots
from jobs.sample.rows import EVENT, ORDER, assign_event_ids, concatenate_rows
from jobs.sample.shop import Shop, open_shop
from jobs.sample.text_columns import write_text
from jobs.sample.times import DAY_MS
from jobs.sample.truth import Truth
from jobs.sample.visits import draw_visits

RATE_HEADER = "fixing_date,ccy,gbp_per_unit"
FIRST_ROBOT_ID, FIRST_PEOPLE_ID = 1_000_000_000, 2_000_000_000  # event ids of a day, after those of its visits


def write_shop(
    out: Path,
    customers: int,
    days: int,
    seed: int,
    last_day: date,
    undecodable: bool = False,
    plants: Plants = ALL_PLANTS,
) -> None:
    """Write the shop of `days` days up to `last_day` into the folder `out`, whole or not at all.

    `customers` is the number known on the first day; 1 in 800 of it joins on each further day. The files are CSV:
    events-, orders-, customers-<day>.csv.gz, rates-<day>.csv, products.csv. Beside them are truth/customers.csv,
    truth/defects.csv (the data rows of a file count from 1) and truth/truth.json. The same arguments give the same
    bytes. A shop that is in `out` already is replaced. `undecodable` puts bytes that are not UTF-8 into the last event
    file. `plants` says whether customers have tastes and rhythms of their own. Raises UserError for a size below 1, and
    for an `out` that holds anything but a sample shop.
    """
    if customers < 1 or days < 1 or seed < 0:
        raise UserError(f"sample: customers = {customers}, days = {days}, seed = {seed}: give sizes from 1 and a seed from 0")
    out = Path(out)
    if out.exists() and not (out.is_dir() and (_is_shop(out) or not any(out.iterdir()))):
        raise UserError(f"sample: {out} exists and is no sample shop; choose another folder or empty it")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        (temporary / "new/truth").mkdir(parents=True)
        _write_files(temporary / "new", customers, days, seed, last_day, undecodable, plants)
        if out.exists():
            os.replace(out, temporary / "old")
        os.replace(temporary / "new", out)
    finally:
        shutil.rmtree(temporary)


def read_last_day(out: Path) -> date:
    """Return the last day of the shop in the folder `out`; raises UserError where there is no shop."""
    if not _is_shop(Path(out)):
        raise UserError(f"sample: {out} holds no sample shop; make one: shoal sample --out {out}")
    return date.fromisoformat(json.loads((Path(out) / "truth/truth.json").read_text())["last_day"])


def _is_shop(folder: Path) -> bool:
    return (folder / "truth/truth.json").is_file()


def _write_files(folder: Path, customers: int, days: int, seed: int, last_day: date, undecodable: bool, plants: Plants) -> None:
    first_day = last_day - timedelta(days=days - 1)
    shop, truth = open_shop(customers, days, seed, first_day, plants), Truth(seed)
    write_text(folder / "products.csv", PRODUCT_HEADER, list_products(shop.products, first_day))
    truth.rows["products"] = N_PRODUCTS
    events, orders = files.Deliveries(EVENT), files.Deliveries(ORDER)
    for offset in range(days):
        day = first_day + timedelta(days=offset)
        rng = np.random.default_rng((seed, 2, day.toordinal()))
        joined, moved = shop.customers.advance(rng, offset)
        files.write_customers(folder, day, shop, joined, moved, truth)
        _write_rates(folder, day, truth)
        _draw_day(rng, shop, day, offset, events, orders, truth)
        files.write_events(folder, day, shop, events.take(day), truth, undecodable and day == last_day)
        files.write_orders(folder, day, shop, orders.take(day), truth)
    parameters = {"customers": customers, "days": days, "seed": seed}
    truth.write(folder / "truth", shop.customers.list_groups(days - 1), parameters, first_day, last_day)


def _draw_day(
    rng: np.random.Generator,
    shop: Shop,
    day: date,
    offset: int,
    events: files.Deliveries,
    orders: files.Deliveries,
    truth: Truth,
) -> None:
    """Add what happens on a day to the events and orders that are to be delivered."""
    purchases, visit_events = draw_visits(rng, shop, day, offset)
    events.add(plant_event_defects(rng, visit_events))
    robots, people = draw_robots(rng, shop, day), draw_robot_like_people(shop, day)
    truth.add_robots(robots, people)
    for parts, first_id in ((robots, FIRST_ROBOT_ID), (people, FIRST_PEOPLE_ID)):
        rows = concatenate_rows([rows for _, rows in parts], EVENT)
        events.add([(assign_event_ids(rows, day, first_id), rows["time"] // DAY_MS)])
    orders.add(plant_order_defects(rng, draw_sales(rng, shop, purchases, day), shop, day))


def _write_rates(folder: Path, day: date, truth: Truth) -> None:
    rates = draw_rates(day, truth.seed)
    lines = [f"{day},{currency},{rate / UNITS_PER_RATE:.4f}" for currency, rate in rates.items()]
    write_text(folder / f"rates-{day}.csv", RATE_HEADER, lines)
    truth.rows["rates"] += len(lines)
