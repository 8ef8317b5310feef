"""Mappings: those that come with Shoal load; each mistake is one line that names the file and the key."""

from datetime import date

import pytest

from jobs.config.settings import HOME
from jobs.config.source_files import find_files
from jobs.config.source_mapping import TableMapping, load_source
from jobs.errors import UserError

GOOD = """name = "mine"
currency = "EUR"
[orders]
files = "*.csv"
[orders.columns]
order_id = "a"
ordered_at = "b"
product_id = "c"
quantity = "d"
"""
EVENTS = '[events]\nfiles = "e.csv"\n[events.columns]\nevent_at = "a"\nevent_type = "b"\n'


@pytest.mark.parametrize("path", sorted((HOME / "conf" / "sources").glob("*.toml")), ids=lambda p: p.stem)
def test_a_shipped_mapping_loads(path):
    assert load_source(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "[orders", "mine.toml: "),
        ("nmae = 'x'\n" + GOOD, "unknown key 'nmae'"),
        (GOOD.replace("EUR", "euro"), "currency must be"),
        (GOOD.replace('"mine"', '"my shop"'), "name must be"),
        (GOOD.split("[orders]")[0], "maps neither events nor orders"),
        (GOOD.replace("files =", "file ="), "[orders]: unknown key 'file'"),
        (GOOD.replace('files = "*.csv"\n', ""), "[orders] lacks files"),
        (GOOD + 'colour = "e"\n', "[orders]: unknown column 'colour'"),
        (GOOD.replace('ordered_at = "b"\n', ""), "[orders] lacks ordered_at"),
        (
            GOOD + 'undoes_order_id = "e"\noriginal_order_id = "e"\n',
            "[orders]: undoes_order_id is the old name of original_order_id",
        ),
        (GOOD + EVENTS, "[events] lacks visitor_id or customer_id"),
        (GOOD.replace("[orders.columns]", 'format = "xml"\n[orders.columns]'), "[orders]: format must be"),
        (GOOD.replace("[orders.columns]", 'delimiter = ""\n[orders.columns]'), "[orders]: delimiter must be one or more"),
        (GOOD.replace("[orders.columns]", "delimiter = '\"'\n[orders.columns]"), "[orders]: delimiter must be one or more"),
        (GOOD.replace("[orders.columns]", 'quote = "||"\n[orders.columns]'), "[orders]: quote must be one ASCII"),
        (GOOD.replace("[orders.columns]", "escape = '\"'\n[orders.columns]"), "[orders]: escape must differ from quote"),
        (GOOD.replace("[orders.columns]", "comment = '\"'\n[orders.columns]"), "[orders]: comment must be"),
        (GOOD.replace("[orders.columns]", 'header = ["a", "a"]\n[orders.columns]'), "[orders]: header names column 'a' twice"),
        (GOOD.replace("[orders.columns]", 'header = "a"\n[orders.columns]'), "[orders]: header must be a list"),
        (GOOD.replace("[orders.columns]", 'pattern = "a"\n[orders.columns]'), "pattern does not go with format = 'csv'"),
        (GOOD.replace("[orders.columns]", 'format = "text"\n[orders.columns]'), "needs a pattern with named groups"),
        (GOOD.replace("[orders.columns]", 'format = "text"\npattern = "("\n[orders.columns]'), "no regular expression"),
        (GOOD.replace("[orders.columns]", 'encoding = "base64"\n[orders.columns]'), "[orders]: encoding 'base64' is none"),
        (GOOD.replace("[orders.columns]", 'encoding = "utf9"\n[orders.columns]'), "[orders]: encoding 'utf9' is none"),
        (GOOD.replace("[orders.columns]", 'personal = {m = "phone"}\n[orders.columns]'), "[orders]: personal fields"),
        (GOOD.replace("[orders.columns]", 'time_zone = "Berlin"\n[orders.columns]'), "[orders]: time_zone 'Berlin' is none"),
        ('time_zone = "CEST+1"\n' + GOOD, "[orders]: time_zone 'CEST+1' is none"),
        (
            GOOD.replace("[orders.columns]", 'delivery = "daily"\n[orders.columns]'),
            "[orders]: delivery is a word of orders alone",
        ),
        (GOOD.replace("[orders.columns]", 'fill_down = ["a"]\n[orders.columns]'), "[orders]: fill_down must be { by ="),
        (
            GOOD.replace("[orders.columns]", 'select = "SELECT 1"\nunnest = "a"\n[orders.columns]'),
            "[orders]: a select says itself",
        ),
        (GOOD + '[orders.lookups.people]\nfiles = "p.csv"\nkey = "a"\n', "[orders] lookups.people lacks on"),
        (GOOD + '[orders.lookups.rows]\nfiles = "p.csv"\nkey = "a"\non = "a"\n', "other than 'rows'"),
        (
            GOOD + '[orders.lookups.p]\nfiles = "p"\nkey = "a"\non = "a"\nfile_day = "(x)"\n',
            "needs a file_day of the mapping too",
        ),
        (GOOD + '[orders.lookups.p]\nfile = "p"\n', "[orders] lookups.p: unknown key 'file'"),
        (
            GOOD.replace("[orders", "[[orders").replace("s]\nfiles", "s]]\nfiles").replace("[[orders.", "[orders.")
            + '[[orders]]\nfiles = "f"\n',
            "[orders] number 2 lacks order_id",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path, text, says):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_source(str(path))
    assert str(path) in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_knows_the_columns_of_all_mappings_of_a_table(tmp_path):
    second = '[[orders]]\nfiles = "r.csv"\n[orders.columns]\norder_id = "a"\nordered_at = "b"\nkind = "c"\n'
    (tmp_path / "mine.toml").write_text('time_zone = "Asia/Tokyo"\n' + GOOD.replace("[orders]", "[[orders]]") + second)
    source = load_source(str(tmp_path / "mine.toml"))
    assert source.columns("orders") == {"order_id", "ordered_at", "product_id", "quantity", "kind"}
    assert (source.has("orders"), source.has("events"), source.columns("events")) == (True, False, frozenset())
    assert [(mapping.files, mapping.time_zone) for mapping in source.all_mappings()] == [
        ("*.csv", "Asia/Tokyo"), ("r.csv", "Asia/Tokyo"),
    ]  # fmt: skip


def test_a_column_is_personal_in_all_mappings_of_the_same_files(tmp_path):
    events = EVENTS.replace("e.csv", "*.csv").replace(
        "[events.columns]", 'personal = {mail = "email"}\n[events.columns]\ncustomer_id = "c"'
    )
    products = '[products]\nfiles = "p.csv"\n[products.columns]\nproduct_id = "a"\n'
    (tmp_path / "mine.toml").write_text(GOOD + events + products)
    source = load_source(str(tmp_path / "mine.toml"))
    assert [mapping.personal for mapping in source.all_mappings()] == [{"mail": "email"}, {"mail": "email"}, {}]


def test_a_path_is_a_key_in_json_unless_it_begins_with_a_look_up(tmp_path):
    lookup = '[orders.lookups.people]\nfiles = "p.csv"\nkey = "a"\non = "a.b"\n'
    (tmp_path / "mine.toml").write_text(GOOD.replace('"c"', '"people.c"').replace('"d"', '"item.d"') + lookup)
    (mapping,) = load_source(str(tmp_path / "mine.toml")).mappings["orders"]
    assert mapping.columns["product_id"] == "people.c"
    assert mapping.columns["quantity"] == """TRY(json_extract_string("item", '$.d'))"""
    assert mapping.lookups[0].on == """TRY(json_extract_string("a", '$.b'))"""


def test_the_old_name_of_a_column_is_read_as_its_new_name(tmp_path):
    mappings = []
    for name in ("undoes_order_id", "original_order_id"):
        (tmp_path / f"{name}.toml").write_text(GOOD + f'{name} = "e"\n')
        mappings += load_source(str(tmp_path / f"{name}.toml")).mappings["orders"]
    assert [mapping.columns["original_order_id"] for mapping in mappings] == ["e", "e"]
    assert mappings[0].fingerprint() == mappings[1].fingerprint()


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(UserError, match=r"does not exist; known sources: .*uci_online_retail"):
        load_source("nowhere")


def test_files_are_found_by_name_and_know_their_day(tmp_path):
    mapping = TableMapping("orders", "*.csv", {}, file_day=r"(\d{4}-\d{2}-\d{2})")
    (tmp_path / "a-2026-03-01.csv").touch()
    (tmp_path / "other.txt").touch()
    assert [name for name, _ in find_files(str(tmp_path), mapping)] == ["a-2026-03-01.csv"]
    assert mapping.file_day_of("a-2026-03-01.csv") == date(2026, 3, 1)
    with pytest.raises(UserError, match=r"file a\.csv has no day"):
        mapping.file_day_of("a.csv")
