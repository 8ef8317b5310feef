"""A tiny model of random weights, and a shop whose customers search by words of their own."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from deltalake import write_deltalake
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from jobs.autoencoder.text_tuning import pipeline
from jobs.autoencoder.text_tuning.bert import Encoder, Shape
from jobs.config.settings import Settings, Tuning
from jobs.storage.delta import table_path

DAY = date(2026, 1, 31)
MEANINGS, STYLES, MAKERS = 10, 7, 4
# Invented words, so that no model knows them: a search has a word for the thing and a style, a name another word and a maker.
SEARCH_WORDS = [f"zorb{n}" for n in range(MEANINGS)]
NAME_WORDS = [f"quil{n}" for n in range(MEANINGS)]
STYLE_WORDS = [f"styl{n}" for n in range(STYLES)]
MAKER_WORDS = [f"make{n}" for n in range(MAKERS)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a model of two layers that knows the words and nothing of their meaning."""
    return write_base(tmp_path / "tiny")


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> Settings:
    """Settings for a quick tuning of all layers."""
    return make_settings(tmp_path, base)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, date, str]:
    """The settings of a tuning that was kept, its day and its version."""
    folder = tmp_path_factory.mktemp("tuned")
    settings = make_settings(folder, write_base(folder / "tiny"))
    write_shop_rows(settings.lake)
    return settings, DAY, pipeline.run(settings, DAY)


@pytest.fixture
def day() -> date:
    return DAY


@pytest.fixture
def write_shop(settings: Settings) -> Callable[..., None]:
    """The function write_shop_rows for the lake of the settings."""
    return partial(write_shop_rows, settings.lake)


def make_settings(folder: Path, base: Path) -> Settings:
    tuning = Tuning(True, str(base), learning_rate=0.01, batch_size=32, epochs=3, max_length=8)
    return Settings(f"{folder}/lake", f"{folder}/models", reports="", source="", input="", tuning=tuning)


def write_base(folder: Path) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    words = [*SPECIAL, *SEARCH_WORDS, *NAME_WORDS, *STYLE_WORDS, *MAKER_WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "bert", "vocab_size": len(words), "max_position_embeddings": 16, "type_vocab_size": 2, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    torch.manual_seed(3)
    weights = Encoder(Shape(len(words), 16, 2, 32, 64, 2, 4)).state_dict()
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    return folder


def write_shop_rows(lake: str, opens_anything: bool = False, has_searches: bool = True) -> None:
    """Write what people do in the shop, who open what they search for, or anything.

    Where they do not search, they look at two things of one meaning.
    """
    random = np.random.default_rng(5)
    products = [(meaning, maker) for meaning in range(MEANINGS) for maker in range(MAKERS)]
    names = {f"p{meaning}-{maker}": f"{NAME_WORDS[meaning]} {MAKER_WORDS[maker]}" for meaning, maker in products}
    rows = []
    for visit in range(1500):
        meaning = int(random.integers(MEANINGS))
        if has_searches:
            rows.append((visit, "search", f"{SEARCH_WORDS[meaning]} {STYLE_WORDS[random.integers(STYLES)]}", None))
        for _ in range(2):
            popular = int(MEANINGS * random.random() ** 2)  # where anything is opened, some things are more often than others
            opened = popular if opens_anything else meaning
            rows.append((visit, "view", None, f"p{opened}-{random.integers(MAKERS)}"))
    write_rows(lake, rows, names)


def write_rows(lake: str, rows: list[tuple], names: dict[str, str]) -> None:
    """Write events (session, type, term, product), a second apart, and the names of products."""
    start = datetime(2026, 1, 31, tzinfo=UTC)
    sessions, types, terms, products = zip(*rows, strict=True)
    events = {
        "event_id": [f"{n:06d}" for n in range(len(rows))],
        "event_at": [start + timedelta(seconds=n) for n in range(len(rows))],
        "session_id": [str(session) for session in sessions],
        "event_type": list(types),
        "product_id": pa.array(products, pa.string()),
        "search_term": pa.array(terms, pa.string()),
        "is_bot": [False] * len(rows),
        "day": [DAY] * len(rows),
    }
    write_deltalake(table_path(lake, "clean.events"), pa.table(events), partition_by=["day"])
    products = {"product_id": list(names), "day": [date(1970, 1, 1)] * len(names), "name": list(names.values())}
    write_deltalake(table_path(lake, "clean.products"), pa.table(products))
