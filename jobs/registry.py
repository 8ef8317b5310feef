"""What `shoal models` does: the trained models side by side, and who of them is champion since when."""

import json
from argparse import Namespace
from datetime import date

from jobs import models, settings
from jobs.errors import UserError
from jobs.text_table import aligned

_LEFT_OUT_OF_SHOW = ("profile", "epochs", "policy")  # hundreds of numbers for machines; meta.json has them
_FIGURES = ("customers", "inputs", "latent", "epochs", "seconds", "test error", "of PCA", "trustworthiness")


def print_list(arguments: Namespace) -> None:
    """Every model, newest last, with its figures, the days since which it is champion, and by what if not as learned."""
    root = settings.load().models
    reigns: dict[str, list[str]] = {}
    for reign in models.reigns(root):
        by = "" if reign["representation"] == models.LEARNED else f" by {reign['representation']}"
        reigns.setdefault(reign["version"], []).append(reign["since"] + by)
    found = models.versions(root)
    if not found:
        raise UserError(f"models: none in {root}; run first: shoal train --day D")
    rows = [[version, *_figures(models.meta(root, version)), ", ".join(reigns.get(version, []))] for version in found]
    print("\n".join(aligned([["model", *_FIGURES, "champion since"], *rows], left={0, len(_FIGURES) + 1})))


def print_one(arguments: Namespace) -> None:
    """What meta.json says of a model, for a person."""
    told = _meta(settings.load().models, arguments.version)
    print(json.dumps({name: value for name, value in told.items() if name not in _LEFT_OUT_OF_SHOW}, indent=1))


def print_comparison(arguments: Namespace) -> None:
    """Two models: their figures, and every setting, size, feature and library in which they differ."""
    root = settings.load().models
    one, other = (_meta(root, version) for version in (arguments.version, arguments.other))
    rows = [[name, *pair] for name, *pair in zip(_FIGURES, _figures(one), _figures(other), strict=True)]
    ours, theirs = _flat(one), _flat(other)
    rows += [
        [name, ours.get(name, "-"), theirs.get(name, "-")]
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    print("\n".join(aligned([["", arguments.version, arguments.other], *rows], left={0, 1, 2})))


def promote(arguments: Namespace) -> None:
    """Make a model champion from a day on, its own where none is named."""
    root = settings.load().models
    told = _meta(root, arguments.version)
    since = arguments.since or date.fromisoformat(told["day"])
    models.promote(root, arguments.version, since)
    _tell(arguments.version, since.isoformat())


def rollback(arguments: Namespace) -> None:
    """Make the champion before this one champion again."""
    _tell(**models.rollback(settings.load().models, arguments.since))


def _meta(root: str, version: str) -> dict:
    if not models.exists(root, version):
        raise UserError(f"models: no model '{version}' in {root}; see: shoal models list")
    return models.meta(root, version)


def _tell(version: str, since: str) -> None:
    print(f"{version} is champion from {since} on; days that were encoded with another model change when they are run again")


def _figures(told: dict) -> list[str]:
    """As of _FIGURES; a model of an earlier version of Shoal lacks some."""
    sizes, epochs = told.get("sizes", {}), told.get("epochs", [])
    counts = (sum(told.get("customers", {}).values()), len(told.get("inputs", [])), sizes.get("latent", 0), len(epochs))
    errors = (told.get(name) for name in ("test_error", "test_error_pca", "trustworthiness"))
    return [*(f"{n:,}" for n in counts), str(told.get("seconds", "-")), *("-" if e is None else f"{e:.4f}" for e in errors)]


def _flat(told: dict) -> dict[str, str]:
    """The facts in which models may differ, a line each."""
    parts = {name: told.get(name, {}) for name in ("settings", "sizes", "libraries", "scaling")}
    flat = {f"{part} {name}": str(value) for part, facts in parts.items() for name, value in facts.items()}
    flat |= {name.replace("_", " "): str(told.get(name, "-")) for name in ("delta_version", "device")}
    flat["policy"] = told.get("policy", {}).get("sha256", "-")[:8]
    return flat | {f"input {name}": "yes" for name in told.get("inputs", [])}
