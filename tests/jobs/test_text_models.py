"""Text models: which is used, what it gives, and what becomes of damaged files."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from jobs import text_models
from jobs.config.settings import Text
from jobs.errors import UserError
from jobs.text_models import load_text_model

DAY = date(2024, 3, 1)


def load(tmp_path, **settings):
    return load_text_model(SimpleNamespace(text=Text(**settings), models=str(tmp_path)), DAY)


def test_the_static_model_puts_texts_on_the_same_subject_near_each_other(tmp_path):
    texts = ["red coffee mug", "blue tea cup", "garden hose", "🎁", "赤いマグカップ", "red coffee mug"]
    vectors = load(tmp_path).encode(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    assert (vectors[0] == vectors[5]).all()
    assert (load(tmp_path).encode(texts[1:2])[0] == vectors[1]).all()


def test_a_setting_that_changes_vectors_changes_the_name_of_the_model(tmp_path):
    assert load(tmp_path).name != load(tmp_path, max_characters=50).name
    assert load(tmp_path, view_weight=3.0).name == load(tmp_path).name


def test_there_may_be_no_model_and_before_a_tuned_one_it_is_the_static_one(tmp_path, capsys):
    assert load(tmp_path, model="none") is None
    assert load(tmp_path, model="tuned").name == load(tmp_path).name
    assert "no text model was tuned by 2024-03-01; static is used" in capsys.readouterr().out


def write_folder(folder, **files):
    folder.mkdir()
    contents = {"model.onnx": "no graph", "tokenizer.json": "{}", "config.json": "{}"} | files
    for name, content in contents.items():
        if content is not None:
            (folder / name).write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"model.onnx": None}, "a file cannot be read, No such file or directory"),
        ({"config.json": "{"}, "JSONDecodeError"),
        ({}, "InvalidProtobuf"),
        (
            {"modules.json": '[{"type": "sentence_transformers.models.Dense"}]'},
            "modules.json names Dense, which is not supported",
        ),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path, files, problem):
    with pytest.raises(
        UserError, match=rf"features: the text model cannot be used: .*{problem}.*\(.*\). Restore its files"
    ) as error:
        load(tmp_path, model=write_folder(tmp_path / "mine", **files))
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_installed_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(text_models, "MINILM_FOLDER", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not installed .*Run: make minilm"):
        load(tmp_path, model="minilm")
