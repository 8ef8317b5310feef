"""A shop whose days are not those of UTC, from its files to the features and the checks, on the local engine."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest

from jobs.bronze import pipeline as bronze
from jobs.clean import pipeline as clean
from jobs.config.settings import load_settings
from jobs.config.source_mapping import load_source
from jobs.features import pipeline as features
from jobs.quality import pipeline as quality
from jobs.storage import delta
from jobs.storage.lake import Lake

MAPPING = """
name = "vendor"
currency = "USD"
{}
[events]
files = "clicks-*.csv"
file_day = '(\\d{{4}}-\\d{{2}}-\\d{{2}})'
columns = {{ event_id = "id", event_at = "time", visitor_id = "device", customer_id = "who", event_type = "what", page = "page" }}
[orders]
files = "orders-*.csv"
columns = {{ order_id = "id", ordered_at = "time", updated_at = "changed", customer_id = "who", product_id = "sku", quantity = "n", unit_price = "price", kind = "kind" }}
[customers]
files = "people.csv"
columns = {{ customer_id = "who", registered_at = "since" }}
"""  # noqa: E501
CLICKS, ORDERS = "id,time,device,who,what,page", "id,time,changed,who,sku,n,price,kind"
LANDED_AT = datetime(2024, 3, 20, 12, tzinfo=UTC)


class Shop:
    """Files of a shop, and the lake that they are refreshed into."""

    def __init__(self, folder, zone, words=""):
        self.folder, self.lake = folder / "input", Lake(None, str(folder / "lake"))
        self.folder.mkdir(parents=True)
        (self.folder / "vendor.toml").write_text(MAPPING.format(words))
        roots = {"lake": self.lake.root, "models": str(folder / "models"), "input": str(self.folder)}
        settings = replace(load_settings({}), engine="local", source=str(self.folder / "vendor.toml"), **roots)
        settings = replace(settings, train=replace(settings.train, backtest_days=0))
        self.settings = replace(settings, business_time_zone=zone)

    def write(self, name, *lines):
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def refresh(self, *days):
        """Land, clean, check and compute features."""
        days = [date.fromisoformat(day) for day in days]
        bronze.run(self.lake, self.settings, days[-1], LANDED_AT)
        clean.run(self.lake, self.settings, load_source(self.settings.source), days)
        quality.run(self.lake, self.settings, "clean", days)
        features.run(self.lake, self.settings, days, retrain=False)

    def read(self, table, *columns):
        rows = delta.read_arrow(self.lake.root, table, list(columns)).to_pylist()
        return sorted(tuple(str(row[column]) for column in columns) for row in rows)


@pytest.fixture
def western(tmp_path):
    """A shop of Los Angeles whose files have times in UTC; summer time begins on 10 March."""
    shop = Shop(tmp_path, "America/Los_Angeles")
    shop.write("people.csv", "who,since", "ann,2024-03-08", "bob,2024-03-09T05:00:00Z")
    shop.write(
        "orders-1.csv", ORDERS,
        "61,2024-03-09T19:00:00Z,2024-03-09T19:00:00Z,ann,lamp,1,30.00,sale",
        "62,2024-03-10T07:45:00Z,2024-03-10T07:45:00Z,ann,rug,1,50.00,sale",
        "63,2024-03-11T06:30:00Z,2024-03-11T06:30:00Z,bob,rug,1,50.00,sale",
    )  # fmt: skip
    shop.write(
        "clicks-2024-03-09.csv", CLICKS,
        "a,2024-03-10T07:50:00Z,phone,ann,view,/rug", "b,2024-03-10T07:58:00Z,phone,ann,view,/lamp",
    )  # fmt: skip
    shop.write(
        "clicks-2024-03-10.csv", CLICKS,
        "c,2024-03-10T08:10:00Z,phone,ann,view,/chair", "d,2024-03-11T06:55:00Z,tablet,bob,view,/chair",
    )  # fmt: skip
    return shop


def test_orders_and_sessions_of_one_evening_are_of_one_day(western):
    western.refresh("2024-03-09", "2024-03-10")
    orders = western.read("clean.orders", "order_id", "day", "ordered_at")
    assert orders == [
        ("61", "2024-03-09", "2024-03-09 19:00:00+00:00"), ("62", "2024-03-09", "2024-03-10 07:45:00+00:00"),
        ("63", "2024-03-10", "2024-03-11 06:30:00+00:00"),
    ]  # fmt: skip
    assert western.read("clean.events", "event_id", "day") == [
        ("a", "2024-03-09"), ("b", "2024-03-09"), ("c", "2024-03-10"), ("d", "2024-03-10"),
    ]  # fmt: skip
    assert western.read("clean.sessions", "visitor_id", "day", "n_events", "ended_at") == [
        ("phone", "2024-03-09", "3", "2024-03-10 08:10:00+00:00"), ("tablet", "2024-03-10", "1", "2024-03-11 06:55:00+00:00"),
    ]  # fmt: skip
    columns = ("customer_id", "day", "orders_life", "sessions_30d", "session_seconds_30d", "evening_order_share_365d",
               "evening_share_365d", "night_share_365d", "first_known_day")  # fmt: skip
    assert western.read("features.customers", *columns) == [
        ("ann", "2024-03-09", "2", "1", "480.0", "0.5", "1.0", "0.0", "2024-03-08"),
        ("ann", "2024-03-10", "2", "1", "1200.0", "0.5", str(2 / 3), str(1 / 3), "2024-03-08"),
        ("bob", "2024-03-09", "0", "0", "None", "None", "None", "None", "2024-03-08"),
        ("bob", "2024-03-10", "1", "1", "0.0", "1.0", "1.0", "0.0", "2024-03-08"),
    ]


def test_a_return_counts_on_the_evening_of_the_shop(western):
    western.refresh("2024-03-09")
    western.write(
        "orders-2.csv", ORDERS,
        "61,2024-03-09T19:00:00Z,2024-03-13T05:00:00Z,ann,lamp,1,30.00,cancellation",
    )  # fmt: skip
    western.refresh("2024-03-12")
    returned = western.read("clean.returns", "return_order_id", "day", "row_day", "returned_at")
    assert returned == [("61", "2024-03-12", "2024-03-09", "2024-03-13 05:00:00+00:00")]
    versions = western.read("clean.orders", "order_id", "known_from", "status")
    assert versions[:2] == [("61", "2024-03-09", "placed"), ("61", "2024-03-12", "cancelled")]


def test_another_zone_makes_every_day_due_and_gives_the_rows_of_a_new_lake(western, tmp_path):
    western.refresh("2024-03-09", "2024-03-10", "2024-03-11")
    western.settings = replace(western.settings, business_time_zone="UTC")
    western.refresh("2024-03-11")
    fresh = Shop(tmp_path / "fresh", "UTC")
    for file in western.folder.glob("*.csv"):
        fresh.write(file.name, file.read_text().rstrip())
    fresh.refresh("2024-03-11")
    for table in ("clean.orders", "clean.events", "clean.sessions", "clean.visitor_days"):
        rows = [shop.lake.read_small_table(table) for shop in (western, fresh)]
        assert sorted(map(str, rows[0])) == sorted(map(str, rows[1]))
    columns = ("customer_id", "day", "events", "orders", "sessions", "night_events")
    aggregates = [shop.read("features.customer_days", *columns) for shop in (western, fresh)]
    assert aggregates[0] == aggregates[1]
    assert ("62", "2024-03-10") in western.read("clean.orders", "order_id", "day")


def test_rows_of_files_that_are_not_landed_again_are_refused_in_another_zone(western):
    western.refresh("2024-03-09", "2024-03-10")
    western.settings = replace(western.settings, business_time_zone="UTC")
    clean.run(western.lake, western.settings, load_source(western.settings.source), [date(2024, 3, 10)])
    refused = western.read("clean.events_rejects", "event_id", "day", "rules")
    assert refused == [(name, "2024-03-09", "['future']") for name in "ab"] + [("d", "2024-03-10", "['future']")]


def test_a_session_over_a_day_of_23_hours_is_whole_whichever_day_comes_first(tmp_path):
    at, clicks = datetime(2024, 3, 10, 7, 50, tzinfo=UTC), {}
    for n in range(90):  # from 23:50 on 9 March to 00:50 on 11 March, which is the longest a session may be, and on
        local = at.astimezone(ZoneInfo("America/Los_Angeles"))
        clicks.setdefault(str(local.date()), []).append(f"e{n},{at:%Y-%m-%dT%H:%M:%SZ},phone,ann,view,/p{n}")
        at += timedelta(minutes=(7, 13, 29)[n % 3])
    assert list(clicks) == ["2024-03-09", "2024-03-10", "2024-03-11"]
    shops = [Shop(tmp_path / name, "America/Los_Angeles") for name in ("once", "by_day", "backwards")]
    for shop in shops:
        shop.settings = replace(shop.settings, clean=replace(shop.settings.clean, bot_active_hours=1000, bot_even_pauses=1000))
        shop.write("people.csv", "who,since", "ann,2024-03-08")
        for day, lines in clicks.items():
            shop.write(f"clicks-{day}.csv", CLICKS, *lines)
    shops[0].refresh(*clicks)
    for day in clicks:
        shops[1].refresh(day)
    shops[2].write("clicks-2024-03-09.csv", CLICKS)
    shops[2].refresh(*clicks)
    shops[2].write("clicks-2024-03-09.csv", CLICKS, *clicks["2024-03-09"])
    shops[2].refresh("2024-03-11")
    columns = ("day", "started_at", "ended_at", "n_events")
    sessions = [shop.read("clean.sessions", *columns) for shop in shops]
    assert sessions[0] == sessions[1] == sessions[2]
    assert sessions[0][0] == ("2024-03-09", "2024-03-10 07:50:00+00:00", "2024-03-11 07:38:00+00:00", "89")
    columns = ("day", "identified_on", "events", "sessions", "active_seconds")
    aggregates = [shop.read("features.customer_days", *columns) for shop in shops]
    assert aggregates[0] == aggregates[1] == aggregates[2]


def write_random_shop(shop, seed):
    """Write files with local times without an offset, of six days."""
    random = Random(seed)  # noqa: S311
    first = datetime(2024, 3, 4)  # noqa: DTZ001
    moment = lambda: first + timedelta(seconds=random.randrange(6 * 86_400))  # noqa: E731
    clicks = {str((first + timedelta(days=n)).date()): [] for n in range(6)}
    for visit in range(120):
        at, number = moment(), random.randrange(25)
        for step in range(random.choice((1, 2, 5, 40))):
            at += timedelta(seconds=random.choice((20, 300, 1200)))
            who = random.choice(("", "", f"c{number % 12}", f"c{(number + visit % 2) % 12}"))
            kind = random.choice(("view", "add_to_cart", "begin_checkout", "other"))
            late = random.choice((*[0] * 30, 1, 1, -1, 4))  # days until it arrives: the last two are refused
            file = str(at.date() + timedelta(days=late))
            if file in clicks:
                clicks[file].append(f"{visit}-{step},{at},d{number},{who},{kind},/p{random.randrange(9)}")
    for day, lines in clicks.items():
        shop.write(f"clicks-{day}.csv", CLICKS, *lines)
    orders = []
    for number in range(80):
        at, kind = moment(), random.choice(("sale", "sale", "sale", "return"))
        changed = at + timedelta(hours=random.choice((0, 0, 5, 30)))
        orders.append(f"o{number},{at},{changed},c{random.randrange(12)},s{random.randrange(4)},1,{5 + number % 3}.00,{kind}")
    shop.write("orders-1.csv", ORDERS, *orders[:60])
    shop.write("orders-2.csv", ORDERS, *orders[60:], *(line.replace(",1,", ",2,") for line in orders[:10]))
    shop.write("people.csv", "who,since", *(f"c{n},{moment() if n % 3 else moment().date()}" for n in range(12)))


def test_a_shop_of_tokyo_has_the_tables_that_the_same_shop_has_in_utc(tmp_path):
    days = [f"2024-03-{day:02}" for day in range(4, 11)]
    shops = [Shop(tmp_path / "utc", "UTC"), Shop(tmp_path / "tokyo", "Asia/Tokyo", 'time_zone = "Asia/Tokyo"')]
    for shop in shops:
        write_random_shop(shop, 3)
        shop.refresh(*days)
    columns = {
        "clean.events": ("event_id", "day", "customer_id", "identified_on", "bot_rule"),
        "clean.events_rejects": ("event_id", "day", "rules"),
        "clean.sessions": ("visitor_id", "day", "n_events", "customer_id"),
        "clean.orders": ("order_id", "line_no", "day", "known_from", "known_until", "net_amount", "status"),
        "clean.returns": ("return_order_id", "day", "order_day", "amount", "rule"),
        "clean.visitor_days": ("visitor_id", "day"),
        "clean.identities": ("visitor_id", "day", "customer_id", "shared_since"),
        **{table: [f.name for f in delta.read_arrow(shops[0].lake.root, table).schema]
           for table in ("features.customer_days", "features.customers")},
    }  # fmt: skip
    for table, names in columns.items():
        in_utc, in_tokyo = (shop.read(table, *names) for shop in shops)
        assert in_utc
        assert in_utc == in_tokyo
    instants = [{row["ordered_at"] for row in shop.lake.read_small_table("clean.orders")} for shop in shops]
    assert instants[0] == {at + timedelta(hours=9) for at in instants[1]}
