"""A search: what is compared, what is kept, and what training makes of it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from jobs import autoencoder
from jobs.__main__ import main
from jobs.autoencoder import search, winner
from jobs.autoencoder.hiding import Hidden
from jobs.config import policy
from jobs.config.settings import HOME, Settings, Train
from jobs.errors import UserError
from jobs.storage import models

KILLED = """
import os, signal, sys
from datetime import date
from jobs.autoencoder import search
from jobs.settings import Settings, Train
score = search._Objective.score
def killed(*arguments, calls=[]):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return score(*arguments)
search._Objective.score = killed
lake, models, day = sys.argv[1:]
roots = {"lake": lake, "models": models, "reports": "", "source": "", "input": ""}
search.run(Settings(**roots, train=Train(hidden=(8,), epochs=5, tracking="")), date.fromisoformat(day), 3, None, "tpe")
"""
WINNER = {"search": "2026-01-01-abcd", "settings": {"latent": 4, "hidden": [16, 8], "noise": 0.3, "scaling": "quantile"}}


@pytest.fixture
def settings(tmp_path, shop) -> Settings:
    """A shop; trainings of it are quick and leave all but the widths to a search."""
    made = replace(shop.settings(tmp_path, epochs=5), train=Train(hidden=(8,), epochs=5, tracking=""))
    shop.write(made.lake, shop.values())
    return made


def trials(settings: Settings) -> list:
    """Parameters and scores of all that ended, in their order."""
    storage = f"sqlite:///{settings.models}/search.db"
    (name,) = optuna.get_all_study_names(storage)
    ended = [trial for trial in optuna.load_study(study_name=name, storage=storage).trials if trial.state.name != "FAIL"]
    return [(trial.state.name, trial.params, trial.value) for trial in ended]


def test_a_vector_that_knows_what_goes_together_is_better_than_one_that_does_not():
    random = np.random.default_rng(3)
    trait = random.normal(size=(500, 2))
    features = np.exp(trait[:, [0, 0, 0, 1, 1, 1]] + 0.1 * random.normal(size=(500, 6))).astype(np.float32)
    hidden = Hidden(features[:400], features[400:], seed=1)

    def middles(matrix):
        return np.log(np.stack([np.median(matrix[:, :3], axis=1), np.median(matrix[:, 3:], axis=1)], axis=1))

    def firsts(matrix):
        return np.log(matrix[:, [0, 3]])

    def nothing(matrix):
        return random.normal(size=(len(matrix), 2))

    def score(encode, unit=1, clusters=(6, 8)):
        return hidden.unexplained(unit * encode(features[:400]), lambda matrix: unit * encode(matrix), clusters)

    assert score(middles) + 0.1 < score(firsts) < 0.9 < score(nothing)
    assert score(middles, unit=100) == pytest.approx(score(middles)), "the unit of the vector does not matter"
    assert score(middles) == pytest.approx((score(middles, clusters=[6]) + score(middles, clusters=[8])) / 2)


def test_a_killed_search_run_again_ends_as_if_it_had_not_been(settings, shop, tmp_path):
    undisturbed = replace(settings, models=str(tmp_path / "undisturbed"))
    expected = search.run(undisturbed, shop.day, 3, None, "tpe")
    assert len({str(chosen) for _, chosen, _ in trials(undisturbed)}) == 3, "each trial is another"
    command = [sys.executable, "-c", KILLED, settings.lake, settings.models, shop.day.isoformat()]
    killed = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not (Path(settings.models) / "autoencoder" / "search.json").exists()
    assert [state for state, *_ in trials(settings)] == ["COMPLETE", "RUNNING"]
    assert search.run(settings, shop.day, 3, None, "tpe") == expected
    assert trials(settings) == trials(undisturbed)


def test_the_defaults_are_tried_first_and_the_best_of_all_is_kept(settings, shop, capsys):
    search.run(settings, shop.day, 2, None, "random")
    capsys.readouterr()
    found = search.run(settings, shop.day, 3, None, "grid")
    tried = trials(settings)
    assert all(tried[2][1][name] in values for name, values in search.GRID.items() if name in tried[2][1])
    assert tried[0][1] == {"latent": 10, "noise": 0.1, "neighbours": 10, "learning_rate": 0.001, "scaling": "auto"}
    assert (found["trials"], found["score"]) == (3, min(value for state, _, value in tried if state == "COMPLETE"))
    best = next(params for _, params, value in tried if value == found["score"])
    assert found["settings"] in (best, tried[0][1])
    assert models.read_search(settings.models) == found
    table = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("search")]
    assert table[0].split() == ["trial", "score", "seconds", "latent", "noise", "neighbours", "learning_rate", "scaling"]
    assert len({len(line) for line in table}) == 1, "columns are padded"
    scores = [float(line.split()[1]) for line in table[2:]]
    assert scores == sorted(scores)


def test_minutes_are_a_budget_too(settings, shop):
    assert search.run(settings, shop.day, None, 0.001, "random")["trials"] == 1


@pytest.mark.parametrize(("drawn_anew", "latent"), [(3.0, 10), (1.0, 24)])
def test_who_is_best_by_luck_does_not_win(settings, shop, monkeypatch, drawn_anew, latent):
    def score(_, chosen, look=None, draw=0):
        return (drawn_anew if chosen["latent"] == 24 else 2.0) if draw else -float(chosen["latent"])

    monkeypatch.setattr(search._Objective, "score", score)
    monkeypatch.setitem(search.GRID, "latent", (24,))
    found = search.run(settings, shop.day, 2, None, "grid")
    assert (found["score"], found["settings"]["latent"]) == (-24.0, latent)


def test_a_trial_worse_than_most_ends_early_and_one_without_a_number_does_not_stop_the_search(settings, shop, monkeypatch):
    def score(_, chosen, look=None, draw=0, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 2:
            raise UserError("the loss is no number")
        for epoch in (5, 10, 15):
            look(epoch, float(len(calls)))
        return float(len(calls))

    monkeypatch.setattr(search._Objective, "score", score)
    assert search.run(settings, shop.day, 8, None, "tpe")["score"] == 1
    assert [state for state, *_ in trials(settings)] == ["COMPLETE", "PRUNED", *["COMPLETE"] * 4, "PRUNED", "PRUNED"]


def test_training_takes_the_winner_over_where_the_user_has_said_nothing(settings, shop):
    models.write_search(settings.models, WINNER)
    version = autoencoder.run(settings, shop.day, retrain=True)
    meta = models.meta(settings.models, version)
    assert meta["search"] == WINNER["search"]
    assert (meta["settings"]["latent"], meta["settings"]["noise"], meta["sizes"]["latent"]) == (4, 0.3, 4)
    assert set(meta["scaling"].values()) == {"quantile"}
    assert meta["settings"]["hidden"] == [8], "the user's own"


def test_the_same_settings_by_search_and_by_hand_are_the_same_version_and_others_are_not(settings, shop, tmp_path):
    chosen = {"search": "2026-01-01-abcd", "settings": {"latent": 4, "noise": 0.3}}
    by_hand = replace(settings, models=str(tmp_path / "by_hand"), train=replace(settings.train, latent=4, noise=0.3))
    version = autoencoder.run(by_hand, shop.day, retrain=True)
    models.write_search(settings.models, chosen)
    assert autoencoder.run(settings, shop.day, retrain=True) == version
    models.write_search(settings.models, chosen | {"settings": chosen["settings"] | {"scaling": "log1p"}})
    assert autoencoder.run(settings, shop.day, retrain=True) != version


def test_what_the_user_set_is_not_searched(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('[features.customers]\ndefault = { scaling = "robust" }\n')
    assert list(winner.defaults(Train(latent=16, noise=0.2), policy.load_policy(str(file)))) == [
        "hidden",
        "neighbours",
        "learning_rate",
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"models": "mock:///models"}, "object store, which cannot hold search.db"), ({"lake": "/nowhere"}, "run first")],
)
def test_what_cannot_be_searched_is_one_line(settings, shop, changes, says):
    with pytest.raises(UserError, match=says):
        search.run(replace(settings, **changes), shop.day, 3, None, "tpe")


def test_a_damaged_winner_is_one_line(settings, shop):
    models.write_search(settings.models, WINNER)
    (Path(settings.models) / "autoencoder" / "search.json").write_text(json.dumps({"search": "a", "settings": 3}))
    with pytest.raises(UserError, match=r"search\.json is damaged; remove it or search again"):
        autoencoder.run(settings, shop.day, retrain=True)


def test_a_budget_without_a_search_is_refused(capsys):
    assert main(["train", "--day", "2026-01-31", "--trials", "3"]) == 2
    assert "--trials, --minutes and --sampler go with --search" in capsys.readouterr().out
