"""The HTTP API of a real server: what it answers, whom it refuses, and that an answer is of one published day."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.bi import complete_rows
from jobs.cli.serve import read_token
from jobs.config.settings import HOME
from jobs.errors import UserError
from jobs.marts import customer_segments, refreshes, segment_changes, segment_profiles
from jobs.scores import customer_values
from jobs.serve import follower as following
from jobs.serve.snapshot import OUTCOMES, RECOMMENDATIONS, _shrink_column
from jobs.storage.lake import Lake

FIRST = date(2024, 3, 1)
NEXT = FIRST + timedelta(days=1)
TOKEN = "a token of the tests alone"  # noqa: S105
IDS = [f"c{n}" for n in range(7)]


def write_day(lake: Lake, day: date, segment_of: dict[str, int]) -> None:
    """Write the tables of a day, and last its row of marts.refreshes."""
    segments = sorted(set(segment_of.values()))
    write(lake, customer_segments.TABLE, [
        {"customer_id": c, "segment_id": s, "segment_name": f"Segment {s}", "as_of_day": day, "since_day": FIRST,
         "reasons": ["many orders"], "net_365d": Decimal("9.5")} for c, s in segment_of.items()
    ])  # fmt: skip
    profiles = [{"segment_id": s, "segment_name": f"Segment {s}", "n_customers": list(segment_of.values()).count(s),
                 "traits": [{"feature": "orders_365d", "effect": 1.5}]} for s in segments]  # fmt: skip
    write(lake, segment_profiles.TABLE, profiles, day)
    changes = [{"customer_id": c, "change": "added", "to_segment_id": s} for c, s in segment_of.items()]
    if day > FIRST:
        changes = [{"customer_id": "c1", "change": "changed", "from_segment_id": 1, "to_segment_id": segment_of["c1"]}]
    write(lake, segment_changes.TABLE, changes, day)
    write(lake, customer_values.TABLE, [
        {"customer_id": "c1", "method": "mbg_nbd", "p_alive": 0.25 if day == FIRST else 0.75}
    ], day)  # fmt: skip
    publish(lake, day)


def write(lake: Lake, table, rows: list[dict], day: date | None = None) -> None:
    rows = pa.Table.from_pylist([row | ({"day": day} if day else {}) for row in rows], table.arrow_schema)
    lake.replace_rows(table, complete_rows(table, rows), [day] if day else None)


def publish(lake: Lake, day: date, hour: int = 12) -> None:
    names = [
        table.name for table in (customer_segments.TABLE, segment_profiles.TABLE, segment_changes.TABLE, customer_values.TABLE)
    ]
    names += [table.name for table in (OUTCOMES, RECOMMENDATIONS) if lake.exists(table.name)]
    facts = {
        "run_id": f"{day} {hour}",
        "day": day,
        "finished_at": datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour),
    }
    row = refreshes.build_manifest(facts, {}, {name: lake.version(name) for name in names})
    lake.replace_rows(refreshes.TABLE, pa.concat_tables([lake.read_arrow(refreshes.TABLE), row]))


class Served:
    """`shoal serve` over a lake, as a process."""

    def __init__(self, lake: Lake) -> None:
        variables = {"SHOAL_LAKE": lake.root, "SHOAL_API_TOKEN": TOKEN, "SHOAL_SOURCE": "sample"}
        command = [sys.executable, "-m", "jobs", "serve", "--port", "0"]
        self.process = subprocess.Popen(command, cwd=HOME, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
        self.first_line = self.process.stdout.readline()
        self.port = int(self.first_line.split("/docs")[0].rpartition(":")[2])

    def get(self, path: str, token: str | None = TOKEN, method: str = "GET") -> tuple[int, dict | str]:
        """Return the status and the content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if answer.headers["content-type"] == "application/json" else text

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        return out


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    lake = Lake(None, str(tmp_path_factory.mktemp("served") / "lake"))
    write_day(lake, FIRST, {c: 1 for c in IDS})
    write_day(lake, NEXT, {c: 1 if c == "c0" else 2 for c in IDS})
    server = Served(lake)
    yield server
    assert server.stop() == "serve: ended\n"


def test_a_customer_has_the_segment_the_reasons_and_the_values_of_the_day(served):
    status, customer = served.get("/customers/c1")

    assert status == 200
    expected = {"day": "2024-03-02", "customer_id": "c1", "segment_id": 2, "since_day": "2024-03-01", "net_365d": 9.5}
    assert {name: customer[name] for name in expected} == expected
    assert (customer["reasons"], customer["values"]["p_alive"], customer["outcomes"]) == (["many orders"], 0.75, [])
    assert served.get("/customers/c2")[1]["values"] is None


def test_segments_are_listed_and_described(served):
    status, content = served.get("/segments")

    assert (status, [(row["segment_id"], row["n_customers"]) for row in content["segments"]]) == (200, [(1, 1), (2, 6)])
    assert "traits" not in content["segments"][0]
    assert served.get("/segments/2")[1]["traits"][0]["feature"] == "orders_365d"


def test_pages_give_each_customer_of_a_segment_once(served):
    pages, cursor = [], ""
    while cursor is not None:
        _, content = served.get(f"/segments/2/customers?limit=4{cursor and f'&cursor={cursor}'}")
        pages.append([row["customer_id"] for row in content["customers"]])
        cursor = content["next_cursor"]

    assert pages == [["c1", "c2", "c3", "c4"], ["c5", "c6"]]


def test_changes_since_a_day_are_the_net_of_all_days_after_it(served):
    assert served.get("/changes?since=2024-03-01")[1]["changes"] == [
        {"customer_id": "c1", "change": "changed", "from_segment_id": 1, "to_segment_id": 2, "day": "2024-03-02"}
    ]
    first = served.get("/changes?since=2024-02-01&limit=5")[1]
    last = served.get(f"/changes?since=2024-02-01&limit=5&cursor={first['next_cursor']}")[1]
    assert [row["customer_id"] for row in first["changes"] + last["changes"]] == IDS
    assert {row["to_segment_id"] for row in first["changes"] if row["customer_id"] == "c1"} == {2}
    assert last["next_cursor"] is None


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN.upper(), "Ünicode"])
@pytest.mark.parametrize("path", ["/customers/c1", "/segments", "/changes?since=2024-03-01"])
def test_without_the_token_nothing_is_answered(served, token, path):
    status, content = served.get(path, token and token.encode("utf-8").decode("latin-1"))

    assert (status, content) == (401, {"detail": "send the header Authorization: Bearer TOKEN"})


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/customers/nobody", 404, "no customer nobody is known on 2024-03-02"),
        ("/customers/nobody/recommendations", 404, "no customer nobody is known on 2024-03-02"),
        ("/customers/c1/recommendations", 404, "scores.recommendations was not published with 2024-03-02"),
        ("/segments/9", 404, "no segment 9 is published for 2024-03-02"),
        ("/segments/9/customers", 404, "no segment 9 is published for 2024-03-02"),
        ("/segments/2/customers?cursor=x", 400, "cursor is none that this address has given"),
        ("/segments/2/customers?cursor=1-2", 409, "2024-03-02 was published since the first page; begin again without a cursor"),
        ("/changes?since=2024-03-02", 400, "since=2024-03-02 is not before 2024-03-02, the day that is served"),
    ],
)
def test_what_cannot_be_answered_is_said(served, path, status, detail):
    assert served.get(path) == (status, {"detail": detail})


@pytest.mark.parametrize(
    "path", ["/segments/two", "/segments/2/customers?limit=0", "/segments/2/customers?limit=1001", "/changes"]
)
def test_a_wrong_parameter_is_refused(served, path):
    assert served.get(path)[0] == 422


def test_nothing_can_be_written(served):
    assert {served.get("/customers/c1", method=method)[0] for method in ("POST", "PUT", "DELETE", "PATCH")} == {405}


def test_the_openapi_page_describes_each_address_and_column(served):
    status, page = served.get("/openapi.json", token=None)

    assert (status, set(page["paths"])) == (200, {
        "/customers/{customer_id}", "/customers/{customer_id}/recommendations", "/segments", "/segments/{segment_id}",
        "/segments/{segment_id}/customers", "/changes",
    })  # fmt: skip
    columns = page["components"]["schemas"]["Customer"]["properties"]
    assert columns["since_day"]["description"] == "First day of the present stay in the segment"
    assert served.get("/docs", token=None)[0] == 200


def test_only_this_machine_can_reach_it(served):
    assert served.first_line == f"serve: http://127.0.0.1:{served.port}/docs, 2024-03-02, 7 customers (Ctrl-C ends it)\n"
    bound = [row.split()[1] for kind in ("tcp", "tcp6") for row in Path("/proc/net", kind).read_text().splitlines()]
    assert {address for address in bound if address.endswith(f":{served.port:04X}")} == {f"0100007F:{served.port:04X}"}


def test_an_answer_comes_at_once_on_a_connection_that_is_kept(served):
    """Without TCP_NODELAY each takes 40 ms."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    begun = datetime.now(UTC)
    for _ in range(50):
        connection.request("GET", "/customers/c1", headers={"Authorization": f"Bearer {TOKEN}"})
        connection.getresponse().read()
    assert (datetime.now(UTC) - begun).total_seconds() < 1.5


@pytest.fixture
def lake(tmp_path):
    lake = Lake(None, str(tmp_path / "lake"))
    write_day(lake, FIRST, {c: 1 for c in IDS})
    return lake


def test_a_new_publication_is_served_and_half_of_one_is_not(lake):
    followed = following.Follower(lake.root)
    before = followed.snapshot
    write(lake, customer_segments.TABLE, [{"customer_id": "c9", "segment_id": 3, "as_of_day": NEXT}])  # not published yet
    followed.look()
    assert followed.snapshot is before
    assert following.Follower(lake.root).snapshot.find_customer("c9") is None  # nor by a server that starts now

    write_day(lake, NEXT, {c: 2 for c in IDS})
    followed.look()

    assert (before.day, before.describe_customer(before.find_customer("c1"))["segment_id"]) == (FIRST, 1)
    place = followed.snapshot.find_customer("c1")
    customer = followed.snapshot.describe_customer(place)
    assert (followed.snapshot.day, customer["segment_id"], customer["values"]["p_alive"]) == (NEXT, 2, 0.75)


def test_the_publication_of_an_older_day_leaves_the_later_day(lake):
    write_day(lake, NEXT, {c: 2 for c in IDS})
    publish(lake, FIRST, hour=48)
    followed = following.Follower(lake.root)

    assert followed.snapshot.day == NEXT
    assert [row["segment_id"] for row in followed.snapshot.list_segments()] == [2]


def test_outcomes_and_recommendations_are_those_of_the_customer_and_the_day(lake):
    write(lake, OUTCOMES, [{"customer_id": c, "outcome": o, "probability": 0.5} for c in ("c2", "c1") for o in ("b", "a")], FIRST)
    offers = [("c1", 2, "tea"), ("c1", 1, "cup"), ("c2", 1, "toy"), ("gone", 1, "bag")]
    write(lake, RECOMMENDATIONS, [{"customer_id": c, "rank": rank, "product_id": p} for c, rank, p in offers], FIRST)
    publish(lake, FIRST, 13)
    snapshot = following.Follower(lake.root).snapshot
    place = snapshot.find_customer("c1")

    assert [row["outcome"] for row in snapshot.describe_customer(place)["outcomes"]] == ["a", "b"]
    assert [(row["rank"], row["product_id"]) for row in snapshot.list_scores(RECOMMENDATIONS, place)] == [(1, "cup"), (2, "tea")]
    assert snapshot.list_scores(RECOMMENDATIONS, snapshot.find_customer("c3")) == []


def test_customers_in_any_order_are_found(tmp_path):
    lake = Lake(None, str(tmp_path / "lake"))
    ids = ["b", "é", "a", "Z", "10", "9", "日本"]
    write_day(lake, FIRST, {c: 1 for c in ids})
    snapshot = following.Follower(lake.root).snapshot

    assert [snapshot.describe_customer(snapshot.find_customer(c))["customer_id"] for c in ids] == ids
    assert [snapshot.find_customer(c) for c in ("", "aa", "~", "z")] == [None] * 4


def test_a_lake_that_cannot_be_read_for_a_while_leaves_what_is_served(lake, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    followed = following.Follower(lake.root)
    os.rename(lake.root, tmp_path / "away")
    looks = iter([False, True])
    monkeypatch.setattr(followed._ended, "wait", lambda _: next(looks))
    followed._follow()

    assert followed.snapshot.day == FIRST
    assert "serve: the newest publication cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize(("token", "message"), [("", "is not set"), ("short", "has 5 characters, and must have at least 16")])
def test_without_a_token_it_does_not_start(token, message):
    with pytest.raises(UserError, match=f"serve: SHOAL_API_TOKEN {message}"):
        read_token({"SHOAL_API_TOKEN": token})


def test_a_port_in_use_and_a_lake_without_marts_give_one_line(lake, tmp_path):
    def read_refusal(root: str, port: int) -> tuple[int, str]:
        variables = {"SHOAL_LAKE": root, "SHOAL_API_TOKEN": TOKEN, "SHOAL_SOURCE": "sample"}
        command = [sys.executable, "-m", "jobs", "serve", "--port", str(port)]
        result = subprocess.run(command, cwd=HOME, env=os.environ | variables, capture_output=True, text=True, timeout=60)
        return result.returncode, result.stdout

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = f"error: serve: port {port} cannot be used (Address already in use); choose another: make serve PORT=8091\n"
        assert read_refusal(lake.root, port) == (2, refusal)
    nothing = f"error: serve: nothing was published in {tmp_path} yet; run first: make refresh, or name another lake with LAKE=\n"
    assert read_refusal(str(tmp_path), 0) == (2, nothing)


def test_money_is_the_number_that_the_table_shows():
    money = pa.chunked_array([pa.array([Decimal("548.9300"), Decimal("1081.4369"), None], pa.decimal128(18, 4))])
    assert _shrink_column(money).to_pylist() == [548.93, 1081.4369, None]
