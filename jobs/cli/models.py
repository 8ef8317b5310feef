"""`shoal models`: the trained models compared, and which of them is champion since when."""

import json
from datetime import date

from jobs.cli.text_table import align_columns
from jobs.errors import UserError
from jobs.storage import models

_LEFT_OUT_OF_SHOW = ("profile", "epochs", "policy")  # hundreds of numbers for machines; meta.json has them
_FIGURES = ("customers", "inputs", "latent", "epochs", "seconds", "test error", "of PCA", "trustworthiness")


def print_models(root: str) -> None:
    """Print every model, newest last, with its figures, the days since which it is champion, and its representation."""
    versions = models.versions(root)
    if not versions:
        raise UserError(f"models: none in {root}; run first: shoal train --day D")
    champion_since: dict[str, list[str]] = {}
    for entry in models.champion_history(root):
        is_learned = entry["representation"] == models.LEARNED_EMBEDDING
        by = "" if is_learned else f" by {entry['representation']}"
        champion_since.setdefault(entry["version"], []).append(entry["since"] + by)
    rows = [[version, *_figures(models.meta(root, version)), ", ".join(champion_since.get(version, []))] for version in versions]
    print("\n".join(align_columns([["model", *_FIGURES, "champion since"], *rows], left={0, len(_FIGURES) + 1})))


def print_model(root: str, version: str) -> None:
    """Print what meta.json says of a model, without its long lists of numbers."""
    meta = _read_meta(root, version)
    print(json.dumps({name: value for name, value in meta.items() if name not in _LEFT_OUT_OF_SHOW}, indent=1))


def print_comparison(root: str, version: str, other_version: str) -> None:
    """Print the figures of two models, and every setting, size, feature and library in which they differ."""
    metas = [_read_meta(root, name) for name in (version, other_version)]
    rows = [[name, *pair] for name, *pair in zip(_FIGURES, *map(_figures, metas), strict=True)]
    left, right = map(_flatten, metas)
    rows += [
        [name, left.get(name, "-"), right.get(name, "-")]
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]
    print("\n".join(align_columns([["", version, other_version], *rows], left={0, 1, 2})))


def promote_model(root: str, version: str, since: date | None) -> None:
    """Make a model champion from `since` on, or from the model's own day."""
    since = since or date.fromisoformat(_read_meta(root, version)["day"])
    models.promote(root, version, since)
    _print_champion(version, since.isoformat())


def rollback_champion(root: str, since: date | None) -> None:
    """Make the champion before this one champion again."""
    _print_champion(**models.rollback(root, since))


def _read_meta(root: str, version: str) -> dict:
    if not models.exists(root, version):
        raise UserError(f"models: no model '{version}' in {root}; see: shoal models list")
    return models.meta(root, version)


def _print_champion(version: str, since: str) -> None:
    print(f"{version} is champion from {since} on; days that were encoded with another model change when they are run again")


def _figures(meta: dict) -> list[str]:
    """Return the values of _FIGURES as texts; a model of an earlier version of Shoal lacks some."""
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
