"""`shoal models`: the trained models of a family compared, and which of them is champion since when."""

import json
from datetime import date

from jobs.cli.text_table import align_columns
from jobs.errors import UserError
from jobs.storage import models

_LEFT_OUT_OF_SHOW = ("profile", "epochs", "policy", "roc")  # hundreds of numbers for machines; meta.json has them
_FIGURES = {
    models.FAMILY: ("customers", "inputs", "latent", "epochs", "seconds", "test error", "of PCA", "trustworthiness"),
    models.CUSTOMER_OUTCOMES: ("outcomes", "left out", "encoder"),
    models.CUSTOMER_VALUES: ("customers", "repeat buyers", "method", "money deviance", "of last period", "of segment mean"),
    models.RECOMMENDATIONS: ("customers", "products offered", "method", "NDCG", "of popularity"),
    models.TEXT_MODELS: ("base", "queries", "recall at 10", "of base", "MRR", "of base"),
}


def print_models(root: str, family: str) -> None:
    """Print every model, newest last, with its figures, the days since which it is champion, and its representation."""
    versions = models.versions(root, family)
    if not versions:
        step = {models.FAMILY: "train", models.TEXT_MODELS: "train --texts"}.get(family, "score")
        raise UserError(f"models: none in {root}/{family}; run first: shoal {step} --day D")
    champion_since: dict[str, list[str]] = {}
    for entry in models.champion_history(root, family):
        is_learned = entry["representation"] == models.LEARNED_EMBEDDING
        by = "" if is_learned or family != models.FAMILY else f" by {entry['representation']}"
        champion_since.setdefault(entry["version"], []).append(entry["since"] + by)
    rows = [
        [version, *_figures(models.meta(root, version, family), family), ", ".join(champion_since.get(version, []))]
        for version in versions
    ]
    names = _FIGURES[family]
    print("\n".join(align_columns([["model", *names, "champion since"], *rows], left={0, len(names) + 1})))


def print_model(root: str, version: str, family: str) -> None:
    """Print what meta.json says of a model, without its long lists of numbers."""
    meta = _read_meta(root, version, family)
    print(json.dumps(_leave_out(meta), indent=1))


def _leave_out(meta: object) -> object:
    """Return what meta.json says without _LEFT_OUT_OF_SHOW, at any depth."""
    if not isinstance(meta, dict):
        return meta
    return {name: _leave_out(value) for name, value in meta.items() if name not in _LEFT_OUT_OF_SHOW}


def print_comparison(root: str, version: str, other_version: str, family: str) -> None:
    """Print the figures of two models, and every setting, size, feature and library in which they differ."""
    metas = [_read_meta(root, name, family) for name in (version, other_version)]
    figures = (_figures(meta, family) for meta in metas)
    rows = [[name, *pair] for name, *pair in zip(_FIGURES[family], *figures, strict=True)]
    left, right = map(_flatten, metas)
    rows += [
        [name, left.get(name, "-"), right.get(name, "-")]
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]
    print("\n".join(align_columns([["", version, other_version], *rows], left={0, 1, 2})))


def promote_model(root: str, version: str, since: date | None, family: str) -> None:
    """Make a model champion from `since` on, or from the model's own day."""
    since = since or date.fromisoformat(_read_meta(root, version, family)["day"])
    models.promote(root, version, since, family=family)
    _print_champion(version, since.isoformat())


def rollback_champion(root: str, since: date | None, family: str) -> None:
    """Make the champion before this one champion again."""
    _print_champion(**models.rollback(root, since, family))


def _read_meta(root: str, version: str, family: str) -> dict:
    if not models.exists(root, version, family):
        raise UserError(f"models: no model '{version}' in {root}/{family}; see: shoal models list")
    return models.meta(root, version, family)


def _print_champion(version: str, since: str) -> None:
    print(f"{version} is champion from {since} on; days that were made with another model change when they are run again")


def _figures(meta: dict, family: str) -> list[str]:
    """Return the values of _FIGURES as texts; a model of an earlier version of Shoal lacks some."""
    if family == models.CUSTOMER_VALUES:
        measured = meta["backtest"]["figures"]
        deviances = (measured.get(name, {}).get("net_deviance") for name in (meta["method"], "last_period", "segment_mean"))
        texts = ["-" if value is None else f"{value:,.2f}" for value in deviances]
        return [f"{meta['customers']:,}", f"{meta['repeat_buyers']:,}", meta["method"], *texts]
    if family == models.CUSTOMER_OUTCOMES:
        methods = ", ".join(f"{name} by {facts['method']}" for name, facts in meta["outcomes"].items())
        return [methods or "-", ", ".join(meta["left_out"]) or "-", meta["encoder"]]
    if family == models.RECOMMENDATIONS:
        measured = meta["backtest"]["figures"]
        values = (measured.get(name, {}).get("ndcg") for name in (meta["method"], "popularity"))
        texts = ["-" if value is None else f"{value:.4f}" for value in values]
        return [f"{meta['customers']:,}", f"{meta['offered']:,}", meta["method"], *texts]
    if family == models.TEXT_MODELS:
        of_base, tuned = next(iter(meta["baselines"].values())), meta["tuned"]
        texts = [f"{figures[name]:.4f}" for name in ("recall_at_10", "mrr") for figures in (tuned, of_base)]
        return [meta["base"]["name"], f"{meta['queries']['test']['queries']:,} {meta['queries']['kind']}", *texts]
    sizes, epochs = meta.get("sizes", {}), meta.get("epochs", [])
    counts = (sum(meta.get("customers", {}).values()), len(meta.get("inputs", [])), sizes.get("latent", 0), len(epochs))
    errors = (meta.get(name) for name in ("test_error", "test_error_pca", "trustworthiness"))
    texts = ["-" if error is None else f"{error:.4f}" for error in errors]
    return [*(f"{count:,}" for count in counts), str(meta.get("seconds", "-")), *texts]


def _flatten(meta: dict) -> dict[str, str]:
    """Return the facts in which models may differ as texts by name."""
    parts = {name: meta.get(name, {}) for name in ("settings", "sizes", "libraries", "scaling")}
    flat = {f"{part} {name}": str(value) for part, facts in parts.items() for name, value in facts.items()}
    flat |= {name.replace("_", " "): str(meta.get(name, "-")) for name in ("delta_version", "device")}
    flat["policy"] = meta.get("policy", {}).get("sha256", "-")[:8]
    return flat | {f"input {name}": "yes" for name in meta.get("inputs", [])}
