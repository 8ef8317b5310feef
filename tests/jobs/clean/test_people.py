"""Whom ids and addresses name, from day to day, and what events become by that."""

from datetime import date, datetime

import polars as pl
import pyarrow as pa

from jobs.bronze import events as bronze_events
from jobs.clean import _people, customers, events, identities
from jobs.config.settings import Clean
from tests.jobs.clean import kernels
from tests.jobs.clean.rejects import land

MARCH = [date(2024, 3, day) for day in range(1, 32)]


def list_people(accounts=(), learned=None, shared=()):
    """People of accounts (customer, address, day, merged into), learned holders and shared ids."""
    rows = [
        {"customer_id": customer, "email_key": mail, "day": MARCH[day - 1], "merged_into": into}
        for customer, mail, day, into in accounts
    ]
    holders = None
    if learned is not None:
        days = [(mail, customer, MARCH[day - 1]) for mail, customer, day in learned]
        holders = pl.DataFrame(days, {"email_key": pl.String, "customer_id": pl.String, "day": pl.Date}, orient="row")
    ids = pl.DataFrame([(customer, MARCH[day - 1]) for customer, day in shared], customers.NO_SHARED.schema, orient="row")
    return _people.list_people(pa.Table.from_pylist(rows, customers.TABLE.arrow_schema), holders, ids, 1)


def name(people, customer, mail, day):
    """(known customer, later customer, day of March) of a row."""
    columns = {"position": pl.UInt32, "customer_id": pl.String, "email_key": pl.String, "day": pl.Date}
    row = pl.DataFrame([(0, customer, mail, MARCH[day - 1])], columns, orient="row")
    (named,) = _people.name_customers(row, people).to_dicts()
    return named["known_customer_id"], named["later_customer_id"], named["later_since"] and named["later_since"].day


def test_a_guest_is_the_account_that_appears_later_from_then_on():
    people = list_people([("anna", "mail", 5, None)])
    assert name(people, None, "mail", 2) == (None, "anna", 5)
    assert name(people, None, "mail", 6) == ("anna", None, None)
    assert name(people, "bert", "mail", 2) == ("bert", None, None)
    assert name(people, None, None, 2) == (None, None, None)


def test_without_a_customers_file_orders_show_whose_an_address_is():
    people = list_people(learned=[("mail", "anna", 5), ("mail", "anna", 9), ("two", "bert", 3), ("two", "carl", 6)])
    assert name(people, None, "mail", 2) == (None, "anna", 5)
    assert [name(people, None, "two", day)[0] for day in (4, 6, 7)] == ["bert", None, None]


def test_a_shared_id_is_a_guest_from_the_day_that_shows_it():
    people = list_people([("anna", "mail", 1, None), ("9999", "till", 1, None)], shared=[("9999", 4)])
    assert name(people, "9999", "mail", 2) == ("9999", "anna", 4)
    assert name(people, "9999", "own", 2) == ("9999", None, 4)
    assert name(people, "9999", "mail", 4) == ("anna", None, None)
    assert name(people, "9999", None, 9) == (None, None, None)
    assert [name(people, None, "till", day)[0] for day in (3, 4)] == ["9999", None]


def test_a_shared_id_takes_no_address_from_its_holder():
    learned = [("mail", "anna", 1), ("mail", "9999", 2), ("x", "9999", 2), ("y", "9999", 2)]
    people = list_people(learned=learned, shared=[("9999", 2)])
    assert [name(people, None, mail, 3)[0] for mail in ("mail", "x")] == ["anna", None]


def test_accounts_that_were_merged_are_one_holder_of_their_address():
    accounts = [("old", "mail", 1, None), ("new", "mail", 3, None), ("old", "mail", 5, "new"), ("old", "mail", 8, None)]
    people = list_people(accounts)
    assert [name(people, None, "mail", day)[0] for day in (2, 4, 6, 9)] == ["old", None, "new", None]
    assert people.merges.rows() == [("old", "new", MARCH[4]), ("old", "old", MARCH[7])]
    rows = pa.Table.from_pylist(
        [{"customer_id": c, "email_key": m, "day": MARCH[d - 1], "merged_into": i} for c, m, d, i in accounts[:3]],
        customers.TABLE.arrow_schema,
    )
    assert customers.find_shared_mails(rows, 1).rows() == []
    assert customers.find_shared_mails(rows.slice(0, 2), 1).rows() == [("mail", MARCH[2], 2)]


def clean_events(people, *rows):
    """Return clean.events and the links of views (visitor, time, customer, address)."""
    views = [
        {"visitor_id": visitor, "event_at": at, "customer_id": customer, "email_key": mail, "event_type": "view",
         "day": datetime.fromisoformat(at).date()}
        for visitor, at, customer, mail in rows
    ]  # fmt: skip
    cleaned = kernels.clean(kernels.classify(land(bronze_events.TABLE, *views), Clean(), people), Clean(), people)
    return cleaned["events"], cleaned["links"]


def whose(rows):
    """(hour, customer, day from which, former customer, day until which) of events."""
    columns = ("customer_id", "identified_on", "former_customer_id", "shared_since")
    return [(row["event_at"].hour, *(v.day if isinstance(v := row[c], date) else v for c in columns)) for row in rows.to_pylist()]


def test_events_of_a_shared_id_were_its_own_until_it_showed_and_are_then_found_by_address():
    people = list_people([("anna", "mail", 1, None)], shared=[("9999", 4)])
    rows, links = clean_events(
        people, ("v", "2024-03-02 10:00", "9999", "mail"), ("w", "2024-03-02 11:00", "9999", None),
        ("w", "2024-03-02 12:00", None, None), ("x", "2024-03-05 13:00", "9999", "mail"), ("y", "2024-03-05 14:00", "9999", None),
    )  # fmt: skip
    expected = [(10, "anna", 2, "9999", 4), (11, None, 2, "9999", 4), (12, None, 2, "9999", 4), (13, "anna", 5, None, None),
                (14, None, None, None, None)]  # fmt: skip
    assert sorted(whose(rows)) == expected
    again = events.restate_events({"events": rows, "links": links, "linked": links.select(["visitor_id"])})["events"]
    assert sorted(whose(again)) == expected


def test_an_event_with_the_address_of_a_later_account_is_its_own_from_then_on():
    people = list_people([("anna", "mail", 5, None)])
    rows, links = clean_events(
        people,
        ("v", "2024-03-02 10:00", None, "mail"),
        ("w", "2024-03-02 11:00", "bert", None),
        ("w", "2024-03-02 12:00", None, "mail"),
    )
    expected = [(10, "anna", 5, None, None), (11, "bert", 2, None, None), (12, "bert", 2, None, None)]
    assert sorted(whose(rows)) == expected
    linked = pa.table({"visitor_id": ["v", "w"]})
    again = events.restate_events({"events": rows, "links": links, "linked": linked})["events"]
    assert sorted(whose(again)) == expected
    assert set(links["customer_id"].to_pylist()) == {"bert"}
    assert identities.TABLE.columns == links.column_names
