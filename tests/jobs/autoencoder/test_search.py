"""A search: its score, its trials, the settings that it keeps, and how a training uses them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from jobs.__main__ import main
from jobs.autoencoder import search
from jobs.autoencoder.masking import MaskedValues
from jobs.autoencoder.pipeline import run
from jobs.autoencoder.searched_settings import searchable_settings
from jobs.config.policy import load_policy
from jobs.config.settings import HOME, Settings, Train
from jobs.errors import UserError
from jobs.storage import models

KILLED_SEARCH = """
import os, signal, sys
from datetime import date
from jobs.autoencoder import search
from jobs.config.settings import Settings, Train
score = search.Objective.score
def kill_at_second_call(*arguments, calls=[]):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return score(*arguments)
search.Objective.score = kill_at_second_call
lake, models, day = sys.argv[1:]
roots = {"lake": lake, "models": models, "reports": "", "source": "", "input": ""}
search.run(Settings(**roots, train=Train(hidden=(8,), epochs=5, tracking="")), date.fromisoformat(day), 3, None, "tpe")
"""
SEARCH = {"search": "2026-01-01-abcd", "settings": {"latent": 4, "hidden": [16, 8], "noise": 0.3, "scaling": "quantile"}}


@pytest.fixture
def settings(tmp_path, shop) -> Settings:
    """Settings for quick trainings of a shop; a search may change all searched settings but the widths."""
    settings = replace(shop.settings(tmp_path, epochs=5), train=Train(hidden=(8,), epochs=5, tracking=""))
    shop.write(settings.lake, shop.values())
    return settings


def read_trials(settings: Settings) -> list:
    """Return state, parameters and score of all trials that did not fail, in their order."""
    storage = f"sqlite:///{settings.models}/search.db"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    return [(trial.state.name, trial.params, trial.value) for trial in trials if trial.state.name != "FAIL"]


def test_a_vector_that_knows_related_features_has_a_lower_masked_value_error():
    random = np.random.default_rng(3)
    traits = random.normal(size=(500, 2))
    features = np.exp(traits[:, [0, 0, 0, 1, 1, 1]] + 0.1 * random.normal(size=(500, 6))).astype(np.float32)
    masked_values = MaskedValues(features[:400], features[400:], seed=1)

    def encode_medians(features):
        return np.log(np.stack([np.median(features[:, :3], axis=1), np.median(features[:, 3:], axis=1)], axis=1))

    def encode_two_features(features):
        return np.log(features[:, [0, 3]])

    def encode_noise(features):
        return random.normal(size=(len(features), 2))

    def error(encode, unit=1, n_clusters=(6, 8)):
        vectors = unit * encode(features[:400])
        return masked_values.masked_value_error(vectors, lambda features: unit * encode(features), n_clusters)

    assert error(encode_medians) + 0.1 < error(encode_two_features) < 0.9 < error(encode_noise)
    assert error(encode_medians, unit=100) == pytest.approx(error(encode_medians)), "the unit of the vector does not matter"
    mean = (error(encode_medians, n_clusters=[6]) + error(encode_medians, n_clusters=[8])) / 2
    assert error(encode_medians) == pytest.approx(mean)


def test_a_killed_search_that_is_run_again_ends_as_if_it_had_not_been_killed(settings, shop, tmp_path):
    undisturbed = replace(settings, models=str(tmp_path / "undisturbed"))
    expected = search.run(undisturbed, shop.day, 3, None, "tpe")
    assert len({str(params) for _, params, _ in read_trials(undisturbed)}) == 3, "each trial has other parameters"
    command = [sys.executable, "-c", KILLED_SEARCH, settings.lake, settings.models, shop.day.isoformat()]
    killed = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not (Path(settings.models) / "autoencoder" / "search.json").exists()
    assert [state for state, *_ in read_trials(settings)] == ["COMPLETE", "RUNNING"]
    assert search.run(settings, shop.day, 3, None, "tpe") == expected
    assert read_trials(settings) == read_trials(undisturbed)


def test_the_defaults_are_tried_first_and_the_best_trial_is_kept(settings, shop, capsys):
    search.run(settings, shop.day, 2, None, "random")
    capsys.readouterr()
    content = search.run(settings, shop.day, 3, None, "grid")
    trials = read_trials(settings)
    grid_params = trials[2][1]
    assert all(grid_params[name] in values for name, values in search.GRID.items() if name in grid_params)
    assert trials[0][1] == {"latent": 10, "noise": 0.1, "neighbours": 10, "learning_rate": 0.001, "scaling": "auto"}
    best_score = min(value for state, _, value in trials if state == "COMPLETE")
    assert (content["trials"], content["score"]) == (3, best_score)
    best_params = next(params for _, params, value in trials if value == content["score"])
    assert content["settings"] in (best_params, trials[0][1])
    assert models.read_search(settings.models) == content
    table = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("search")]
    assert table[0].split() == ["trial", "score", "seconds", "latent", "noise", "neighbours", "learning_rate", "scaling"]
    assert len({len(line) for line in table}) == 1, "columns are padded"
    scores = [float(line.split()[1]) for line in table[2:]]
    assert scores == sorted(scores)


def test_minutes_are_a_budget_too(settings, shop):
    assert search.run(settings, shop.day, None, 0.001, "random")["trials"] == 1


@pytest.mark.parametrize(("score_with_another_seed", "latent"), [(3.0, 10), (1.0, 24)])
def test_a_trial_that_was_best_by_luck_is_not_kept(settings, shop, monkeypatch, score_with_another_seed, latent):
    def score(_, params, report=None, seed_offset=0):
        if seed_offset == 0:
            return -float(params["latent"])
        return score_with_another_seed if params["latent"] == 24 else 2.0

    monkeypatch.setattr(search.Objective, "score", score)
    monkeypatch.setitem(search.GRID, "latent", (24,))
    content = search.run(settings, shop.day, 2, None, "grid")
    assert (content["score"], content["settings"]["latent"]) == (-24.0, latent)


def test_a_trial_worse_than_most_is_pruned_and_one_without_a_score_does_not_stop_the_search(settings, shop, monkeypatch):
    def score(_, params, report=None, seed_offset=0, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 2:
            raise UserError("the loss is not a number")
        for epoch in (5, 10, 15):
            report(epoch, float(len(calls)))
        return float(len(calls))

    monkeypatch.setattr(search.Objective, "score", score)
    assert search.run(settings, shop.day, 8, None, "tpe")["score"] == 1
    states = [state for state, *_ in read_trials(settings)]
    assert states == ["COMPLETE", "PRUNED", *["COMPLETE"] * 4, "PRUNED", "PRUNED"]


def test_training_uses_searched_settings_where_the_user_kept_the_defaults(settings, shop):
    models.write_search(settings.models, SEARCH)
    version = run(settings, shop.day, retrain=True)
    meta = models.meta(settings.models, version)
    assert meta["search"] == SEARCH["search"]
    assert (meta["settings"]["latent"], meta["settings"]["noise"], meta["sizes"]["latent"]) == (4, 0.3, 4)
    assert set(meta["scaling"].values()) == {"quantile"}
    assert meta["settings"]["hidden"] == [8], "the user's own"


def test_the_version_depends_on_the_settings_and_not_on_who_chose_them(settings, shop, tmp_path):
    content = {"search": "2026-01-01-abcd", "settings": {"latent": 4, "noise": 0.3}}
    by_hand = replace(settings, models=str(tmp_path / "by_hand"), train=replace(settings.train, latent=4, noise=0.3))
    version = run(by_hand, shop.day, retrain=True)
    models.write_search(settings.models, content)
    assert run(settings, shop.day, retrain=True) == version
    models.write_search(settings.models, content | {"settings": content["settings"] | {"scaling": "log1p"}})
    assert run(settings, shop.day, retrain=True) != version


def test_settings_that_the_user_changed_are_not_searched(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('[features.customers]\ndefault = { scaling = "robust" }\n')
    searchable = searchable_settings(Train(latent=16, noise=0.2), load_policy(str(file)))
    assert list(searchable) == ["hidden", "neighbours", "learning_rate"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"models": "mock:///models"}, "object store, which cannot hold search.db"), ({"lake": "/nowhere"}, "run first")],
)
def test_a_search_that_is_not_possible_ends_in_one_line(settings, shop, changes, message):
    with pytest.raises(UserError, match=message):
        search.run(replace(settings, **changes), shop.day, 3, None, "tpe")


def test_a_damaged_search_file_ends_in_one_line(settings, shop):
    models.write_search(settings.models, SEARCH)
    (Path(settings.models) / "autoencoder" / "search.json").write_text(json.dumps({"search": "a", "settings": 3}))
    with pytest.raises(UserError, match=r"search\.json is damaged; remove it or search again"):
        run(settings, shop.day, retrain=True)


def test_a_budget_without_a_search_is_an_error(capsys):
    assert main(["train", "--day", "2026-01-31", "--trials", "3"]) == 2
    assert "--trials, --minutes and --sampler go with --search" in capsys.readouterr().out
