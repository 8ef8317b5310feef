"""The settings that a search may choose, and how a training uses them. A value other than the default is the user's decision."""

from dataclasses import fields, replace

from jobs.config.policy import DEFAULT, Column, Policy
from jobs.config.settings import Train

SEARCHED_SETTINGS = ("hidden", "latent", "noise", "neighbours", "learning_rate")  # of Train
SCALING = "scaling"  # of the policy: the method of all columns for which it names none


def searchable_settings(settings: Train, policy: Policy) -> dict:
    """Return the settings that have their default value, which a search may change, and this value."""
    defaults = {field.name: field.default for field in fields(Train)}
    searchable = {name: defaults[name] for name in SEARCHED_SETTINGS if getattr(settings, name) == defaults[name]}
    if default_scaling(policy) == Column.scaling:
        searchable[SCALING] = Column.scaling
    return searchable


def apply_searched_settings(settings: Train, policy: Policy, searched: dict) -> tuple[Train, Policy]:
    """Return settings and policy with those `searched` values that a search may change."""
    searchable = searchable_settings(settings, policy)
    changes = {name: tuple(value) if name == "hidden" else value for name, value in searched.items() if name in searchable}
    if SCALING in changes:
        default = policy.features.get(DEFAULT, {}) | {SCALING: changes.pop(SCALING)}
        policy = replace(policy, features=policy.features | {DEFAULT: default})
    return replace(settings, **changes), policy


def default_scaling(policy: Policy) -> str:
    """Return the scaling method of the columns for which the policy names none."""
    return policy.features.get(DEFAULT, {}).get(SCALING, Column.scaling)
