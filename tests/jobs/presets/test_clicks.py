"""Presets of clickstreams: GA4, Snowplow, PostHog and Matomo, in the layout of their documentation."""

import json
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.settings import HOME

EVENT = ("event_at", "visitor_id", "customer_id", "event_type", "product_id")


def param(key, string=None, integer=None):
    value = {"string_value": string, "int_value": integer, "float_value": None, "double_value": None}
    return {"key": key, "value": value}


def ga4(name, micros, params=(), items=(), ecommerce=None, user=None):
    """An event of the daily export, in the schema of its documentation."""
    return {
        "event_date": "20250303", "event_timestamp": micros, "event_name": name, "event_params": list(params),
        "event_previous_timestamp": None, "event_value_in_usd": None, "event_bundle_sequence_id": 1,
        "event_server_timestamp_offset": None, "user_id": user, "user_pseudo_id": "9.1", "user_first_touch_timestamp": micros,
        "device": {"category": "mobile", "operating_system": "Android", "language": "en-gb"},
        "geo": {"continent": "Europe", "country": "Ireland", "region": "", "city": ""}, "app_info": None,
        "traffic_source": {"name": "(direct)", "medium": "(none)", "source": "(direct)"}, "stream_id": "77", "platform": "WEB",
        "ecommerce": {"total_item_quantity": 1, "purchase_revenue": None, "refund_value": None, "shipping_value": None,
                      "tax_value": None, "unique_items": 1, "transaction_id": None} | (ecommerce or {}),
        "items": [{"item_id": i, "item_name": i.title(), "item_category": "home", "price": price, "quantity": n}
                  for i, price, n in items],
        "collected_traffic_source": {"manual_medium": "email", "manual_source": "news"},
    }  # fmt: skip


def ga4_day():
    euro = param("currency", "EUR")
    sold = [("mug", 8.5, 2), ("lamp", 40.0, None)]
    deal = {"transaction_id": "T7", "shipping_value": 5.0, "tax_value": 2.0}
    return [
        ga4("page_view", 1741046399000000, [param("page_location", "https://x.example/"), param("ga_session_id", integer=5)]),
        ga4("view_item", 1741046401500000, [euro], [("mug", 8.5, 1)]),
        ga4("purchase", 1741046500000000, [euro, param("transaction_id", "T7")], sold, deal, "u1"),
        ga4("purchase", 1741046900000000, [euro, param("transaction_id", "T7")], sold, deal, "u1"),  # the page was loaded again
        ga4("refund", 1741132800000000, [euro], [], {"transaction_id": "T7", "refund_value": 8.5}, "u1"),
    ]


def write_ga4(preset, kind):
    if kind == "ga4_json":
        texts = [{k: str(v) if k == "event_timestamp" else v for k, v in event.items() if v is not None} for event in ga4_day()]
        preset.write("events_20250303.json", "\n".join(map(json.dumps, texts)))
    else:
        pq.write_table(pa.Table.from_pylist(ga4_day()), preset.folder / "events_20250303.parquet")


@pytest.mark.parametrize("kind", ["ga4_json", "ga4_parquet"])
def test_ga4_daily_export(preset, kind):
    write_ga4(preset, kind)
    preset.refresh(kind)
    events = preset.rows("clean.events", *EVENT)
    assert ("2025-03-03 23:59:59", "9.1", "u1", "other", None) in events
    assert ("2025-03-04 00:00:01", "9.1", "u1", "view", "mug") in events, "by UTC it is the next day"
    assert preset.rows("bronze.events", "page", "device", "country", "channel")[0] == (
        "https://x.example/",
        "mobile",
        "Ireland",
        "email",
    )
    assert {row[0] for row in preset.rows("clean.orders", "customer_id")} == {"u1"}
    assert preset.nets() == {"T7": 8.5 * 2 + 40 + 5 + 2 - 8.5}


def test_a_day_of_ga4_without_items_and_purchases(preset):
    event = {"event_timestamp": "1741046399000000", "event_name": "page_view", "event_params": [], "user_pseudo_id": "9.1"}
    preset.write("events_20250303.json", json.dumps(event))
    preset.refresh("ga4_json")
    assert preset.rows("clean.events", *EVENT) == [("2025-03-03 23:59:59", "9.1", None, "other", None)]


def test_both_presets_of_ga4_are_the_same_but_for_the_format():
    json_preset, parquet_preset = (
        tomllib.loads((HOME / f"conf/sources/ga4_{kind}.toml").read_text()) for kind in ("json", "parquet")
    )
    assert json.loads(json.dumps(json_preset).replace("json", "parquet")) == parquet_preset


def snowplow(**fields):
    """An enriched event: 131 fields, tab-separated."""
    header = tomllib.loads((HOME / "conf/sources/snowplow.toml").read_text())["events"]["header"]
    assert (len(header), header[0], header[15], header[58], header[130]) == (
        131, "app_id", "domain_userid", "unstruct_event", "true_tstamp",
    )  # fmt: skip
    fields = {"app_id": "web", "platform": "web", "collector_tstamp": "2025-03-03 10:00:01.000", "domain_userid": "d1"} | fields
    return "\t".join(fields.get(name, "") for name in header)


def entity(kind, **data):
    return {"schema": f"iglu:com.snowplowanalytics.snowplow.ecommerce/{kind}/jsonschema/1-0-0", "data": data}


def action(kind):
    data = {
        "schema": "iglu:com.snowplowanalytics.snowplow.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2",
        "data": {"type": kind},
    }
    return {
        "event": "unstruct", "event_name": "snowplow_ecommerce_action",
        "unstruct_event": json.dumps({"schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
        "data": data}),
    }  # fmt: skip


def contexts(*entities):
    return json.dumps({"schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0", "data": list(entities)})


def test_snowplow_enriched_events(preset):
    sold = contexts(
        entity("transaction", transaction_id="S1", revenue=33, currency="EUR", shipping=3, payment_method="card"),
        entity("product", id="cap", name='5" cap', price=10, quantity=1, currency="EUR", category="hats"),
        entity("product", id="bag", price=10, quantity=2, currency="EUR", category="bags"),
    )
    lines = [
        snowplow(event="page_view", event_name="page_view", event_id="e1", derived_tstamp="2025-03-03 10:00:00.250",
                 page_title='a 5" lone quote', page_url="https://x.example/", user_ipaddress="10.0.0.9"),
        snowplow(event_id="e2", **action("product_view"), contexts=contexts(entity("product", id="cap", price=10))),
        snowplow(event_id="e3", user_id="u2", **action("transaction"), contexts=sold),
        snowplow(event="transaction_item", event_name="transaction_item", event_id="e4", user_id="u2", ti_orderid="S0",
        ti_sku="old",
                 ti_price="4.50", ti_quantity="2", ti_currency="EUR"),
    ]  # fmt: skip
    preset.write("run=2025-03-03-11-00-00/part-00000", "\n".join(lines) + "\n")
    preset.refresh("snowplow")
    assert preset.rows("clean.events", "event_id", "event_at", "event_type", "product_id") == [
        ("e1", "2025-03-03 10:00:00", "other", None), ("e2", "2025-03-03 10:00:01", "view", "cap"),
        ("e3", "2025-03-03 10:00:01", "purchase", "cap"), ("e4", "2025-03-03 10:00:01", "other", None),
    ]  # fmt: skip
    assert "10.0.0.9" not in str(preset.rows("bronze.events", "address", "_extra"))
    assert preset.nets() == {"S0": 9.0, "S1": 33.0}


def posthog(event, at, distinct_id, properties):
    """An event of a batch export as JSON lines."""
    return {
        "uuid": f"018e-{at}", "event": event, "distinct_id": distinct_id, "person_id": "p",
        "person_properties": {"email": "a@x.example"},
        "properties": {"$device_id": "dev", "$current_url": "https://x.example/a", "$device_type": "Mobile",
                       "$geoip_country_code": "ES", "$ip": "10.0.0.7", **properties},
        "timestamp": f"2025-03-03T{at}.120000+00:00", "created_at": "2025-03-03T23:00:00+00:00", "elements_chain": "",
        "team_id": 1,
        "set": None, "set_once": None, "ip": None, "site_url": None,
    }  # fmt: skip


def test_posthog_batch_export(preset):
    sold = {
        "order_id": "H1", "shipping": 4, "tax": 1.5, "discount": 2, "currency": "EUR",
        "products": [{"product_id": "9", "sku": "pen", "name": "Pen", "price": 3, "quantity": 4}, {"product_id": "10",
        "price": 20}],
    }  # fmt: skip
    events = [
        posthog("$pageview", "10:00:00", "dev", {}),
        posthog("Product Viewed", "10:01:00", "dev", {"product_id": "9", "sku": "pen", "price": 3}),
        posthog("Order Completed", "10:02:00", "u3", sold),
    ]
    preset.write("events/2025-03-03.jsonl", "\n".join(map(json.dumps, events)))
    preset.refresh("posthog")
    assert preset.rows("clean.events", *EVENT) == [
        ("2025-03-03 10:00:00", "dev", "u3", "other", None), ("2025-03-03 10:01:00", "dev", "u3", "view", "pen"),
        ("2025-03-03 10:02:00", "dev", "u3", "purchase", None),
    ]  # fmt: skip
    stored = str(preset.rows("bronze.events", "page", "device", "country", "address", "_extra"))
    assert "https://x.example/a', 'Mobile', 'ES'" in stored
    assert "10.0.0.7" not in stored
    assert "a@x" not in stored
    assert preset.nets("customer_id") == {"u3": 12 + 20 + 4 + 1.5 - 2}


def test_matomo_visits(preset):
    page = {"type": "action", "url": "https://x.example/", "pageTitle": "Home", "pageIdAction": "1", "timestamp": 1740996000}
    view = page | {"timestamp": 1740996060, "productViewSku": "fan", "productViewPrice": 25, "productViewCategories": ["air"]}
    order = {
        "type": "ecommerceOrder", "orderId": "M1", "revenue": 58, "revenueSubTotal": 50, "revenueTax": 5, "revenueShipping": 6,
        "revenueDiscount": 3, "items": 2, "timestamp": 1740996120,
        "itemDetails": [{"itemSKU": "fan", "itemName": "Fan", "itemCategory": "air", "price": 25, "quantity": 2,
        "categories": ["air"]}],
    }  # fmt: skip
    visit = {
        "idSite": "1", "idVisit": "5", "visitIp": "10.0.0.8", "visitorId": "v9", "fingerprint": "f", "actionDetails": [page,
        view, order],
        "goalConversions": 0, "siteCurrency": "EUR", "serverDate": "2025-03-03", "visitServerHour": "11", "userId": None,
        "visitorType": "new", "deviceType": "Desktop", "countryCode": "fr", "country": "France", "referrerType": "direct",
        "serverTimestamp": 1740996120, "firstActionTimestamp": 1740996000,
    }  # fmt: skip
    preset.write("2025-03-03.json", json.dumps([visit, visit | {"idVisit": "6", "actionDetails": []}]))
    preset.refresh("matomo")
    assert preset.rows("clean.events", "event_at", "visitor_id", "event_type", "product_id") == [
        ("2025-03-03 10:00:00", "v9", "other", None), ("2025-03-03 10:01:00", "v9", "view", "fan"),
        ("2025-03-03 10:02:00", "v9", "purchase", "fan"),
    ]  # fmt: skip
    assert "10.0.0.8" not in str(preset.rows("bronze.events", "address", "_extra"))
    assert preset.nets("customer_id") == {"v9": 58.0}
