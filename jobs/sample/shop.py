"""The state of the shop that the files of a day are drawn from."""

from dataclasses import dataclass
from datetime import date

from jobs.sample.customers import Customers, Plants
from jobs.sample.products import Products, draw_products


@dataclass(frozen=True)
class Shop:
    """The customers and products of one seed; `customers` advances day by day."""

    seed: int
    first_day: date
    customers: Customers
    products: Products


def open_shop(customers: int, days: int, seed: int, first_day: date, plants: Plants) -> Shop:
    """Return the shop on its first day, with `customers` known customers."""
    return Shop(seed, first_day, Customers(customers, days, seed, first_day, plants), draw_products(seed))
