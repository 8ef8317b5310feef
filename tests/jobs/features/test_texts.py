"""features.texts: a text is embedded once by a model."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from jobs.clean import events, products
from jobs.config.settings import Text
from jobs.errors import UserError
from jobs.features import texts
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from tests.jobs.features.logs import to_arrow

DAY = date(2024, 3, 2)
SETTINGS = SimpleNamespace(text=Text(max_characters=20), engine="local", business_time_zone="UTC")


class Counting:
    """A text model that remembers what it was given."""

    texts_per_call = 100  # in this process

    def __init__(self, name):
        self.name, self.texts = name, []

    def encode(self, texts):
        self.texts += texts
        return np.array([[len(text), 1] for text in texts], np.float32)


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", "a key that is long enough")
    lake = Lake(None, str(tmp_path))
    lake.replace_rows(products.TABLE, to_arrow(products.TABLE, [{"product_id": "1", "day": "1970-01-01", "name": "Mug"},
                                                                {"product_id": "2", "day": "1970-01-01"}]))  # fmt: skip
    write_searches(lake, "2024-03-01", "red mug", "red  mug", "🎁", "x" * 10_000_000, " ", "Mug")
    return lake


def write_searches(lake, day, *words):
    rows = [
        {"event_id": str(n), "day": day, "event_at": f"{day} 10:00:00", "visitor_id": "v", "session_id": "s", "search_term": term,
         "event_type": "search", "is_bot": False, "session_started_at": f"{day} 10:00:00", "active_since": f"{day} 10:00:00",
         "signed_in": False}
        for n, term in enumerate(words)
    ]  # fmt: skip
    lake.replace_rows(events.TABLE, to_arrow(events.TABLE, rows), [date.fromisoformat(day)])
    account = reconciliation.Account(date.fromisoformat(day), len(words), len(words), str(words))
    reconciliation.write_accounts(lake, {events.TABLE.name: [account]})


def embed(lake, name="m-1"):
    model = Counting(name)
    texts.run(lake, SETTINGS, model, DAY)
    return model.texts


def test_a_text_is_embedded_once_and_cut_before_it_is(lake):
    assert sorted(embed(lake)) == ["Mug", "Mug", "red mug", "x" * 20, "🎁"]  # of a search and of a product
    assert embed(lake) == []
    rows = lake.read_small_table(texts.TABLE)
    assert {(row["kind"], row["model"], row["language"]) for row in rows} == {("search", "m-1", None), ("product", "m-1", None)}
    assert all("mug" not in str(row).lower() for row in rows)


def test_a_new_day_and_another_model_embed_what_they_lack(lake):
    embed(lake)
    write_searches(lake, "2024-03-02", "red mug", "pen")
    assert embed(lake) == ["pen"]
    assert len(embed(lake, "m-2")) == 6
    assert len(lake.read_small_table(texts.TABLE)) == 12


def test_a_shop_without_texts_needs_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOAL_SECRET", raising=False)
    assert embed(Lake(None, str(tmp_path))) == []


def test_texts_without_a_key_are_refused_in_one_line(lake, monkeypatch):
    monkeypatch.delenv("SHOAL_SECRET")
    with pytest.raises(UserError, match=r"settings: features.texts names texts by a keyed hash and SHOAL_SECRET is not set"):
        embed(lake)
