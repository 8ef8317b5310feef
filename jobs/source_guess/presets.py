"""The layouts that come with a mapping, told by the columns and names of their files."""

import re
from dataclasses import dataclass

from jobs.source_guess.samples import Sample


@dataclass(frozen=True)
class Layout:
    """A vendor's layout: its preset, who exports it, and columns that only its files have; `name` is a pattern of the files."""

    preset: str
    vendor: str
    columns: frozenset[str]
    file_format: str = "csv"
    name: str = ".*"


_LAYOUTS = (
    Layout("shopify", "Shopify's orders export", frozenset(("Name", "Financial Status", "Lineitem quantity", "Lineitem price"))),
    Layout("woocommerce", "WooCommerce's REST API", frozenset(("date_created_gmt", "line_items", "billing", "status")), "json"),
    Layout(
        "ga4_json", "Google Analytics 4's BigQuery export", frozenset(("event_timestamp", "event_name", "user_pseudo_id")), "json"
    ),
    Layout(
        "ga4_parquet",
        "Google Analytics 4's BigQuery export",
        frozenset(("event_timestamp", "event_name", "user_pseudo_id")),
        "parquet",
    ),
    Layout("posthog", "PostHog's batch export", frozenset(("uuid", "event", "distinct_id", "properties")), "json"),
    Layout("matomo", "Matomo's Live.getLastVisitsDetails", frozenset(("idVisit", "visitorId", "actionDetails")), "json"),
    Layout("olist", "the Olist dataset", frozenset(("order_id", "order_item_id", "seller_id", "freight_value"))),
    Layout("retailrocket", "the RetailRocket dataset", frozenset(("timestamp", "visitorid", "event", "itemid", "transactionid"))),
    Layout("yoochoose", "the YOOCHOOSE dataset", frozenset(), name=r"(.*/)?yoochoose-(clicks|buys)\.dat.*"),
    Layout("taobao_userbehavior", "Taobao's User Behavior dataset", frozenset(), name=r"(.*/)?UserBehavior\.csv.*"),
)
_SNOWPLOW_COLUMNS = 131


def find_layout(sample: Sample) -> Layout | None:
    """Return the vendor's layout that a file has, or None."""
    if len(sample.columns) == _SNOWPLOW_COLUMNS and "header" in sample.words and sample.words.get("delimiter") == "\t":
        return Layout("snowplow", "Snowplow's enriched events", frozenset())
    columns = {part for column in sample.columns for part in (column, column.partition(".")[0])}
    for layout in _LAYOUTS:
        is_format = sample.words.get("format", "csv") == layout.file_format
        if is_format and layout.columns <= columns and re.fullmatch(layout.name, sample.name):
            return layout
    return None
