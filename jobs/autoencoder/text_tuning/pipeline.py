"""Tune a text model on the shop's own texts, and keep it where it finds more than the model it came from."""

import hashlib
import json
import os
import time
from dataclasses import asdict, replace
from datetime import date, timedelta
from pathlib import Path

from jobs import progress
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.text_tuning import export
from jobs.autoencoder.text_tuning.base_model import BaseModel, read_base_model
from jobs.autoencoder.text_tuning.candidate import Candidate, train_candidate
from jobs.autoencoder.text_tuning.pairs import SPLIT_TENTHS, Pairs, ShopTexts, read_texts
from jobs.config.settings import Settings
from jobs.storage import models

FORMAT = 1  # raise it when the same inputs are to give another model
MIN_QUERIES = 5  # of each split; from fewer nothing can be said of other queries
_SETTINGS_WITHOUT_EFFECT_ON_WEIGHTS = {"enabled", "base", "retune_every_days"}


def run(settings: Settings, day: date) -> str | None:
    """Tune on the texts up to `day`. Return the version where it is kept, as champion from the next day on, else None.

    It begins on the next day because the texts of `day` have been embedded before. The same inputs are not tuned on again.
    Raises UserError for a base model that cannot be used, before anything is read.
    """
    if int(os.environ.get("RANK", "0")):  # torchrun started several processes, of which the first one tunes
        return None
    base, started = read_base_model(settings.tuning.base), time.perf_counter()
    settings = _limit_length(settings, base)
    texts = read_texts(settings.lake, day, settings.tuning.history_days)
    pairs = choose_pairs(texts)
    if pairs is None:
        log(f"the base model is kept: fewer than {MIN_QUERIES} queries with a product in train, validation or test")
        models.write_last_tuning(settings.models, {"version": None, "day": day.isoformat(), "kept": False})
        return None
    version = _name_version(settings, day, base, texts, pairs)
    last = models.read_last_tuning(settings.models)
    if last and last["version"] == version:
        log(f"{version} was tuned with the same inputs and {'kept' if last['kept'] else 'not kept'}; not tuned again")
        return version if last["kept"] else None
    checkpoint = CheckpointFile(settings.models, f"texts-{version}", settings.train.checkpoint_seconds)
    candidate = train_candidate(base, texts, pairs, settings.tuning, _open_champion(settings, day), checkpoint, log)
    meta = {"version": version, "day": day.isoformat(), "base": {"name": base.name, "sha256": base.sha256}}
    meta |= candidate.figures | {"kept": candidate.is_better, "seconds": round(time.perf_counter() - started, 1)}
    if candidate.is_better:
        _save(settings, day, base, texts, candidate, meta)
    models.write_last_tuning(settings.models, meta)
    models.remove_checkpoint(settings.models, f"texts-{version}")
    return version if candidate.is_better else None


def choose_pairs(texts: ShopTexts) -> Pairs | None:
    """Return the pairs by which models are compared: of searches, else of products; None where both have too few queries."""
    for pairs in (texts.searches, texts.products):
        if all(pairs.select(split).n_queries >= MIN_QUERIES for split in SPLIT_TENTHS):
            return pairs
    return None


def _limit_length(settings: Settings, base: BaseModel) -> Settings:
    return replace(settings, tuning=replace(settings.tuning, max_length=min(settings.tuning.max_length, base.shape.positions)))


def log(text: str) -> None:
    """Print one line of progress."""
    progress.log(f"train  texts: {text}")


def _name_version(settings: Settings, day: date, base: BaseModel, texts: ShopTexts, pairs: Pairs) -> str:
    tuning = {key: value for key, value in asdict(settings.tuning).items() if key not in _SETTINGS_WITHOUT_EFFECT_ON_WEIGHTS}
    inputs = [FORMAT, base.sha256, tuning, pairs.fingerprint(), texts.names.tolist(), texts.terms.tolist()]
    inputs.append(models.champion(settings.models, day, models.TEXT_MODELS))
    return models.name_version(day, json.dumps(inputs))


def _open_champion(settings: Settings, day: date) -> tuple[str, export.OnnxEncoder] | None:
    """Return the name and the encoder of the tuned model that is used on `day`, if there is one."""
    entry = models.champion(settings.models, day, models.TEXT_MODELS)
    if entry is None:
        return None
    names = (export.MODEL, export.TOKENIZER, export.CONFIG)
    graph, tokenizer, config = (models.read(settings.models, entry["version"], name, models.TEXT_MODELS) for name in names)
    return entry["version"], export.OnnxEncoder(graph, tokenizer, json.loads(config)["max_length"])


def _save(settings: Settings, day: date, base: BaseModel, texts: ShopTexts, candidate: Candidate, meta: dict) -> None:
    def write(folder: Path) -> None:
        export.write_files(folder, candidate.encoder, base, settings.tuning.max_length, texts.names.tolist())
        meta["sha256"] = hashlib.sha256((folder / export.MODEL).read_bytes()).hexdigest()
        (folder / "meta.json").write_text(json.dumps(meta, indent=1, allow_nan=False))

    since = day + timedelta(days=1)
    models.save_champion(settings.models, meta["version"], write, since, models.TEXT_MODELS)
    log(f"{meta['version']} is champion from {since} on")
