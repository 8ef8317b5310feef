"""The catalogue of products: categories, brands, prices in each currency, and what people type to find them."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jobs.sample.currencies import CURRENCIES, HOME_CURRENCY, PRICE_FACTORS, SEK
from jobs.sample.customer_types import cumulate_category_shares
from jobs.sample.rows import ADJUSTMENT, DISCOUNT, FEE, GIFT_CARD, POSTAGE
from jobs.sample.tastes import TASTES, WORDS, find_title_words
from jobs.sample.text_columns import to_decimals


class Category(NamedTuple):
    """One category of the catalogue."""

    path: str  # department > category
    brands: tuple[str, str]
    mean_price: int  # pounds
    nouns: tuple[str, str, str]  # what its products are


CATEGORIES = (
    Category("Food > Coffee", ("Kestrel", "Morrow"), 9, ("coffee beans", "espresso", "decaf")),
    Category("Food > Tea", ("Morrow", "Tamsin"), 7, ("earl grey", "green tea", "loose leaf tea")),
    Category("Home > Kitchen", ("Pellworm", "Aldgate"), 24, ("pan", "chef knife", "kitchen scale")),
    Category("Home > Cleaning", ("Aldgate", "Suds"), 6, ("soap", "sponge", "bleach")),
    Category("Gifts > Toys", ("Bobbin", "Larch"), 28, ("wooden train", "puzzle", "teddy")),
    Category("Gifts > Candles", ("Wick", "Tamsin"), 18, ("candle", "scented candle", "tea lights")),
    Category("Gifts > Jewellery", ("Larch", "Orrery"), 65, ("silver ring", "necklace", "earrings")),
    Category("Gifts > Books", ("Folio", "Quire"), 15, ("cook book", "atlas", "novel")),
    Category("Fashion > Shoes", ("Stride", "Pellworm"), 55, ("trainers", "boots", "sandals")),
    Category("Fashion > Bags", ("Stride", "Orrery"), 42, ("rucksack", "tote bag", "wallet")),
    Category("Office > Paper", ("Quire", "Ledger"), 5, ("a4 paper", "envelopes", "notebook")),
    Category("Office > Furniture", ("Ledger", "Aldgate"), 120, ("desk", "office chair", "shelf")),
)
CATEGORY_SHARES = cumulate_category_shares(len(CATEGORIES))
LINES_PER_CATEGORY = 10
DESIGNS_PER_LINE = len(TASTES)  # of the same brand and price, one for each taste
PRODUCTS_PER_CATEGORY = LINES_PER_CATEGORY * DESIGNS_PER_LINE
N_LINES = LINES_PER_CATEGORY * len(CATEGORIES)
N_PRODUCTS = PRODUCTS_PER_CATEGORY * len(CATEGORIES)
NO_PRICE_SHARE = 0.04  # of the products
NOUNS_PER_CATEGORY = 3
TERMS_PER_NOUN = 1 + len(WORDS)  # the search term alone, and after each word of a taste
FIRST_ODD_TERM = NOUNS_PER_CATEGORY * TERMS_PER_NOUN * len(CATEGORIES)
ODD_TERMS = (
    "cofee beens",
    "wodden trian",
    "xqzt",
    "crème brûlée set",
    "mug\u0007",
    "\u0001desk",
    "schlüssel 🔑",
    "tea\tset",
)
CONTROL_TERMS = (4, 5, 7)  # positions of the odd terms with a control character
# What people type to find a noun, where that is not the noun.
TERMS = {"sponge": "sponge, large", "novel": 'the "best" novel', "trainers": "trainers sale", "wallet": "wallet sale"}
_PREFIXES = ("", *(f"{word} " for word in WORDS))
SEARCH_TERMS = (
    *(prefix + TERMS.get(noun, noun) for category in CATEGORIES for noun in category.nouns for prefix in _PREFIXES),
    *ODD_TERMS,
)
# Codes of order lines that sell no product, numbered after the products.
NON_PRODUCT_SKUS = ("GIFT-50", "POSTAGE", "WRAPPING", "VOUCHER", "LEDGER")
NON_PRODUCT = {kind: N_PRODUCTS + n for n, kind in enumerate((GIFT_CARD, POSTAGE, FEE, DISCOUNT, ADJUSTMENT))}

PRODUCT_HEADER = "sku,title,maker,dept,list_price,ccy,added_on"


@dataclass(frozen=True)
class Products:
    """The products of a shop; a product is its position."""

    prices: np.ndarray  # currencies x products, hundredths of the currency
    price_texts: pa.Array  # of all prices, currency by currency
    has_price: np.ndarray  # whether the catalogue lists a price
    skus: pa.Array
    categories: pa.Array  # path of the category


def draw_products(seed: int) -> Products:
    """Return the shop's products with prices around the mean of their category."""
    rng = np.random.default_rng((seed, 3))
    prices = np.empty((len(CURRENCIES), N_PRODUCTS), dtype="i8")
    means = np.repeat([category.mean_price for category in CATEGORIES], LINES_PER_CATEGORY)
    pounds = np.repeat(means * np.exp(0.5 * rng.standard_normal(N_LINES)), DESIGNS_PER_LINE)
    for currency, factor in enumerate(PRICE_FACTORS):
        prices[currency] = np.maximum(np.round(pounds * factor), 1) * 100 - (0 if currency == SEK else 1)
    return Products(
        prices=prices,
        price_texts=pa.array(to_decimals(prices.ravel()), pa.string()),
        has_price=rng.random(N_PRODUCTS) >= NO_PRICE_SHARE,
        skus=pa.array([f"{n // PRODUCTS_PER_CATEGORY + 10}-{n % PRODUCTS_PER_CATEGORY:03}" for n in range(N_PRODUCTS)]),
        categories=pa.array([CATEGORIES[n // PRODUCTS_PER_CATEGORY].path for n in range(N_PRODUCTS)]),
    )


def find_product(category: np.ndarray, line: np.ndarray, taste: np.ndarray) -> np.ndarray:
    """Return the product that is the design for a taste of a line of a category."""
    return category * PRODUCTS_PER_CATEGORY + line * DESIGNS_PER_LINE + taste


def find_term(product: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Return the term by which people search for a product: after a word, a position in WORDS, or alone where that is -1."""
    category, line = product // PRODUCTS_PER_CATEGORY, product % PRODUCTS_PER_CATEGORY // DESIGNS_PER_LINE
    return (category * NOUNS_PER_CATEGORY + line % NOUNS_PER_CATEGORY) * TERMS_PER_NOUN + 1 + word


def list_products(products: Products, first_day: date) -> list[str]:
    """Return the lines of products.csv, one per product."""
    lines = []
    for n, sku in enumerate(products.skus.to_pylist()):
        number, line, design = n // PRODUCTS_PER_CATEGORY, n % PRODUCTS_PER_CATEGORY // DESIGNS_PER_LINE, n % DESIGNS_PER_LINE
        category = CATEGORIES[number]
        brand, noun = category.brands[line % 2], category.nouns[line % NOUNS_PER_CATEGORY]
        title = " ".join([*find_title_words(number, line, design), noun]).title()
        price = f"{products.prices[0, n] / 100:.2f}" if products.has_price[n] else ""
        added = first_day - timedelta(days=30 + n * 7 % 900)
        lines.append(f"{sku},{title},{brand},{category.path},{price},{HOME_CURRENCY},{added}")
    return lines
