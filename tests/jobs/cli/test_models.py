"""`shoal models` over a folder of models."""

import json
import re
from datetime import date

import pytest

from jobs.__main__ import main
from jobs.storage import models

OLD, NEW = "2026-01-10-aaaa", "2026-01-17-bbbb"


def meta(version: str, **changes) -> dict:
    facts = {
        "version": version, "day": version[:10], "delta_version": 3, "inputs": ["orders_90d", "net_365d"],
        "sizes": {"inputs": 2, "latent": 2, "hidden": [64, 32]}, "settings": {"seed": 17, "noise": 0.1},
        "customers": {"train": 800, "validation": 100, "test": 100}, "epochs": [{}] * 3, "seconds": 9.5, "device": "cpu",
        "test_error": 0.1, "test_error_pca": 0.2, "trustworthiness": 0.95,
        "libraries": {"torch": "2.13"}, "policy": {"sha256": "12345678ff"},
        "scaling": {"orders_90d": "log1p", "net_365d": "log1p"},
    }  # fmt: skip
    return facts | changes


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two models: the old one is champion from its day on, then the new one."""
    monkeypatch.setenv("SHOAL_MODELS", str(tmp_path))
    changed = {"settings": {"seed": 17, "noise": 0.2}, "inputs": ["orders_90d"], "test_error": 0.09}
    changed["scaling"] = {"orders_90d": "log1p", "net_365d": "quantile"}
    for version, facts in ((OLD, meta(OLD)), (NEW, meta(NEW, **changed))):
        models.save(str(tmp_path), version, lambda folder, facts=facts: (folder / "meta.json").write_text(json.dumps(facts)))
        models.promote(str(tmp_path), version, date.fromisoformat(facts["day"]))
    return str(tmp_path)


def test_the_list_has_the_figures_of_each_model_and_since_when_it_is_champion(root, capsys):
    assert models.versions(root) == [OLD, NEW]
    models.promote(root, NEW, date(2026, 1, 17), "pca")
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [OLD, "1,000", "2", "2", "3", "9.5", "0.1000", "0.2000", "0.9500", "2026-01-10"]
    assert lines[3].endswith("  2026-01-17 by pca")
    assert len(lines) == 4


def test_one_model_is_shown_without_its_long_lists(root, capsys):
    assert main(["models", "show", NEW]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"] == {"seed": 17, "noise": 0.2}
    assert "epochs" not in shown


def test_two_models_are_compared_by_what_differs(root, capsys):
    assert main(["models", "compare", OLD, NEW]) == 0
    cells = [re.split(" {2,}", line.rstrip()) for line in capsys.readouterr().out.splitlines()]
    rows = {name: values for name, *values in cells}
    assert rows["settings noise"] == ["0.1", "0.2"]
    assert rows["input net_365d"] == ["yes", "-"]
    assert rows["test error"] == ["0.1000", "0.0900"]
    assert rows["scaling net_365d"] == ["log1p", "quantile"]
    assert not {"settings seed", "scaling orders_90d"} & set(rows)


def test_a_rollback_brings_the_earlier_champion_back_and_keeps_earlier_days(root, capsys):
    assert main(["models", "rollback", "--since", "2026-01-20"]) == 0
    assert f"{OLD} is champion from 2026-01-20 on" in capsys.readouterr().out
    held = [models.champion(root, date(2026, 1, day))["version"] for day in (16, 19, 20)]
    assert held == [OLD, NEW, OLD]


def test_a_rollback_without_a_day_replaces_the_champion_from_its_first_day(root):
    assert main(["models", "rollback"]) == 0
    assert models.champion(root, date(2026, 1, 18))["version"] == OLD


def test_a_model_is_promoted_from_a_day_on(root):
    assert main(["models", "promote", OLD, "--since", "2026-01-25"]) == 0
    assert models.champion(root, date(2026, 1, 25))["version"] == OLD


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["show", "2026-01-11-none"], "no model '2026-01-11-none' in "),
        (["show", "../autoencoder/" + OLD], "no model '../autoencoder/"),
        (["promote", "2026-01-11-none"], "no model '2026-01-11-none' in "),
        (["rollback", "--since", "2026-01-01"], f"{NEW} is champion since 2026-01-17, which is after 2026-01-01"),
    ],
)
def test_a_missing_model_ends_in_one_line_and_changes_nothing(root, capsys, command, message):
    before = models.champion_history(root)
    assert main(["models", *command]) == 2
    out = capsys.readouterr().out
    assert out.startswith(f"error: models: {message}")
    assert out.count("\n") == 1
    assert models.champion_history(root) == before


def test_without_a_model_list_and_rollback_end_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHOAL_MODELS", str(tmp_path))
    assert [main(["models", command]) for command in ("list", "rollback")] == [2, 2]
    assert capsys.readouterr().out.count("error: models: ") == 2


def test_the_list_of_text_models_has_what_they_found_and_what_their_base_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHOAL_MODELS", str(tmp_path))
    figures = {"recall_at_10": 0.25, "mrr": 0.125}
    facts = {
        "base": {"name": "small"}, "queries": {"kind": "search", "test": {"queries": 1200}},
        "tuned": {"recall_at_10": 0.5, "mrr": 0.375}, "baselines": {"base small": figures},
    }  # fmt: skip
    write = lambda folder: (folder / "meta.json").write_text(json.dumps(facts))  # noqa: E731
    models.save_champion(str(tmp_path), NEW, write, date(2026, 1, 18), models.TEXT_MODELS)
    assert main(["models", "list", "--family", "text_models"]) == 0
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.split() == [NEW, "small", "1,200", "search", "0.5000", "0.2500", "0.3750", "0.1250", "2026-01-18"]
