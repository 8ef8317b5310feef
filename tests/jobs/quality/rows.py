"""Good and bad rows of every checked table."""

import importlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
from deltalake import write_deltalake

from jobs import flow
from jobs.quality import results, validation
from jobs.quality._names import KEY_COUNT

DAY = date(2024, 3, 5)
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
NIGHT = NOON + timedelta(hours=10)
NAMES = [f"{layer}.{table}" for layer, tables in flow.CHECKED_TABLES.items() for table in tables]

# A good row of each table, where a value is not the default of its type.
GOOD = {
    "clean.events": {"event_type": "view", "bot_rule": None, "currency": "GBP", "event_at": NIGHT},
    "clean.sessions": {"n_searches": 0, "n_cart_adds": 0, "n_checkouts": 0, "n_purchases": 0},
    "clean.orders": {
        "status": "placed", "price_source": "line", "line_kind": "product", "currency": "GBP", "quantity": 2,
        "unit_price": 3, "gross_amount": 6, "discount_amount": 1, "net_amount": 5,
        "returned_quantity": 0, "returned_amount": 0, "returned_at": None, "known_until": date.max,
    },
    "clean.returns": {"kind": "return", "line_kind": "product", "rule": "by_order", "currency": "GBP", "over_amount": 0},
    "clean.visitor_days": {"seen": []},
    "clean.identities": {"rule": "seen", "valid_to": LATER},
    "clean.identity_alarms": {"rule": "shared_visitor"},
    "clean.identity_days": {"named_in": "orders"},
    "clean.products": {"currency": "GBP", "price_rule": "listed"},
    "features.customer_days": {
        "net": 7, "gross": 10, "discount": 2, "returned": 1, "events": 9, "known_until": date(9999, 12, 31),
    },
    "features.event_sequences": {"n_events": 1, "known_until": date.max},
    "encoded.sequences": {"vector": [0.6, 0.8], "n_events": 1, "model_version": "v1"},
    "features.customers": {"is_active": True, "vector": [1.0, None, 3.0]},
    "features.outcomes": {"known_on": DAY + timedelta(days=30)},
    "features.item_days": {"kind": "view", "known_until": date(9999, 12, 31)},
    "features.texts": {"kind": "search", "vector": [0.6, 0.8]},
    "features.vectors": {"kind": "product", "vector": [1.0, 2.0]},
    "features.interests": {"input_group": "text", "vector": [1.0, 2.0]},
    "encoded.customers": {"is_active": True, "vector": [1.0, 2.0], "model_version": "v1"},
    "scores.recommendations": {"method": "als"},
    "marts.customer_segments": {"reasons": ["many orders"], "confidence": 0.5, "reasons_hold": True},
    "marts.segment_profiles": {"share": 0.6, "traits": None},
    "marts.segment_changes": {"change": "changed", "to_segment_id": 2},
    "marts.segment_moves": {"to_segment_id": 2, "previous_day": DAY - timedelta(days=1)},
    "marts.segment_demand": {"orders": 2},
    "marts.effects": {"metric": "orders", "status": "effect"},
    "marts.campaign_uplift": {"method": "two_model"},
    "marts.refreshes": {"status": "published", "n_customers": 2, "table_versions": {"clean.orders": 3}},
}  # fmt: skip
# What a second good row differs in from the first.
SECOND = {
    "clean.events": {"event_id": "2", "session_id": "2"},
    "clean.sessions": {"session_id": "2"},
    "clean.orders": {"line_no": 2},
    "clean.returns": {"return_line_no": 2},
    "clean.visitor_days": {"visitor_id": "2"},
    "clean.identities": {"valid_from": LATER, "valid_to": None},
    "clean.identity_alarms": {"id": "2"},
    "clean.identity_days": {"customer_id": "2"},
    "clean.products": {"product_id": "2"},
    "clean.customers": {"customer_id": "2"},
    "features.customer_days": {"customer_id": "2"},
    "encoded.customers": {"customer_id": "2"},
    "encoded.sequences": {"customer_id": "2"},
    "features.event_sequences": {"customer_id": "2"},
    "features.customers": {"customer_id": "2"},
    "scores.customer_values": {"customer_id": "2"},
    "scores.customer_outcomes": {"customer_id": "2"},
    "features.outcomes": {"customer_id": "2"},
    "features.item_days": {"item": "2"},
    "features.texts": {"text_key": "2"},
    "features.vectors": {"id": "2"},
    "features.interests": {"customer_id": "2"},
    "scores.recommendations": {"customer_id": "2"},
    "scores.holdouts": {"customer_id": "2"},
    "marts.customer_segments": {"customer_id": "2", "segment_id": 2, "segment_name": "Two"},
    "marts.segment_profiles": {"segment_id": 2, "share": 0.4},
    "marts.segment_changes": {"customer_id": "2"},
    "marts.effects": {"segment_id": 2},
    "marts.campaign_uplift": {"customer_id": "2"},
    "marts.segment_moves": {"from_segment_id": 3},
    "marts.segment_demand": {"segment_id": 2},
    "marts.refreshes": {"run_id": "2"},
}
BETWEEN, IN_SET, NOT_NULL, REGEX = (
    f"expect_column_values_to_{what}" for what in ("be_between", "be_in_set", "not_be_null", "match_regex")
)
# The column by which the rows of a table differ, and the values that its good rows share besides GOOD.
KEY_COLUMN = {
    "clean.events": "event_id", "clean.sessions": "session_id", "clean.orders": "order_id", "clean.returns": "return_order_id",
    "clean.visitor_days": "visitor_id", "clean.identities": "visitor_id", "clean.products": "product_id",
    "clean.customers": "customer_id", "features.customer_days": "customer_id", "features.customers": "customer_id",
    "clean.identity_alarms": "id", "clean.identity_days": "customer_id", "marts.customer_segments": "customer_id",
    "marts.segment_profiles": "segment_id",
    "marts.segment_changes": "customer_id", "marts.segment_moves": "from_segment_id", "marts.refreshes": "run_id",
    "marts.segment_demand": "segment_id",
    "encoded.customers": "customer_id", "encoded.sequences": "customer_id", "features.event_sequences": "customer_id",
    "scores.customer_values": "customer_id",
    "scores.customer_outcomes": "customer_id", "features.outcomes": "customer_id",
    "scores.recommendations": "customer_id",
    "features.item_days": "item", "features.texts": "text_key", "features.vectors": "id", "features.interests": "customer_id",
    "scores.holdouts": "customer_id", "marts.effects": "segment_id", "marts.campaign_uplift": "customer_id",
}  # fmt: skip
COMMON = {
    "marts.segment_profiles": {"share": 0.001},
    "marts.segment_moves": {"to_segment_id": 0, "previous_day": DAY - timedelta(days=1)},
}
# The row that fails an expectation on several columns or rows, by the column of the expectation. Two dictionaries are two rows.
BAD = {
    "clean.events": {
        "on_another_day": {"event_at": NOON + timedelta(days=1)},
        "before_its_session": {"event_at": NOON - timedelta(hours=1)},
        "known_before_it_happened": {"identified_on": DAY - timedelta(days=1)},
    },
    "clean.sessions": {
        "seconds": {"ended_at": NOON - timedelta(hours=1)},
        "on_another_day": {"started_at": NOON - timedelta(days=1)},
        "kinds_over_events": {"n_views": 2},
    },
    "clean.orders": {
        "on_another_day": {"ordered_at": NOON + timedelta(days=1)},
        "known_before_it_happened": {"known_until": DAY},
        "does_not_add_up": {"net_amount": 6},
        "discount_over_gross": {"discount_amount": 7, "net_amount": -1},
        "returned_over_quantity": {"returned_quantity": 3},
        "category_of_no_product": {"line_kind": "postage"},
        "unknown_product": {"product_id": "unheard of"},
        "unknown_customer": {"customer_id": "unheard of"},
    },
    "clean.returns": {
        "on_another_day": {"returned_at": NOON + timedelta(days=1)},
        "rule_without_line": {"order_id": None},
        "before_its_order": {"order_day": DAY + timedelta(days=1)},
    },
    "clean.products": {"price_of_no_rule": {"price_rule": None}},
    "clean.visitor_days": {"not_on_the_day": {"last_at": NOON + timedelta(days=1)}},
    "clean.identities": {
        "overlaps": ({"visitor_id": "same"}, {"visitor_id": "same", "valid_from": NOON + timedelta(minutes=30)}),
        "ends_before_it_begins": {"valid_to": NOON - timedelta(hours=1)},
    },
    "features.customer_days": {
        "does_not_add_up": {"net": 8},
        "known_before_it_happened": {"identified_on": DAY - timedelta(days=1)},
        "kinds_over_events": {"events": 4},
        "hits_over_searches": {"search_hits": 2},
        "nothing_happened": {
            "orders": 0, "order_days": 0, "returns": 0, "events": 0, "gross": 0, "discount": 0, "returned": 0, "net": 0,
        },
    },
    "features.customers": {
        "vector_size": {"vector": []},
        "not_a_number": {"vector": [1.0, None, float("nan")]},
        "seen_later": {"last_seen_day": DAY + timedelta(days=1)},
        "windows_disagree": {"orders_90d": 2},
    },
    "encoded.customers": {"not_a_number": {"vector": [1.0, float("nan")]}},
    "encoded.sequences": {"distance_from_length_1": {"vector": [1.0, 1.0]}},
    "features.event_sequences": {"known_before_it_happened": {"identified_on": DAY - timedelta(days=1)}},
    "features.outcomes": {"known_before": {"known_on": DAY}},
    "features.texts": {"vector_length": {"vector": [1.0, 1.0]}},
    "features.vectors": {"not_a_number": {"vector": [1.0, float("nan")]}},
    "features.interests": {"not_a_number": {"vector": [1.0, float("nan")]}},
    "scores.customer_values": {"horizons_disagree": {"expected_net_90d": 2}},
    "marts.effects": {
        "status_of_all": {"status": "mismatch", "difference": None},
        "status": {"status": "wink"},
        "outside_its_interval": {"difference": 2},
        "claims_without_power": {"status": "too_few"},
    },
    "marts.customer_segments": {
        "since_after_day": {"since_day": DAY + timedelta(days=1)},
        "unknown_segment": {"segment_id": 999},
    },
    "marts.segment_profiles": {
        "share_of_day": {"day": DAY + timedelta(days=1), "share": 1.5},
        "outliers_over_customers": {"n_outliers": 2},
        "unknown_segment": {"segment_id": 999},
    },
    "marts.segment_changes": {
        "stays": {"from_segment_id": 2},
        "wrong_side_missing": {"to_segment_id": None},
        "unknown_from": {"from_segment_id": 999},
        "unknown_to": {"to_segment_id": 999},
    },
    "marts.segment_moves": {
        "stays": {"from_segment_id": 150, "to_segment_id": 150},
        "from_later": {"previous_day": DAY},
        "unknown_from": {"from_segment_id": 999},
        "unknown_to": {"to_segment_id": 999},
    },
    "marts.segment_demand": {
        "returned_over_units": {"returned_units": 2},
        "customers_over_orders": {"customers": 3},
        "unknown_segment": {"segment_id": 999},
    },
    "marts.refreshes": {"finished_before_it_began": {"finished_at": NOON - timedelta(hours=1)}},
}  # fmt: skip
# (table, column whose expectation fails): columns whose expectations must then fail too
ALSO_BROKEN = {
    ("clean.orders", "gross_amount"): {"does_not_add_up", "discount_over_gross"},
    ("clean.orders", "discount_amount"): {"does_not_add_up"},
    ("clean.orders", "returned_amount"): {"does_not_add_up"},
    ("clean.orders", "line_kind"): {"category_of_no_product"},
    ("clean.sessions", "n_events"): {"kinds_over_events"},
    ("features.customer_days", "nothing_happened"): {"kinds_over_events"},
    ("features.customer_days", "events"): {"kinds_over_events"},
    ("features.customer_days", "gross"): {"does_not_add_up"},
    ("features.customer_days", "discount"): {"does_not_add_up"},
    ("features.customer_days", "returned"): {"does_not_add_up"},
    ("scores.customer_values", "expected_orders_365d"): {"horizons_disagree"},
    ("marts.customer_segments", "segment_id"): {"unknown_segment"},
    ("marts.segment_profiles", "segment_id"): {"unknown_segment"},
    ("marts.segment_profiles", "share_of_day"): {"share"},
    ("marts.segment_profiles", "n_customers"): {"outliers_over_customers"},
    ("marts.segment_changes", "from_segment_id"): {"unknown_from"},
    ("marts.segment_changes", "to_segment_id"): {"unknown_to"},
    ("marts.segment_demand", "segment_id"): {"unknown_segment"},
    ("marts.segment_demand", "orders"): {"customers_over_orders"},
    ("marts.segment_demand", "units"): {"returned_over_units"},
    ("marts.segment_moves", "from_segment_id"): {"unknown_from"},
    ("marts.segment_moves", "to_segment_id"): {"unknown_to"},
    **{
        ("features.customers", f"{name}_{window}"): {"windows_disagree"}
        for name in ("orders", "events") for window in ("30d", "90d", "365d", "life")
    },
}  # fmt: skip


def contract(name):
    return importlib.import_module(f"jobs.{name}").TABLE


def nullable_schema(name):
    """Return the columns of a table; null allowed, so that a row can break the table's own constraints."""
    return pa.schema([field.with_nullable(True) for field in contract(name).arrow_schema])


def create_row(name, **differences):
    """Return a good row of the table with these values in place of its own."""
    values = {}
    for column in contract(name).fields:
        kind = column.sql_type.split("(")[0]
        default = {"string": "word", "date": DAY, "timestamp": NOON, "boolean": False, "double": 0.5}.get(kind, 1)
        if kind.startswith(("map", "array")):
            default = None
        value = {**GOOD.get(name, {}), **differences}.get(column.name, default)
        convert = {"decimal": Decimal, "bigint": int, "int": int, "double": float}.get(kind, lambda same: same)
        values[column.name] = None if value is None else convert(value)
    return values


def create_rows(name, *rows):
    """Return rows of the table, each given by what it differs in from a good one."""
    return pa.Table.from_pylist([create_row(name, **differences) for differences in rows], nullable_schema(name))


def write_table(lake, name, *rows):
    """Write rows as the table, without its constraints."""
    by = [contract(name).partition] if contract(name).partition else None
    write_deltalake(lake.path(name), create_rows(name, *rows), mode="overwrite", schema_mode="overwrite", partition_by=by)


def write_good_layer(lake, layer):
    """Write two good rows of each checked table of the layer."""
    for table in flow.CHECKED_TABLES[layer]:
        write_table(lake, f"{layer}.{table}", {}, SECOND[f"{layer}.{table}"])


def read_results(lake):
    return sorted(lake.read_small_table(results.TABLE), key=lambda r: (r["day"], r["table"], r["position"]))


def is_by_row(expectation):
    """Whether the expectation is about each row, not about all rows together."""
    return hasattr(expectation, "map_metric")


def can_fail(expectation):
    """Whether the expectation has limits; one without only observes."""
    kwargs = expectation.configuration.kwargs
    return is_by_row(expectation) or any(kwargs.get(limit) for limit in ("min_value", "max_value"))


def bad_rows(name, expectation):
    """Return rows that fail one expectation, each as what it differs in from a good one."""
    column, kind = expectation.column, expectation.expectation_type
    if column in BAD.get(name, {}):
        rows = BAD[name][column]
        return rows if isinstance(rows, tuple) else (rows,)
    if column == KEY_COUNT:
        return ({KEY_COLUMN[name]: repeated_key(name)},) * 2
    if kind == NOT_NULL:
        return ({column: None},)
    if kind == BETWEEN:
        low, high = expectation.min_value, expectation.max_value
        return ({column: high + 1 if low is None else low - (not expectation.strict_min)},)
    assert kind in (IN_SET, REGEX), f"say in BAD which row fails {kind} on {column}"
    return ({column: "wink"},)


def repeated_key(name):
    return 200 if "segment_id" in KEY_COLUMN[name] else "same"


def label_of(expectation):
    description = expectation.configuration.description
    kind, column = expectation.expectation_type, validation.named_columns(expectation)
    return validation.label({"column": column, "description": description, "expectation": kind})
