"""Tuning as a step: kept where it finds more, refused where it does not, and used by nobody before the next day."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from jobs.autoencoder import pipeline as training
from jobs.autoencoder.text_tuning import pipeline
from jobs.autoencoder.text_tuning.base_model import read_base_model
from jobs.autoencoder.text_tuning.export import OnnxEncoder
from jobs.autoencoder.text_tuning.tokens import embed
from jobs.errors import NotDue, UserError
from jobs.storage import models


def read_encoder(settings, version) -> OnnxEncoder:
    graph, tokenizer = (
        models.read(settings.models, version, name, models.TEXT_MODELS) for name in ("model.onnx", "tokenizer.json")
    )
    return OnnxEncoder(graph, tokenizer, settings.tuning.max_length)


def test_a_model_that_learns_the_words_of_the_shop_is_champion_from_the_next_day_on(tuned):
    settings, day, version = tuned
    assert models.champion(settings.models, day, models.TEXT_MODELS) is None
    assert models.champion(settings.models, day + timedelta(days=1), models.TEXT_MODELS)["version"] == version
    meta = models.meta(settings.models, version, models.TEXT_MODELS)
    [base] = meta["baselines"].values()
    assert meta["tuned"]["mrr"] > base["mrr"] + 0.3
    assert base["gain"]["mrr_interval"][0] > 0
    assert meta["objective"] == "contrastive"
    assert meta["base"]["sha256"] == read_base_model(settings.tuning.base).sha256


def test_words_that_the_shop_uses_alike_are_near_each_other_and_were_not_before(tuned):
    settings, _, version = tuned
    texts = ["zorb3", "quil3", "quil7"]
    before = embed(
        read_base_model(settings.tuning.base).build_encoder(), read_encoder(settings, version)._tokenizer, texts, 8, "cpu"
    )
    after = read_encoder(settings, version).embed(texts)
    assert after[0] @ after[1] > after[0] @ after[2] + 0.3
    assert before[0] @ before[1] < before[0] @ before[2] + 0.3


def test_a_text_has_the_same_vector_alone_and_beside_longer_ones(tuned):
    settings, _, version = tuned
    encoder = read_encoder(settings, version)
    together = encoder.embed(["zorb3", "zorb3 styl1 styl2 make0", ""])
    assert np.allclose(together[0], encoder.embed(["zorb3"])[0], atol=1e-5)
    assert np.isfinite(together).all()


def test_the_same_inputs_are_not_tuned_on_again(tuned, capsys):
    settings, day, version = tuned
    assert pipeline.run(settings, day) == version
    assert "not tuned again" in capsys.readouterr().out


def test_a_later_tuning_must_find_more_than_the_tuned_model_in_use(tuned, tmp_path):
    settings, day, version = tuned
    assert pipeline.run(settings, day + timedelta(days=1)) is None
    baselines = models.read_last_tuning(settings.models)["baselines"]
    assert baselines["base tiny"]["gain"]["mrr_interval"][0] > 0
    assert baselines[f"champion {version}"]["mrr"] == pytest.approx(
        models.read_last_tuning(settings.models)["tuned"]["mrr"], abs=1e-3
    )
    assert models.versions(settings.models, models.TEXT_MODELS) == [version]


def test_where_people_open_anything_the_base_model_is_kept_and_the_figures_say_so(settings, write_shop, day, capsys):
    write_shop(opens_anything=True)
    assert pipeline.run(settings, day) is None
    assert "of base tiny, difference of MRR" in capsys.readouterr().out
    last = models.read_last_tuning(settings.models)
    assert (last["kept"], last["day"]) == (False, day.isoformat())
    assert models.versions(settings.models, models.TEXT_MODELS) == []


def test_without_searches_hidden_words_are_learned_and_the_next_product_is_looked_for(settings, write_shop, day):
    write_shop(has_searches=False)
    pipeline.run(settings, day)
    last = models.read_last_tuning(settings.models)
    assert (last["objective"], last["queries"]["kind"]) == ("masked", "product")
    losses = [epoch["loss"] for epoch in last["epochs"][1:]]
    assert losses[-1] < losses[0]


def test_a_shop_without_texts_keeps_the_base_model(settings, day, capsys):
    assert pipeline.run(settings, day) is None
    assert "fewer than 5 queries" in capsys.readouterr().out


def test_a_damaged_base_model_is_one_line_before_anything_is_read(settings, base, day):
    (base / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"train: model\.safetensors is damaged \(tuning\.base = .*tiny'\); name a folder"):
        pipeline.run(settings, day)


def test_a_tuning_is_due_when_enabled_and_the_last_one_is_old_enough(settings, day):
    is_due = training._is_tuning_due
    assert is_due(settings, day, retrain=False)
    models.write_last_tuning(settings.models, {"version": None, "day": day.isoformat(), "kept": False})
    assert not is_due(settings, day + timedelta(days=27), retrain=False)
    assert is_due(settings, day + timedelta(days=27), retrain=True)
    assert is_due(settings, day + timedelta(days=28), retrain=False)
    assert not is_due(replace(settings, tuning=replace(settings.tuning, enabled=False)), day + timedelta(days=28), retrain=True)


def test_the_step_train_tunes_with_its_other_trainings_and_is_skipped_when_nothing_is_due(settings, write_shop, shop, tmp_path):
    write_shop(opens_anything=True)
    shop.write(settings.lake, shop.values())
    settings = replace(settings, train=shop.settings(tmp_path, epochs=2).train)
    version = training.run(settings, shop.day, retrain=False)
    assert models.champion(settings.models, shop.day)["version"] == version
    assert models.read_last_tuning(settings.models)["day"] == shop.day.isoformat()
    with pytest.raises(NotDue):
        training.run(settings, shop.day, retrain=False)
