"""features.texts: one row per distinct text, kind and text model, with the vector that the model gives the text.

Inputs: clean.events, clean.products. A text is named by a keyed hash and is not stored. It is embedded once per model: a refresh
embeds the words of searches on changed days, and the names of products, that are not there yet.
"""

from collections.abc import Iterator
from datetime import date
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.clean import events as clean_events
from jobs.clean import products as clean_products
from jobs.config.settings import Settings
from jobs.engine.runner import open_runner
from jobs.engine.tasks import Produced, Tables, Write
from jobs.features._text_keys import find_secret, hash_texts, normalize_texts
from jobs.quality import reconciliation
from jobs.storage.commits import File
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_lists
from jobs.text_models import TextModel

SEARCH, PRODUCT = "search", "product"
SCHEMA = """
    text_key STRING NOT NULL COMMENT 'keyed hash of the text, 32 hex digits',
    kind STRING NOT NULL COMMENT 'search or product',
    language STRING COMMENT 'null: guesses from a few words are wrong too often',
    model STRING NOT NULL COMMENT 'text model; its name changes with its files and its settings',
    first_day DATE NOT NULL COMMENT 'first day of the text among those known when it was embedded',
    vector ARRAY<FLOAT> NOT NULL COMMENT 'of length 1; not comparable across models'"""
TABLE = Table("features.texts", __doc__.split("\n\n")[0], SCHEMA)
_TEXT_SCHEMA = pa.schema([("text_key", pa.string()), ("kind", pa.string()), ("text", pa.string()), ("first_day", pa.date32())])


def embed_texts(tables: Tables, model: TextModel) -> Tables:
    """Return features.texts as `texts`: a row for each of `texts` (text_key, kind, text, first_day), in their order."""
    texts = tables["texts"]
    vectors = model.encode(texts["text"].to_pylist()) if texts.num_rows else None
    columns = {
        "text_key": texts["text_key"],
        "kind": texts["kind"],
        "language": pa.nulls(texts.num_rows, pa.string()),
        "model": pa.repeat(pa.scalar(model.name), texts.num_rows),
        "first_day": texts["first_day"],
        "vector": pa.nulls(0, pa.list_(pa.float32())) if vectors is None else to_lists(vectors),
    }
    return {"texts": pa.table(columns).cast(TABLE.arrow_schema)}


def run(lake: Lake, settings: Settings, model: TextModel | None, day: date) -> None:
    """Embed the texts of the days up to `day` that have changed, and of products, which have no vector of the model yet.

    Raises UserError where there are texts and no key is set.
    """
    opened = lake.open_for_write(TABLE)
    if model is None:
        return
    inputs = {
        searched: reconciliation.fingerprint_inputs(model.name, revision)
        for searched, revision in reconciliation.read_revisions(lake, "clean.events").items()
        if searched <= day
    }
    due = reconciliation.due_days(lake, TABLE.name, inputs, [])
    texts = pl.concat([_read_searches(lake, due), _read_product_names(lake)])
    texts = texts.with_columns(text=normalize_texts(texts["text"], settings.text.max_characters)).drop_nulls("text")
    texts = texts.group_by("kind", "text").agg(first_day=pl.col("day").min())
    if len(texts):
        texts = texts.with_columns(text_key=hash_texts(texts["text"], find_secret())).join(
            _read_embedded(lake, model), ["text_key", "kind"], "anti"
        )
    if len(texts):
        opened.append(_embed(lake, settings, model, texts.sort("text_key", "kind").select(_TEXT_SCHEMA.names)))
    reconciliation.write_accounts(lake, {TABLE.name: [reconciliation.Account(d, 0, 0, inputs[d]) for d in due]})


def _embed(lake: Lake, settings: Settings, model: TextModel, texts: pl.DataFrame) -> list[File]:
    parts = tuple(part.to_arrow().cast(_TEXT_SCHEMA) for part in texts.iter_slices(model.texts_per_call))
    with open_runner(lake, settings, len(texts)) as runner:
        rows = runner.read({"texts": Produced(_yield_part, parts, _TEXT_SCHEMA, "text_key")}, len(parts))
        return runner.run(partial(embed_texts, model=model), rows, {"texts": Write(TABLE)}).files["texts"]


def _yield_part(part: pa.Table) -> Iterator[pa.Table]:
    yield part


def _read_searches(lake: Lake, days: list[date]) -> pl.DataFrame:
    is_searched = ds.field("search_term").is_valid() & ~ds.field("is_bot") & (ds.field("event_type") == "search")
    columns = ("search_term", "day")
    rows = read_rows(lake.root, Rows(clean_events.TABLE, "day", columns, days, where=is_searched))
    return to_frame(rows).select(kind=pl.lit(SEARCH), text="search_term", day="day")


def _read_product_names(lake: Lake) -> pl.DataFrame:
    rows = read_rows(lake.root, Rows(clean_products.TABLE, "product_id", ("name", "day")))
    return to_frame(rows).select(kind=pl.lit(PRODUCT), text="name", day="day")


def _read_embedded(lake: Lake, model: TextModel) -> pl.DataFrame:
    is_of_model = ds.field("model") == model.name
    return pl.DataFrame(pl.from_arrow(read_rows(lake.root, Rows(TABLE, "text_key", ("text_key", "kind"), where=is_of_model))))
