"""`shoal reconcile`: what became of the rows and of the money of some days, read without Spark."""

from collections import Counter
from datetime import date
from decimal import Decimal

from jobs.cli.text_table import align_columns
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.progress import format_days
from jobs.quality.reconciliation import NOT_KEPT
from jobs.report.data_quality import summarize_reconciliation
from jobs.report.formatting import format_count, format_money
from jobs.storage.currency import read_currency
from jobs.storage.delta import read_arrow, sum_by

FIGURES = {
    "rows_in": "rows in",
    "rows_out": "rows out",
    "rejects": "refused",
    "duplicates": "repeated",
    "difference": "unaccounted",
}
ALARMS = {
    "uncounted_over_return": "alarm: {:,.2f} were said to be given back beyond what was sold (clean.returns, rule over_return)",
    "uncounted_over_discount": "alarm: {:,.2f} of discounts are more than their orders cost, and do not count",
    "differing_order_amounts": "alarm: {:,.0f} orders state an amount of the order differently on their rows; it was added up",
}
MONEY_HEAD = ["day", "came in", "refused", "repeated", "uncounted", "gross", "discounts", "returns", "net", "given back"]


def print_reconciliation(settings: Settings, days: list[date]) -> None:
    """Print what became of the rows of `days`; raises UserError where rows or money are unaccounted for."""
    text, differences = format_reconciliation(settings, days)
    print(text)
    if differences:
        more = f" and {len(differences) - 1} more" if differences[1:] else ""
        raise UserError(f"reconcile: {differences[0]}{more}: rows or money unaccounted for; look at quality.reconciliation")


def format_reconciliation(settings: Settings, days: list[date]) -> tuple[str, list[str]]:
    """Return what became of the rows of `days` as tables, by table and by rule; and the tables and days with a difference.

    Raises UserError where none of the days was cleaned.
    """
    all_rows = read_arrow(settings.lake, "quality.reconciliation").to_pylist()
    rows = [row for row in all_rows if row["day"] in set(days)]
    if not rows:
        raise UserError(
            f"reconcile: quality.reconciliation in {settings.lake} has no rows for {format_days(days)};"
            f" run first: shoal clean --day {days[-1]}"
        )
    summary = summarize_reconciliation(rows, days[-1])
    tables = [[table, *(format_count(counts["all"][name]) for name in FIGURES)] for table, counts in summary["tables"]]
    rules = [
        [table, FIGURES[kind], rule, format_count(n["all"]), format_money(_sum_measure(rows, table, f"{FIGURES[kind]}_{rule}"))]
        for (table, kind, rule), n in summary["rules"]
    ]
    parts = [f"{format_days(days)}, days with rows: {summary['n_days']}", ""]
    parts += align_columns([["table", *FIGURES.values()], *tables], left={0})
    if rules:
        parts += ["", *align_columns([["table", "what", "rule", "rows", "money"], *rules], left={0, 1, 2})]
    money_lines, money_differences = _format_money_by_day(settings, [row for row in rows if row["table"] == "clean.orders"])
    differences = [f"{table}, day {day}" for table, day in sorted((r["table"], r["day"]) for r in rows if r["difference"])]
    return "\n".join(parts + money_lines), differences + money_differences


def _sum_measure(rows: list[dict], table: str, name: str) -> Decimal | None:
    """Return the sum of a measure over the rows of a table; None where it has none."""
    measures = [dict(row["measures"] or []) for row in rows if row["table"] == table]
    values = [row[name] for row in measures if name in row]
    return sum(values) if values else None


def _format_money_by_day(settings: Settings, rows: list[dict]) -> tuple[list[str], list[str]]:
    """Return what came in and what became of it by day, as lines; and the days with a difference.

    Taken from the tables themselves, because a later return changes the amounts at the day of its order.
    """
    columns = ["gross_amount", "discount_amount", "returned_amount", "net_amount"]
    sold = sum_by(settings.lake, "clean.orders", ["day"], columns)
    refunded: Counter = Counter()  # by the day of the refund
    returned: Counter = Counter()  # by the day of the order
    for (day, order_day), (amount,) in sum_by(settings.lake, "clean.returns", ["day", "order_day"], ["amount"]).items():
        refunded[day] += amount
        returned[order_day or day] += amount
    lines, totals, differences = [], [Decimal(0)] * 9, []
    for row in sorted(rows, key=lambda row: row["day"]):
        day, measures = row["day"], dict(row["measures"] or [])
        gross, discounts, returns, net = sold.get((day,), [Decimal(0)] * 4)
        left_out = [sum(v for name, v in measures.items() if name.startswith(kind)) for kind in NOT_KEPT]
        figures = [measures.get("amount", 0), *left_out, gross, discounts, returns, net, refunded[day]]
        totals = [a + b for a, b in zip(totals, figures, strict=True)]
        lines.append([str(day), *map(format_money, figures)])
        adds_up = gross - discounts - returns == net and returns == returned[day]
        if measures.get("unaccounted") or not adds_up:
            differences.append(f"clean.orders, day {day}, money")
    if not lines:
        return [], differences
    lines += [["in all", *map(format_money, totals)]] if lines[1:] else []
    note = f"money in {read_currency(settings.lake)}: returns by the day of their order, given back by the day of refund"
    return ["", note, "", *align_columns([MONEY_HEAD, *lines], left={0}), *_describe_alarms(rows)], differences


def _describe_alarms(rows: list[dict]) -> list[str]:
    """Return a line for each kind of money that contradicts what was sold, or of orders whose rows do."""
    sums: Counter = Counter()
    for row in rows:
        sums.update({name: value for name, value in row["measures"] or [] if name in ALARMS})
    return [ALARMS[name].format(abs(sums[name])) for name in ALARMS if sums[name]]
