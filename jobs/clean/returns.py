"""clean.returns: one row per return or cancellation line and the order line it is matched to.

A return that names an order is matched to lines of that order. Another is matched to the latest earlier line of the same
customer, product and price with pieces left, then to the line before. A return without such a line has a row of its own,
on its own day (rule `unmatched`). Returns count on the day they happened: this table is the view by refund date,
clean.orders the view by order date.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.storage.table import Table

SCHEMA = """
    return_order_id STRING NOT NULL COMMENT 'the return or credit note',
    return_line_no INT NOT NULL COMMENT 'its line',
    day DATE NOT NULL COMMENT 'day of the return, UTC',
    returned_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    customer_id STRING COMMENT 'customer; null for an unknown guest',
    product_id STRING NOT NULL COMMENT 'product; what the line is where it is none and has no code',
    line_kind STRING NOT NULL COMMENT 'product, postage or fee',
    category STRING COMMENT 'category of the product',
    kind STRING NOT NULL COMMENT 'return or cancellation',
    unit_price DECIMAL(18,4) NOT NULL COMMENT 'price of one, in the currency beside it',
    currency STRING NOT NULL COMMENT 'currency of unit_price',
    is_guest BOOLEAN NOT NULL COMMENT 'came without a customer id',
    undoes_order_id STRING COMMENT 'order the source says it undoes',
    quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces given back on this row',
    amount DECIMAL(18,4) NOT NULL COMMENT 'money given back on this row, home currency',
    order_id STRING COMMENT 'order undone; null where no line was found',
    line_no INT COMMENT 'its line',
    order_day DATE COMMENT 'day of that order',
    rule STRING NOT NULL COMMENT 'by_order, by_price or unmatched'"""
TABLE = Table("clean.returns", __doc__.split("\n\n")[0], SCHEMA, None, {"positive": "quantity > 0"})

# What matching needs to know of an order line and of a return line.
_ENTRY = (
    "key", "at", "is_return", "order_id", "line_no", "day", "customer_id", "product_id", "line_kind", "category", "kind",
    "unit_price", "currency", "is_guest", "undoes_order_id", "quantity", "amount",
)  # fmt: skip
_CENT = Decimal("0.0001")


def match_key() -> Column:
    """Return the key within which returns are matched: a customer and product, or a guest's order and product."""
    who = F.coalesce(F.concat(F.lit("c|"), "customer_id"), F.concat(F.lit("o|"), F.coalesce("undoes_order_id", "order_id")))
    return F.concat_ws("|", who, "product_id")


def returns(lines: DataFrame, returned: DataFrame) -> DataFrame:
    """Return clean.returns for these order lines and return lines, both with the columns of `_ENTRY`."""
    both = (
        lines.where("line_kind <> 'discount'")
        .withColumn("is_return", F.lit(False))
        .unionByName(returned.withColumn("is_return", F.lit(True)))
    )
    in_order = both.select(*_ENTRY).repartition("key").sortWithinPartitions("key", "at", "is_return", "order_id", "line_no")
    ddl = ", ".join(part.split(" COMMENT")[0].replace(" NOT NULL", "").strip() for part in SCHEMA.split(",\n"))
    return in_order.mapInArrow(_match_batches, ddl)


def _match_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = (row for batch in batches for row in batch.to_pylist())
    for _, group in groupby(rows, key=lambda row: row["key"]):
        found = list(match_returns(list(group)))
        if found:
            table = pa.Table.from_pylist([dict(zip(TABLE.columns, row, strict=True)) for row in found], schema=_arrow_schema())
            yield from table.to_batches()


def match_returns(entries: list[dict]) -> Iterator[tuple]:
    """Match the returns of one key to its order lines, all in order of time; yield the rows of clean.returns.

    >>> line = dict(order_id="1", line_no=1, day="d1", at=1, is_return=False, unit_price=Decimal(2), currency="GBP",
    ...             quantity=Decimal(5), amount=None, undoes_order_id=None)
    >>> back = dict(line, order_id="C1", at=2, day="d2", is_return=True, quantity=Decimal(7), amount=Decimal(14),
    ...             customer_id="a", product_id="p", line_kind="product", category=None, kind="return", is_guest=False)
    >>> [(row[0], int(row[13]), float(row[14]), row[15], row[18]) for row in match_returns([line, back])]
    [('C1', 5, 10.0, '1', 'by_price'), ('C1', 2, 4.0, None, 'unmatched')]
    """
    open_lines: list[dict] = []
    left: dict[tuple, Decimal] = {}
    for entry in entries:
        if not entry["is_return"]:
            open_lines.append(entry)
            left[entry["order_id"], entry["line_no"], entry["day"]] = entry["quantity"]
            continue
        named = entry["undoes_order_id"]
        rest, money = entry["quantity"], entry["amount"]
        for line in reversed(open_lines):
            if rest <= 0:
                break
            id_ = (line["order_id"], line["line_no"], line["day"])
            same_price = (line["unit_price"], line["currency"]) == (entry["unit_price"], entry["currency"])
            if left[id_] <= 0 or not (line["order_id"] == named if named else same_price):
                continue
            pieces = min(rest, left[id_])
            amount = money if pieces == rest else (entry["amount"] * pieces / entry["quantity"]).quantize(_CENT)
            left[id_] -= pieces
            rest -= pieces
            money -= amount
            yield _row(entry, pieces, amount, line, "by_order" if named else "by_price")
        if rest > 0:
            yield _row(entry, rest, money, None, "unmatched")


def _row(entry: dict, quantity: Decimal, amount: Decimal, line: dict | None, rule: str) -> tuple:
    line = line or {"order_id": None, "line_no": None, "day": None}
    return (
        entry["order_id"], entry["line_no"], entry["day"], entry["at"], entry["customer_id"], entry["product_id"],
        entry["line_kind"], entry["category"], entry["kind"], entry["unit_price"], entry["currency"], entry["is_guest"],
        entry["undoes_order_id"], quantity, amount, line["order_id"], line["line_no"], line["day"], rule,
    )  # fmt: skip


def _arrow_schema() -> pa.Schema:
    money, moment = pa.decimal128(18, 4), pa.timestamp("us", tz="UTC")
    kinds = {"INT": pa.int32(), "DATE": pa.date32(), "TIMESTAMP": moment, "BOOLEAN": pa.bool_(), "DECIMAL(18,4)": money}
    parts = [part.split() for part in SCHEMA.strip().split(",\n")]
    return pa.schema([(part[0], kinds.get(part[1], pa.string())) for part in parts])
