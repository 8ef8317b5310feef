"""What a search may choose, and how training takes over what it chose: the user's own settings stand."""

from dataclasses import fields, replace

from jobs.config.policy import DEFAULT, Column, Policy
from jobs.config.settings import Train

SEARCHED = ("hidden", "latent", "noise", "neighbours", "learning_rate")  # of Train; and:
SCALING = "scaling"  # the policy's, of columns for which it names no other


def defaults(settings: Train, rules: Policy) -> dict:
    """What a search may choose, as it is: whatever has its default value. Another value is the user's own."""
    usual = {field.name: field.default for field in fields(Train)}
    free = {name: usual[name] for name in SEARCHED if getattr(settings, name) == usual[name]}
    if scaling(rules) == Column.scaling:
        free[SCALING] = Column.scaling
    return free


def applied(settings: Train, rules: Policy, chosen: dict) -> tuple[Train, Policy]:
    """Settings and policy with what was `chosen`, as far as a search may choose it."""
    free = defaults(settings, rules)
    chosen = {name: tuple(value) if name == "hidden" else value for name, value in chosen.items() if name in free}
    if SCALING in chosen:
        default = rules.features.get(DEFAULT, {}) | {SCALING: chosen.pop(SCALING)}
        rules = replace(rules, features=rules.features | {DEFAULT: default})
    return replace(settings, **chosen), rules


def scaling(rules: Policy) -> str:
    """How columns are scaled for which the policy names nothing else."""
    return rules.features.get(DEFAULT, {}).get(SCALING, Column.scaling)
