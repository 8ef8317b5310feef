"""Twelve ways in which public systems get money, customers or time wrong, each on a few rows of a small shop.

Every question is asked twice: of our tables, which must give the true answer, and in the usual way of the source files,
which must not, so that the rows do show the defect.
"""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import NamedTuple

import duckdb
import pytest

from jobs import steps
from jobs.config.settings import load_settings
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake

LAST = date(2024, 3, 3)
MAPPING = r"""
name = "vendor"
currency = "GBP"
[events]
files = "clicks-*.csv"
file_day = '(\d{4}-\d{2}-\d{2})'
personal = { mail = "email" }
[events.columns]
event_at = "time"
visitor_id = "device"
customer_id = "customer"
email_key = "mail"
event_type = "what"
product_id = "sku"
user_agent = "agent"
[orders]
files = "orders-*.csv"
file_day = '(\d{4}-\d{2}-\d{2})'
[orders.columns]
order_id = "id"
line_no = "line"
ordered_at = "time"
customer_id = "customer"
product_id = "sku"
quantity = "pieces"
unit_price = "price"
currency = "money"
kind = "what"
original_order_id = "undoes"
[customers]
files = "people.csv"
personal = { mail = "email" }
[customers.columns]
customer_id = "id"
email_key = "mail"
registered_at = "since"
[rates]
files = "rates.csv"
[rates.columns]
rated_on = "day"
currency = "money"
rate = "rate"
"""
HEADLESS = "mozilla/5.0 (x11; linux x86_64) applewebkit/537.36 headlesschrome/131.0.0.0 safari/537.36"
FILES = {
    "people.csv": """id,mail,since
ann,ann@shop.example,2024-01-02
bob,bob@shop.example,2024-01-02
cid,cid@shop.example,2024-01-02
dora,dora@shop.example,2024-01-02
eve,eve@shop.example,2024-01-02
fred,office@shop.example,2024-01-02
gina,office@shop.example,2024-01-02
""",
    "rates.csv": "day,money,rate\n2024-03-01,EUR,0.85\n",
    "orders-2024-03-01.csv": """id,line,time,customer,sku,pieces,price,money,what,undoes
1,1,2024-03-01 09:00:00,ann,mug,2,4.99,GBP,sale,
1,2,2024-03-01 09:00:00,ann,tray,1,10.00,GBP,sale,
2,1,2024-03-01 10:00:00,bob,lamp,1,20.00,EUR,sale,
3,1,2024-03-01 11:00:00,cid,cup,1,5.00,GBP,sale,
4,1,2024-03-01 12:00:00,dora,vase,2,30.00,GBP,sale,
""",
    "orders-2024-03-02.csv": """id,line,time,customer,sku,pieces,price,money,what,undoes
1,1,2024-03-01 09:00:00,ann,mug,2,4.99,GBP,sale,
1,2,2024-03-01 09:00:00,ann,tray,1,10.00,GBP,sale,
C3,1,2024-03-02 08:00:00,cid,cup,-1,5.00,GBP,cancellation,3
""",
    "orders-2024-03-03.csv": """id,line,time,customer,sku,pieces,price,money,what,undoes
R4,1,2024-03-03 08:00:00,dora,vase,-1,30.00,GBP,return,4
""",
    "clicks-2024-01-30.csv": """time,device,customer,mail,what,sku,agent,visit
2024-01-30 10:00:00,tablet of eve,eve,,view,mug,Firefox,v7
""",
    "clicks-2024-03-01.csv": f"""time,device,customer,mail,what,sku,agent,visit
2024-03-01 10:00:00,tablet of eve,eve,,view,mug,Firefox,v7
2024-03-02T00:30:00+02:00,phone of ann,ann,,view,mug,Firefox,v1
2024-03-01 13:00:00,machine,,,view,mug,"{HEADLESS}",v2
2024-03-01 14:00:00,office desk,,office@shop.example,login,,Firefox,v3
2024-03-01 14:01:00,office desk,,,view,mug,Firefox,v3
""",
    "clicks-2024-03-02.csv": """time,device,customer,mail,what,sku,agent,visit
2024-03-01 20:00:00,phone of bob,bob,,view,lamp,Firefox,v4
2024-03-20 20:00:00,phone of bob,bob,,view,lamp,Firefox,v5
""",
}
TABLES = (
    "clean.events", "clean.events_rejects", "clean.sessions", "clean.orders", "features.customers", "features.customer_days",
)  # fmt: skip


class Defect(NamedTuple):
    """A question, its true answer, and the SQL by which the files (naive) and our tables (ours) answer it."""

    question: str
    truth: object
    naive: str
    ours: str


DEFECTS = (
    Defect(
        "what did ann pay, whose order was delivered again on the next day", Decimal("19.98"),
        "SELECT sum(pieces * price) FROM orders WHERE customer = 'ann'",
        "SELECT sum(net_amount) FROM clean.orders WHERE customer_id = 'ann'",
    ),
    Defect(
        "what is the revenue of orders 1 and 2, of which one is in euros", Decimal("36.98"),
        "SELECT sum(pieces * price) FROM (SELECT DISTINCT * FROM orders) WHERE id IN ('1', '2')",
        "SELECT sum(gross_amount) FROM clean.orders WHERE order_id IN ('1', '2')",
    ),
    Defect(
        "what has dora paid, who sent one of two vases back", Decimal("30.00"),
        "SELECT sum(pieces * price) FROM orders WHERE customer = 'dora' AND pieces > 0",
        "SELECT net_365d FROM features.customers WHERE customer_id = 'dora' AND day = '2024-03-03'",
    ),
    Defect(
        "how many orders has cid, who cancelled his only one", 0,
        "SELECT count(DISTINCT id) FROM orders WHERE customer = 'cid' AND what = 'sale'",
        "SELECT orders_life FROM features.customers WHERE customer_id = 'cid' AND day = '2024-03-03'",
    ),
    Defect(
        "on which day and in which hour, UTC, did ann look at the mug", (date(2024, 3, 1), 22),
        "SELECT CAST(time[:10] AS DATE), CAST(time[12:13] AS INT) FROM clicks WHERE customer = 'ann'",
        "SELECT day, hour(event_at AT TIME ZONE 'UTC') FROM clean.events WHERE customer_id = 'ann'",
    ),
    Defect(
        "which visitors are robots", "machine",
        "SELECT max(device) FROM clicks WHERE agent LIKE '%bot%' OR agent LIKE '%HeadlessChrome%'",
        "SELECT max(visitor_id) FROM clean.events WHERE is_bot",
    ),
    Defect(
        "what became of the late and the future event of bob's phone", [(date(2024, 3, 1), "kept"), (date(2024, 3, 2), "future")],
        "SELECT CAST(time AS DATE), 'kept' FROM clicks WHERE device = 'phone of bob' AND time[:10] = file_day",
        "SELECT day, 'kept' AS outcome FROM clean.events WHERE visitor_id = 'phone of bob' UNION ALL "
        "SELECT day, rules[1] FROM clean.events_rejects WHERE visitor_id = 'phone of bob' ORDER BY day",
    ),
    Defect(
        "what did ann's mugs cost to the penny", Decimal("9.98"),
        "SELECT sum(pieces * CAST(price AS INT)) FROM (SELECT DISTINCT * FROM orders) WHERE sku = 'mug'",
        "SELECT sum(gross_amount) FROM clean.orders WHERE product_id = 'mug'",
    ),
    Defect(
        "who are the customers", "ann bob cid dora eve fred gina",
        "SELECT string_agg(DISTINCT people.id, ' ' ORDER BY people.id) FROM people JOIN orders ON people.id = orders.customer",
        "SELECT string_agg(customer_id, ' ' ORDER BY customer_id) FROM features.customers WHERE day = '2024-03-03'",
    ),
    Defect(
        "how many days had passed on 2 March since bob's order, asked later", 1,
        "SELECT min(date_diff('day', CAST(time AS DATE), current_date)) FROM orders WHERE customer = 'bob'",
        "SELECT order_recency_days FROM features.customers WHERE customer_id = 'bob' AND day = '2024-03-02'",
    ),
    Defect(
        "how many visits did eve make, whose browser keeps its visit for weeks", 2,
        "SELECT count(DISTINCT visit) FROM clicks WHERE customer = 'eve'",
        "SELECT count(*) FROM clean.sessions WHERE customer_id = 'eve'",
    ),
    Defect(
        "whose is the office's desk, where the mailbox of fred and gina signed in", None,
        "SELECT min(people.id) FROM clicks JOIN people USING (mail) WHERE device = 'office desk'",
        "SELECT min(customer_id) FROM clean.events WHERE visitor_id = 'office desk'",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """A DuckDB connection that sees the files, and our tables after the last two days were refreshed."""
    folder = tmp_path_factory.mktemp("vendor")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "vendor.toml").write_text(MAPPING)
    settings = replace(load_settings({}), input=str(folder), source=str(folder / "vendor.toml"))
    lake = Lake(None, str(tmp_path_factory.mktemp("lake")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOAL_SECRET", "a key of the tests alone")
        for step, days in (("land", [LAST]), ("clean", [LAST]), ("features", [LAST.replace(day=2), LAST])):
            steps.run_on_lake(lake, (step,), settings, steps.Options(days))
    connection = duckdb.connect()
    for table in TABLES:
        layer, name = table.split(".")
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}")
        connection.from_arrow(read_arrow(lake.root, table)).to_table(f"{layer}.{name}")
    money = {"pieces": "INT", "price": "DECIMAL(18,4)"}
    connection.read_csv(f"{folder}/orders-*.csv", dtype=money).to_view("orders")
    connection.read_csv(f"{folder}/people.csv", all_varchar=True).to_view("people")
    clicks = connection.read_csv(f"{folder}/clicks-*.csv", all_varchar=True, filename=True)
    clicks.project(r"*, regexp_extract(filename, '\d{4}-\d{2}-\d{2}') AS file_day").to_view("clicks")
    return connection


@pytest.mark.parametrize("way", ["ours", pytest.param("naive", marks=pytest.mark.xfail(raises=AssertionError))])
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.question)
def test_the_true_answer_is_given(answers, defect, way):
    rows = answers.execute(getattr(defect, way)).fetchall()
    plain = [row if len(row) > 1 else row[0] for row in rows]
    assert (plain if isinstance(defect.truth, list) else plain[0]) == defect.truth
