"""features.customer_days: one row per customer, day, and days from and until which this is known of that day.

Inputs: clean.events without robots, clean.orders by order date, clean.returns by refund date. The columns are the
daily aggregates of jobs/catalogue/, all of which can be merged: a refresh computes the days that changed and reads the rest.

`identified_on` is later than the day where a visitor's earlier events got their customer only later, and where a session
went on after midnight: as of a day before that, the customer does not have them. A later row holds the difference to the
earlier rows, so that the rows known by a day add up to what was known on that day.

`known_until` ends two things. Events of a device count until it was known to be shared by too many customers; a row of its
own has what is left. An order counts until all its products were cancelled; its money stays on its day, and the money
given back on the day of that.
"""

from collections.abc import Collection
from datetime import date, timedelta
from functools import reduce

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs import catalogue
from jobs.catalogue import DailyAggregate
from jobs.config.settings import Settings
from jobs.features import _holidays
from jobs.features._minor_units import from_minor_units, from_sum, to_minor_units, to_summand
from jobs.quality import reconciliation
from jobs.storage.lake import Lake, union_all
from jobs.storage.table import Table

_KEYS = ["customer_id", "day", "identified_on", "known_until"]
FOREVER = date(9999, 12, 31)
_SCALAR = [p for p in catalogue.DAILY_AGGREGATES if p.operation != "histogram"]
_HISTOGRAMS = [p for p in catalogue.DAILY_AGGREGATES if p.operation == "histogram"]


def _declared(aggregate: DailyAggregate) -> str:
    required = " NOT NULL" if aggregate.operation == "sum" else ""
    return f"{aggregate.name} {aggregate.sql_type}{required} COMMENT '{aggregate.meaning}'"


SCHEMA = ",\n    ".join(
    [
        "customer_id STRING NOT NULL COMMENT 'customer'",
        "day DATE NOT NULL COMMENT 'day, UTC'",
        "identified_on DATE NOT NULL COMMENT 'day from which this is known of the day'",
        "known_until DATE NOT NULL COMMENT 'day from which it no longer holds: a device shared by too many, an order cancelled; "
        "9999-12-31 for what stays'",
        *map(_declared, catalogue.DAILY_AGGREGATES),
    ]
)
TABLE = Table(
    "features.customer_days", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"adds_up": "net = gross - discount - returned", "known_later": "identified_on >= day AND known_until > identified_on"},
)  # fmt: skip
_VERSION = 5  # raise it when the same clean rows become other daily aggregates: every day is then due again


def customer_days(events: DataFrame, orders: DataFrame, returns: DataFrame, holidays: Collection[date]) -> DataFrame:
    """The daily aggregates of every customer and day in these clean tables; `holidays` are the shop's public ones."""
    ours, lines = _known(events.where("NOT is_bot")), _lines(orders)
    products = lines.where("line_kind = 'product' AND known_until > day")
    added = [_session_parts(ours), _search_hits(ours), _orders(lines, holidays), _returns(returns)]
    together = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), added)
    scalars = together.groupBy(*_KEYS).agg(*(_merge_aggregates(p) for p in _SCALAR if p.source != "row"))
    # whoever has a value has the event or the order that it is of
    rows = scalars.join(_value_counts({"event": ours, "product": products}), _KEYS, "left")
    for aggregate in _select_aggregates("row"):
        rows = rows.withColumn(aggregate.name, F.expr(aggregate.sql).cast(aggregate.sql_type))
    return rows.select(*TABLE.columns)


def _known(events: DataFrame) -> DataFrame:
    """Events with a customer, and from when until when they were known to be theirs: of a shared visitor before and after."""
    alone = events.where("shared_since IS NULL AND customer_id IS NOT NULL").withColumn("known_until", F.lit(FOREVER))
    known = ("customer_id", "identified_on", "known_until")
    former = (F.coalesce("customer_id", "former_customer_id"), F.col("identified_on"), F.col("shared_since"))
    since = (F.col("customer_id"), F.greatest("identified_on", "shared_since"), F.lit(FOREVER))
    before, after = (F.struct(*(value.alias(n) for n, value in zip(known, row, strict=True))) for row in (former, since))
    both = F.array(F.when(F.col("identified_on") < F.col("shared_since"), before), after)
    # apart, as the files of a day without shared visitors show that this part of it is empty
    shared = (
        events.where("shared_since IS NOT NULL").withColumn("_known", F.explode(both)).where("_known.customer_id IS NOT NULL")
    )
    return alone.unionByName(shared.withColumns({name: F.col(f"_known.{name}") for name in known}).drop("_known"))


def _for_good(rows: DataFrame) -> DataFrame:
    """Rows that are known on their day, as the day's own."""
    return rows.withColumns({"identified_on": F.col("day"), "known_until": F.lit(FOREVER)})


def _select_aggregates(source: str) -> list[DailyAggregate]:
    return [p for p in _SCALAR if p.source == source]


def _only_where(condition: str, aggregates: list[DailyAggregate]) -> list[DailyAggregate]:
    return [p._replace(sql=f"CASE WHEN {condition} THEN {p.sql} END") for p in aggregates]


def _aggregate_rows(aggregates: list[DailyAggregate]) -> list[Column]:
    """These aggregates out of the rows of their source."""
    return [getattr(F, p.operation)(F.expr(p.sql)).cast(p.sql_type).alias(p.name) for p in aggregates]


def _aggregates_per_row(aggregates: list[DailyAggregate]) -> list[Column]:
    """These aggregates out of one row of their source, to be brought together later, sums of money in ten-thousandths."""
    return [to_summand(p, F.expr(p.sql).cast(p.sql_type)).alias(p.name) for p in aggregates]


def _merge_aggregates(aggregate: DailyAggregate) -> Column:
    """Return a daily aggregate out of what several rows have of it."""
    value = getattr(F, aggregate.operation)(aggregate.name)
    if aggregate.operation == "sum":
        value = F.coalesce(value, F.lit(0))
    return from_sum(aggregate, value).cast(aggregate.sql_type).alias(aggregate.name)


def _session_parts(ours: DataFrame) -> DataFrame:
    """Per session: its events on the day they happened, and what each day of knowing them changed on the day it began."""
    counts = [p.name for p in _select_aggregates("event")]
    parts = ours.groupBy(*_KEYS, "session_id", F.to_date("session_started_at").alias("_began")).agg(
        *_aggregate_rows(_select_aggregates("event")),
        F.unix_seconds(F.min("event_at")).alias("_first"),
        F.unix_seconds(F.max("event_at")).alias("_last"),
    )
    in_order = Window.partitionBy("customer_id", "session_id", "known_until").orderBy("identified_on", "day")
    so_far = parts.select(
        *_KEYS, "session_id", "_began", F.struct(*counts).alias("_added"),
        *(F.sum(name).over(in_order).alias(name) for name in counts),
        (F.max("_last").over(in_order) - F.min("_first").over(in_order)).alias("seconds"),
    )  # fmt: skip
    states = so_far.withColumns({f"_{p.name}": F.expr(p.sql) for p in _select_aggregates("session")})
    change = {
        p.name: F.col(f"_{p.name}") - F.coalesce(F.lag(f"_{p.name}").over(in_order), F.lit(0))
        for p in _select_aggregates("session")
    }
    # a session and its events are of one day, unless it went on after midnight
    days = F.when(F.col("_began") == F.col("day"), F.array("day")).otherwise(F.array("day", "_began"))
    split = states.withColumns(change).withColumn("_day", F.explode(days))
    return split.select(
        "customer_id", F.col("_day").alias("day"), "identified_on", "known_until",
        *(F.when(F.col("_day") == F.col("day"), F.col(f"_added.{name}")).alias(name) for name in counts),
        *(F.when(F.col("_day") == F.col("_began"), F.col(name)).alias(name) for name in change),
    )  # fmt: skip


def _search_hits(ours: DataFrame) -> DataFrame:
    """Searches that led to a product, known when the earliest stretch of views and cart adds that ends after them is.

    A stretch is no longer than a hit may take: a search is one where a stretch that ends with it or later begins in time.
    """
    session = ["customer_id", "session_id", "known_until"]
    led_on = F.expr("event_type = 'add_to_cart' OR event_type = 'view' AND product_id IS NOT NULL")
    stretch = F.expr(f"unix_seconds(event_at) div {catalogue.SEARCH_HIT_MINUTES * 60}")
    stretches = ours.where(led_on).groupBy(*session, "identified_on", stretch.alias("_nth")).agg(
        F.struct(F.min("event_at").alias("begins_at"), F.col("identified_on").alias("known_on")).alias("_stretch"),
        F.max("event_at").alias("event_at"),
    )  # fmt: skip
    searches = ours.where("event_type = 'search'").select(*_KEYS, "session_id", "event_at")
    both = searches.unionByName(stretches.drop("identified_on", "_nth"), allowMissingColumns=True)
    from_the_end = Window.partitionBy(*session).orderBy(F.desc("event_at"))  # with all of the same moment
    followed = both.withColumn("_next", F.min("_stretch").over(from_the_end)).where("_stretch IS NULL")
    in_time = F.col("_next.begins_at") <= F.col("event_at") + F.expr(f"INTERVAL {catalogue.SEARCH_HIT_MINUTES} MINUTES")
    hits = followed.where(in_time).withColumn("identified_on", F.greatest("identified_on", "_next.known_on"))
    return hits.select(*_KEYS, *_aggregates_per_row(_select_aggregates("search")))


def _lines(orders: DataFrame) -> DataFrame:
    """Order lines with the day on which all products of their order were cancelled."""
    order = Window.partitionBy("customer_id", "day", "order_id")
    is_product = F.col("line_kind") == "product"
    whole = F.every(~is_product | (F.col("status") == "cancelled")).over(order)
    last = F.max(F.when(is_product, F.to_date("returned_at"))).over(order)
    lines = _for_good(orders.where("customer_id IS NOT NULL AND quantity > 0"))
    return lines.withColumn("known_until", F.coalesce(F.when(whole, last), "known_until"))


def _orders(lines: DataFrame, holidays: Collection[date]) -> DataFrame:
    """What each order adds to its day."""
    of_products = _only_where("line_kind = 'product'", _select_aggregates("product"))
    by_order = lines.groupBy(*_KEYS, "order_id").agg(
        *_aggregate_rows([*_select_aggregates("line"), *of_products]),
        F.max(F.col("line_kind") != "discount").alias("_is_order"),
        F.sum("gross_amount").alias("gross_amount"),
        F.sum("discount_amount").alias("discount_amount"),
        F.min("ordered_at").alias("ordered_at"),
    )
    until = F.explode(F.array_distinct(F.array("known_until", F.lit(FOREVER))))
    split = by_order.select("*", until.alias("_until"), F.col("day").isin(*holidays).alias("before_holiday"))
    summed = {source: [p._replace(sql=p.name) for p in _select_aggregates(source)] for source in ("line", "product")}
    return split.where("_until > day").select(
        *_KEYS[:-1], F.col("_until").alias("known_until"),
        *_aggregates_per_row(_only_where(f"_until = DATE'{FOREVER}'", summed["line"])),
        *_aggregates_per_row(_only_where("_until = known_until", summed["product"])),
        *_aggregates_per_row(_only_where("_until = known_until AND _is_order", _select_aggregates("order"))),
    )  # fmt: skip


def _returns(returns: DataFrame) -> DataFrame:
    """What each return line adds to its day."""
    returned = _for_good(returns.where("customer_id IS NOT NULL"))
    by_line = returned.groupBy(*_KEYS, "return_order_id", "return_line_no").agg(
        F.sum("amount").alias("amount"), F.max("kind").alias("kind")
    )
    return by_line.select(*_KEYS, *_aggregates_per_row(_select_aggregates("return")))


def _value_counts(sources: dict[str, DataFrame]) -> DataFrame:
    """The histograms, by customer, day and day from which it is known. Every source is read once."""
    found = []
    for source, rows in sources.items():
        ours = [p for p in _HISTOGRAMS if p.source == source]
        each = [
            F.struct(
                F.lit(p.name).alias("histogram"), F.expr(p.sql).alias("thing"), to_minor_units(F.expr(p.amount)).alias("amount")
            )
            for p in ours
        ]
        has_any = reduce(Column.__or__, (F.expr(p.sql).isNotNull() for p in ours))
        found.append(rows.where(has_any).select(*_KEYS, F.inline(F.array(*each))).where("thing IS NOT NULL"))
    added = union_all(found).groupBy(*_KEYS, "histogram", "thing").agg(from_minor_units(F.sum("amount")).alias("amount"))
    lists = {p.name: F.collect_list(F.when(F.col("histogram") == p.name, F.struct("thing", "amount"))) for p in _HISTOGRAMS}
    return added.groupBy(*_KEYS).agg(
        *(F.when(F.size(values) > 0, F.array_sort(values)).alias(name) for name, values in lists.items())
    )


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Bring the daily aggregates up to date for `days` and for every earlier day whose clean rows have changed."""
    reach = range(-(-settings.clean.session_max_hours // 24) + 1)  # a session may go on for so many days
    of_events, of_orders = (reconciliation.read_revisions(lake, table) for table in ("clean.events", "clean.orders"))
    known = {day for day in {*of_events, *of_orders} if day <= days[-1]}
    holidays = _holidays.days_near_holidays(settings.features.holiday_country, known)
    inputs = {
        day: reconciliation.fingerprint_inputs(
            _VERSION, of_orders.get(day, ""), day in holidays, *(of_events.get(_after(day, n), "") for n in reach)
        )
        for day in known
    }
    due = reconciliation.due_days(lake, TABLE.name, inputs, days)
    if not due:
        return
    of_due = sorted({_after(day, n) for day in due for n in reach})
    lake.set_shuffle_partitions(lake.count_rows("clean.events", set(of_due)))
    events = _of_days(lake, "events", of_due)
    aggregates = customer_days(events, _of_days(lake, "orders", due), _of_days(lake, "returns", due), holidays)
    lake.replace_days(TABLE, aggregates.where(F.col("day").isin(*due)), due)
    rows = lake.count_by(TABLE.name, ["day"], ds.field("day").isin(due))
    accounts = [reconciliation.Account(d, rows[d,], rows[d,], inputs[d]) for d in due]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _after(day: date, days: int) -> date:
    return day + timedelta(days=days)


def _of_days(lake: Lake, table: str, days: list[date]) -> DataFrame:
    return lake.read(f"clean.{table}", days[0], days[-1]).where(F.col("day").isin(*days))
