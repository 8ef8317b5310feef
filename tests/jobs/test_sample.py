"""The sample shop against an independent reading of its files, in plain Python."""

import csv
import gzip
import json
import re
import tomllib
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, pstdev

import crawleruseragents
import pytest

from jobs.errors import UserError
from jobs.sample import files, writer
from jobs.sample.customer_types import TYPES
from jobs.sample.customers import EMAIL_DOMAINS, FIRST_NAMES, LAST_NAMES
from jobs.sample.rows import RULES

LAST = date(2026, 3, 31)
DAYS = 50
LATE_DAYS = 3
ACTIONS = {"product_view", "site_search", "cart_add", "cart_remove", "checkout_start", "order_done", "sign_in"}
MAPPING = Path(__file__).parents[2] / "conf/sources/sample.toml"


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "shop"
    writer.write_shop(out, customers=1200, days=DAYS, seed=6, last_day=LAST)
    return out


@pytest.fixture(scope="module")
def truth(shop) -> dict:
    return json.loads((shop / "truth/truth.json").read_text())


@pytest.fixture(scope="module")
def defects(shop) -> dict[str, set]:
    """Return (file, row) by rule."""
    by_rule = defaultdict(set)
    with (shop / "truth/defects.csv").open() as file:
        for row in csv.DictReader(file):
            by_rule[row["rule"]].add((row["file"], int(row["row"])))
    return by_rule


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        writer.write_shop(tmp_path / name, customers=80, days=6, seed=seed, last_day=LAST)
    a, b, c = (_read_contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a["events-2026-03-31.csv.gz"] != c["events-2026-03-31.csv.gz"]


def test_one_more_day_leaves_the_earlier_files_unchanged(tmp_path):
    writer.write_shop(tmp_path / "today", customers=900, days=8, seed=3, last_day=LAST)
    writer.write_shop(tmp_path / "tomorrow", customers=900, days=9, seed=3, last_day=LAST + timedelta(days=1))
    today, tomorrow = (_read_contents(tmp_path / name) for name in ("today", "tomorrow"))
    names = {name for name in today if not name.startswith("truth/")}
    assert {name for name in names if today[name] != tomorrow[name]} == set()
    kinds = ("events", "orders", "customers", "rates")
    kinds_added = {name.split("-")[0] for name in tomorrow.keys() - today.keys()}
    assert kinds_added == set(kinds)
    # The new day has newcomers; if their draws disturbed the other draws, the test would see it.
    assert any("2026-03-" in name for name in names)
    assert len(_read_rows(tmp_path / "tomorrow", "customers")) > len(_read_rows(tmp_path / "today", "customers"))


def test_rows_grow_with_customers_and_days(shop, truth, tmp_path):
    writer.write_shop(tmp_path / "small", customers=300, days=DAYS, seed=6, last_day=LAST)
    small = json.loads((tmp_path / "small/truth/truth.json").read_text())
    ratio = truth["rows"]["orders"] / small["rows"]["orders"]
    assert 2.5 < ratio < 6
    assert len(list(shop.glob("events-*.csv.gz"))) == DAYS
    writer.write_shop(tmp_path / "one", customers=1, days=1, seed=6, last_day=LAST)
    assert writer.read_last_day(tmp_path / "one") == LAST


def test_the_truth_counts_the_rows_and_has_every_type(shop, truth):
    for kind, n in truth["rows"].items():
        assert len(_read_rows(shop, kind)) == n, kind
    with (shop / "truth/customers.csv").open() as file:
        types = {row["customer_id"]: row["type"] for row in csv.DictReader(file)}
    assert set(types.values()) == set(TYPES) - {"stranger"}
    assert Counter(types.values()) == truth["types"]
    assert set(types) == {row["cust_no"] for _, row in _read_rows(shop, "customers")}


def test_the_true_net_is_the_sum_of_the_orders(shop, truth):
    listed = {row["sku"]: row["list_price"] for _, row in _read_rows(shop, "products")}
    rates = {(r["fixing_date"], r["ccy"]): Decimal(r["gbp_per_unit"]) for _, r in _read_rows(shop, "rates")}
    latest = {}
    for (file, number), row in _read_rows(shop, "orders"):
        if row is not None and row["order_no"]:
            key = (row["modified_utc"], file, number)
            old = latest.get((row["order_no"], row["line"]))
            if old is None or key >= old[0]:
                latest[row["order_no"], row["line"]] = (key, row)
    sums = Counter()
    for (_, file, _), row in latest.values():
        price = row["unit_price"] or listed.get(row["sku"], "")
        sound = (
            _parse_time(row["created_utc"])
            and row["created_utc"][:10] <= file[7:17]
            and row["sku"]
            and row["line_type"] in ("SALE", "REFUND", "POSTAGE", "FEE", "DISCOUNT")
            and row["pay_state"] != "VOIDED"
            and row["is_test"] == "N"
            and re.fullmatch(r"-?[1-9]\d*", row["qty"])
            and re.fullmatch(r"-\d+\.\d\d" if row["line_type"] == "DISCOUNT" else r"\d+\.\d\d", price)
        )
        rate = Decimal(1) if row["ccy"] == "GBP" else rates.get((row["created_utc"][:10], row["ccy"]))
        if sound and rate is not None:
            gross, discount = abs(int(row["qty"])) * Decimal(price) * rate, Decimal(row["discount"]) * rate
            if row["line_type"] == "REFUND":
                sums["returns"] += gross - discount
            elif row["line_type"] == "DISCOUNT":
                sums["discounts"] -= gross
            else:
                sums["gross"] += gross
                sums["discounts"] += discount
    sums["net"] = sums["gross"] - sums["discounts"] - sums["returns"]
    assert {name: Decimal(truth["money"][name]) for name in sums} == dict(sums)
    assert sums["returns"] > 0
    assert sums["discounts"] > 0


def test_orders_have_extra_lines_and_cancelled_orders_get_their_postage_back(shop, truth):
    kinds_by_order, postage, refunds = defaultdict(set), {}, {}
    for _, row in _read_rows(shop, "orders"):
        if row and row["order_no"].startswith("S") and row["line_type"] in ("SALE", "POSTAGE", "FEE", "DISCOUNT"):
            kinds_by_order[row["order_no"]].add(row["line_type"])
        if row and row["sku"] == "POSTAGE":
            lines = refunds if row["line_type"] == "REFUND" else postage
            lines[row["refund_of"] or row["order_no"]] = (row["ccy"], row["unit_price"])
    kinds = Counter(kind for order_kinds in kinds_by_order.values() for kind in order_kinds)
    assert all("SALE" in order_kinds for order_kinds in kinds_by_order.values())
    assert 0.2 < kinds["POSTAGE"] / len(kinds_by_order) < 0.4
    assert {kinds["POSTAGE"], kinds["FEE"], kinds["DISCOUNT"]} == {
        truth["kept"][f"{kind}_line"] for kind in ("postage", "fee", "discount")
    }
    assert min(kinds.values()) > 0
    assert refunds
    assert refunds.items() <= postage.items()


def test_event_defects_match_an_independent_reading(shop, defects):
    places_by_rule, ids, natural_keys = defaultdict(set), set(), set()
    for place, row in _read_rows(shop, "events"):
        file_day = date.fromisoformat(place[0][7:17])
        if row is None:
            places_by_rule["malformed"].add(place)
            continue
        at = _read_event_time(row)
        day = at.date() if at else file_day
        key = (row["client_id"], row["action"], row["sku"], row["ts"])
        if at is None:
            places_by_rule["no_time"].add(place)
        elif day > file_day:
            places_by_rule["future"].add(place)
        elif row["client_id"] == "":
            places_by_rule["no_visitor"].add(place)
        elif row["action"] not in ACTIONS:
            places_by_rule["unknown_type"].add(place)
        elif (row["hit_id"] and row["hit_id"] in ids) or (not row["hit_id"] and key in natural_keys):
            places_by_rule["same_id" if row["hit_id"] else "same_event"].add(place)
        elif (file_day - day).days > LATE_DAYS:
            places_by_rule["too_late"].add(place)
        if row["hit_id"]:
            ids.add(row["hit_id"])
        else:
            natural_keys.add(key)
    assert set(places_by_rule) == {
        "malformed",
        "no_time",
        "future",
        "too_late",
        "no_visitor",
        "unknown_type",
        "same_id",
        "same_event",
    }
    for rule, places in places_by_rule.items():
        assert places == {place for place in defects[rule] if place[0].startswith("events")}, rule


def test_order_defects_match_an_independent_reading(shop, truth, defects):
    listed = {row["sku"]: row["list_price"] for _, row in _read_rows(shop, "products")}
    rated = {r["ccy"] for _, r in _read_rows(shop, "rates")}
    places_by_rule, versions = defaultdict(set), defaultdict(list)
    for place, row in _read_rows(shop, "orders"):
        file_day = place[0][7:17]
        if row is None:
            places_by_rule["malformed"].add(place)
            continue
        price = row["unit_price"]
        signs = {
            "no_time": not _parse_time(row["created_utc"]),
            "future": bool(_parse_time(row["created_utc"])) and row["created_utc"][:10] > file_day,
            "no_order_id": not row["order_no"],
            "bad_quantity": not re.fullmatch(r"-?[1-9]\d*", row["qty"]),
            "bad_price": bool(price)
            and row["line_type"] not in ("DISCOUNT", "WRITEOFF")
            and not re.fullmatch(r"\d+\.\d\d", price),
            "no_price": not price and not listed.get(row["sku"]),
            "missing_rate": row["ccy"] != "GBP" and row["ccy"] not in rated,
            "gift_card": row["line_type"] == "GIFTCARD",
            "adjustment": row["line_type"] == "ADJUST",
            "bad_debt": row["line_type"] == "WRITEOFF",
            "void": row["pay_state"] == "VOIDED",
            "test_order": row["is_test"] == "Y",
        }
        rules = [rule for rule, holds in signs.items() if holds]
        assert len(rules) < 2, (place, rules)
        if rules:
            places_by_rule[rules[0]].add(place)
        else:
            versions[row["order_no"], row["line"]].append((place, row))
    for rows in versions.values():
        for (place, row), (_, newer) in pairwise(rows):
            places_by_rule["exact" if row == newer else "superseded"].add(place)
            assert row == newer or row["modified_utc"] < newer["modified_utc"]
    for rule, places in places_by_rule.items():
        planted = {place for place in defects[rule] if place[0].startswith("orders")}
        # Of two equal rows it does not matter which is called the copy.
        assert places == planted if rule != "exact" else len(places) == len(planted), rule
    assert set(places_by_rule) == {rule for rule, places in defects.items() if any(p[0].startswith("orders") for p in places)}
    assert truth["defects"] == {rule: len(places) for rule, places in defects.items()}
    assert set(truth["defects"]) == set(RULES) - {""}


def test_robots_have_the_trait_of_their_rule_and_people_do_not(shop, truth):
    times_by_visit, agents = defaultdict(set), defaultdict(set)
    for _, row in _read_rows(shop, "events"):
        at = row and _read_event_time(row)
        if at:
            times_by_visit[row["client_id"], at.date()].add(at)
            agents[row["client_id"]].add(row["ua"])
    by_rule = {rule: set(ids) for rule, ids in truth["robots"].items()}
    assert set(by_rule) == {"user_agent", "rate", "no_human_pause", "one_hit_fleet", "even_pauses", "around_the_clock"}
    robots = set().union(*by_rule.values())
    assert robots <= set(agents)
    pattern = re.compile("|".join(c["pattern"] for c in crawleruseragents.CRAWLER_USER_AGENTS_DATA), re.IGNORECASE)
    crawling = {ua for ua in set().union(*agents.values()) if pattern.search(ua)}
    crawlers = {visitor for visitor, uas in agents.items() if uas & crawling}
    assert crawlers == by_rule["user_agent"]
    assert any(not crawleruseragents.is_crawler(ua) for visitor in crawlers for ua in agents[visitor]), "odd case"
    fast, quick, even, round_the_clock = set(), set(), set(), set()
    for (visitor, _), times in times_by_visit.items():
        ordered = sorted(times)
        if len(ordered) > 2000:
            fast.add(visitor)
        pauses = [(b - a).total_seconds() for a, b in pairwise(ordered)]
        if len(ordered) >= 100 and median(pauses) <= 1.0:
            quick.add(visitor)
        within = [pause for pause in pauses if 0 < pause <= 1800]
        if len(within) >= 30 and pstdev(within) <= 0.1 * mean(within):
            even.add(visitor)
        if len({at.hour for at in ordered}) >= 20:
            round_the_clock.add(visitor)
    assert even == by_rule["even_pauses"]
    assert round_the_clock == by_rule["around_the_clock"]
    assert set(truth["people"]) == {"quick", "steady", "night_owl", "newsletter"}
    assert not robots & set().union(*truth["people"].values())
    assert fast == by_rule["rate"]
    assert quick == by_rule["no_human_pause"]
    days_of = Counter(visitor for visitor, _ in times_by_visit if visitor in by_rule["one_hit_fleet"])
    assert set(days_of.values()) == {1}
    assert len(days_of) >= 40


def test_people_share_devices_buy_as_guests_and_browse_past_midnight(shop):
    users, late_nights, guest_mails, account_mails = defaultdict(set), set(), set(), set()
    anonymous = set()
    previous = {}
    for _, row in _read_rows(shop, "events"):
        at = row and _read_event_time(row)
        if not at:
            continue
        if row["user_ref"]:
            users[row["client_id"]].add(row["user_ref"])
        else:
            anonymous.add(row["client_id"])
        before = previous.get(row["client_id"])
        if before and before.date() < at.date() and at - before < timedelta(minutes=10):
            late_nights.add(row["client_id"])
        previous[row["client_id"]] = at
    for _, row in _read_rows(shop, "orders"):
        if row is not None and row["cust_email"]:
            (account_mails if row["cust_no"] else guest_mails).add(row["cust_email"])
    assert sum(len(customers) > 1 for customers in users.values()) >= 5
    public = {visitor for visitor, customers in users.items() if len(customers) >= 5 and visitor}
    assert public
    assert not public & anonymous, "every user of a public device signs in"
    assert late_nights
    normalised = {mail.strip().lower() for mail in guest_mails}
    assert normalised & account_mails
    assert guest_mails - normalised, "addresses in upper case and with spaces"


def test_types_differ_as_planted(shop, truth):
    with (shop / "truth/customers.csv").open() as file:
        types = {row["customer_id"]: row["type"] for row in csv.DictReader(file)}
    n, orders, quantity, events = Counter(types.values()), defaultdict(set), defaultdict(list), Counter()
    for _, row in _read_rows(shop, "orders"):
        if row and row["cust_no"] and row["line_type"] == "SALE" and row["qty"].isdigit():
            orders[types[row["cust_no"]]].add(row["order_no"])
            quantity[types[row["cust_no"]]].append(int(row["qty"]))
    for _, row in _read_rows(shop, "events"):
        if row and row["user_ref"] in types:
            events[types[row["user_ref"]]] += 1
    per_customer = {kind: len(orders[kind]) / n[kind] for kind in n}
    assert per_customer["loyal"] > 5 * per_customer["window"]
    assert events["window"] / n["window"] > 1
    assert median(quantity["wholesale"]) > 10 * median(quantity["loyal"])
    assert events["dormant"] == 0


def test_the_truth_holds_nothing_personal(shop):
    people = {row[field] for _, row in _read_rows(shop, "customers") for field in ("email", "full_name", "phone")}
    words = {word.lower() for word in (*FIRST_NAMES, *LAST_NAMES, *EMAIL_DOMAINS)}
    assert len(people) > 2000
    paths = sorted((shop / "truth").iterdir())
    assert [path.name for path in paths] == ["customers.csv", "defects.csv", "truth.json"]
    for path in paths:
        text = path.read_text()
        assert not [word for word in words if word in text.lower()], path.name
        assert not [person for person in people if person in text], path.name


def test_the_mapping_names_every_personal_column(shop):
    mapping = tomllib.loads(MAPPING.read_text())
    for kind in ("events", "orders", "products", "customers", "rates"):
        declared = {*mapping[kind].get("personal", {}), *mapping[kind].get("drop", ())}
        rows = [row for _, row in _read_rows(shop, kind) if row is not None]
        personal = set()
        for row in rows:
            for column, value in row.items():
                if "@" in value or value.startswith("+44") or value.split(" ")[0] in FIRST_NAMES:
                    personal.add(column)
        assert personal == declared, kind
        expressions = " ".join(mapping[kind]["columns"].values())
        words = set(re.findall(r"[a-z_]+", re.sub(r"'[^']*'", "", expressions))) - {"split"}
        assert words <= set(rows[0]), kind


def test_bytes_are_undecodable_only_on_request(shop, tmp_path):
    for file in shop.glob("*.gz"):
        gzip.decompress(file.read_bytes()).decode("utf8")
    writer.write_shop(tmp_path / "bad", customers=20, days=2, seed=6, last_day=LAST, undecodable=True)
    gzip.decompress((tmp_path / "bad/events-2026-03-30.csv.gz").read_bytes()).decode("utf8")
    with pytest.raises(UnicodeDecodeError):
        gzip.decompress((tmp_path / "bad/events-2026-03-31.csv.gz").read_bytes()).decode("utf8")


def test_a_run_that_dies_leaves_the_shop_before(tmp_path, monkeypatch):
    out = tmp_path / "shop"
    writer.write_shop(out, customers=20, days=2, seed=1, last_day=LAST)
    before = _read_contents(out)
    monkeypatch.setattr(files, "write_orders", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        writer.write_shop(out, customers=20, days=2, seed=2, last_day=LAST)
    assert _read_contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["shop"]


def test_foreign_folders_and_impossible_sizes_are_one_clear_line(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for arguments in ({"out": tmp_path}, {"customers": 0}, {"days": 0}, {"seed": -1}):
        call = {"out": tmp_path / "x", "customers": 5, "days": 1, "seed": 1, "last_day": LAST, **arguments}
        with pytest.raises(UserError) as error:
            writer.write_shop(**call)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no sample shop"):
        writer.read_last_day(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def _read_contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@cache
def _read_rows(folder: Path, kind: str) -> list[tuple[tuple[str, int], dict | None]]:
    """Return ((file, row from 1), fields) in the order of delivery; None where the number of fields is wrong."""
    rows = []
    for path in sorted(folder.glob(f"{kind}*.csv*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        reader = csv.reader(data.decode("utf8").split("\n")[:-1])
        header = next(reader)
        for number, fields in enumerate(reader, start=1):
            row = dict(zip(header, fields, strict=True)) if len(fields) == len(header) else None
            rows.append(((path.name, number), row))
    return rows


def _read_event_time(row: dict[str, str]) -> datetime | None:
    """Return the time of an event by the client's clock, corrected where the server's is recorded."""
    at, sent, received = (_parse_time(row[name]) for name in ("ts", "sent", "server_ts"))
    if at and sent and received:
        return at + (received - sent)
    return min(at, received) if at and received else at


def test_wrong_clocks_are_counted(shop, truth):
    with_two_clocks = [row for _, row in _read_rows(shop, "events") if row and row["server_ts"]]
    wrong = [row for row in with_two_clocks if _read_event_time(row) != _parse_time(row["ts"])]
    assert 0 < len(wrong) == truth["kept"]["clock_skew"] < len(with_two_clocks)
    assert any(not row["sent"] for row in wrong)
    assert any(_read_event_time(row).date() != _parse_time(row["ts"]).date() for row in wrong)


def _parse_time(text: str) -> datetime | None:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
