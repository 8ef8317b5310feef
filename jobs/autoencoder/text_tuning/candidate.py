"""A candidate model: trained from the base model, then compared with it, and with the tuned model in use."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version as library_version

import numpy as np

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.fitting import select_device
from jobs.autoencoder.text_tuning import tokens
from jobs.autoencoder.text_tuning.base_model import BaseModel
from jobs.autoencoder.text_tuning.bert import Encoder
from jobs.autoencoder.text_tuning.export import OnnxEncoder
from jobs.autoencoder.text_tuning.fitting import Tuner
from jobs.autoencoder.text_tuning.objectives import ContrastiveObjective, MaskedObjective
from jobs.autoencoder.text_tuning.pairs import SEARCH, SPLIT_TENTHS, Pairs, ShopTexts
from jobs.autoencoder.text_tuning.retrieval import Comparison, Embed, Retrieval, compare, measure_retrieval
from jobs.config.settings import Tuning

MAX_VALIDATION_NAMES, MAX_TEST_NAMES = 2_000, 50_000  # ranked; beyond that, all that were clicked and some others
_LIBRARIES = ("torch", "tokenizers", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Candidate:
    """A tuned encoder, on the CPU, and what meta.json says of it."""

    encoder: Encoder
    is_better: bool  # than each of the models it was compared with
    figures: dict


def train_candidate(
    base: BaseModel,
    texts: ShopTexts,
    pairs: Pairs,
    settings: Tuning,
    champion: tuple[str, OnnxEncoder] | None,
    checkpoint: CheckpointFile,
    log: Callable[[str], None],
) -> Candidate:
    """Tune on the training queries of `pairs`, or on all texts where there are no searches, and compare on the test queries.

    `champion` is the tuned model in use, by its version.
    """
    device, parts = select_device(), {split: pairs.select(split) for split in SPLIT_TENTHS}
    sizes = {split: {"queries": part.n_queries, "clicks": int(part.counts.sum())} for split, part in parts.items()}
    of_parts = ", ".join(f"{split} {size['queries']:,} of {size['clicks']:,} clicks" for split, size in sizes.items())
    log(f"{base.name} on {device}; queries by {pairs.kind}: {of_parts}; {len(texts.names):,} names")
    encoder = base.build_encoder().to(device)
    embed = partial(tokens.embed, encoder, base.tokenizer, max_length=settings.max_length, device=device)
    names = choose_names(texts.names, parts["test"], MAX_TEST_NAMES)
    baselines = {f"base {base.name}": measure_retrieval(embed, parts["test"], names)}
    if champion:
        baselines[f"champion {champion[0]}"] = measure_retrieval(champion[1].embed, parts["test"], names)
    validation_names = choose_names(texts.names, parts["validation"], MAX_VALIDATION_NAMES)
    objective = _choose_objective(encoder, base, texts, parts["train"], settings, device)
    validate = partial(_measure_mrr, embed, parts["validation"], validation_names)
    progress = Tuner(encoder, objective, validate, settings, checkpoint, log).fit()
    is_better, figures = _compare(measure_retrieval(embed, parts["test"], names), baselines, settings.seed, log)
    figures |= {"objective": objective.name, "queries": {"kind": pairs.kind, **sizes}, "names": len(names), "device": device}
    figures |= {"best_epoch": progress.best_epoch, "epochs": progress.epochs, "settings": asdict(settings)}
    figures["libraries"] = {name: library_version(name) for name in _LIBRARIES}
    return Candidate(encoder.cpu(), is_better, figures)


def choose_names(names: np.ndarray, pairs: Pairs, most: int) -> np.ndarray:
    """Return the names that are ranked, sorted: those of `pairs`, and others by their hash up to `most` in all."""
    clicked = np.unique(pairs.names)
    others = sorted(np.setdiff1d(names, clicked), key=lambda name: hashlib.blake2b(name.encode()).digest())
    return np.unique(np.concatenate([clicked, np.array(others[: max(0, most - len(clicked))], object)]))


def _choose_objective(
    encoder: Encoder, base: BaseModel, texts: ShopTexts, pairs: Pairs, settings: Tuning, device: str
) -> ContrastiveObjective | MaskedObjective:
    is_search = pairs.kind == SEARCH
    learned = np.union1d(pairs.queries, pairs.names) if is_search else np.union1d(texts.names, texts.terms)
    tokenized = tokens.TokenizedTexts(base.tokenizer, learned.tolist(), settings.max_length)
    if is_search:
        return ContrastiveObjective(encoder, tokenized, pairs, settings, device)
    return MaskedObjective(encoder, tokenized, settings, device)


def _measure_mrr(embed: Embed, pairs: Pairs, names: np.ndarray) -> float:
    return float(measure_retrieval(embed, pairs, names).reciprocal_rank.mean())


def _compare(
    tuned: Retrieval, baselines: dict[str, Retrieval], seed: int, log: Callable[[str], None]
) -> tuple[bool, dict[str, object]]:
    """Return whether the tuned model is better than each baseline, and the figures of all."""
    comparisons = {name: compare(tuned, baseline, seed) for name, baseline in baselines.items()}
    for name, comparison in comparisons.items():
        log(_describe(name, baselines[name], tuned, comparison))
    of_baselines = {name: baselines[name].summarize() | {"gain": asdict(gain)} for name, gain in comparisons.items()}
    is_better = all(comparison.is_better for comparison in comparisons.values())
    return is_better, {"tuned": tuned.summarize(), "baselines": of_baselines}


def _describe(name: str, baseline: Retrieval, tuned: Retrieval, comparison: Comparison) -> str:
    figures = [
        f"{title} {getattr(tuned, field).mean():.4f} against {getattr(baseline, field).mean():.4f}"
        for title, field in (("recall at 10", "recall"), ("MRR", "reciprocal_rank"))
    ]
    low, high = comparison.mrr_interval
    verdict = "better" if comparison.is_better else "not better by more than chance, so it is not kept"
    return f"{', '.join(figures)} of {name}, difference of MRR {comparison.mrr:+.4f} ({low:+.4f} to {high:+.4f}): {verdict}"
