"""The folder that a tuning starts from: what is wrong with it is said in one line."""

import json

import pytest
import safetensors.torch

from jobs.autoencoder.text_tuning.base_model import read_base_model
from jobs.errors import UserError


def change_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def drop_a_weight(folder):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights.pop("encoder.layer.1.output.dense.bias")
    safetensors.torch.save_file(weights, path)


PROBLEMS = {
    "model.safetensors cannot be read": lambda folder: (folder / "model.safetensors").unlink(),
    "tokenizer.json is damaged": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "config.json is damaged": lambda folder: (folder / "config.json").write_text("[1"),
    "config.json has model_type = 'roberta'": change_config(model_type="roberta"),
    "is (32,) and not (64,), as config.json says": change_config(hidden_size=64, num_hidden_layers=2),
    "lacks encoder.layer.1.output.dense.bias": drop_a_weight,
    "has an unknown encoder.layer.1": change_config(num_hidden_layers=1),
    "tokenizer.json knows 36 words, the model only 30": change_config(vocab_size=30),
    "32 numbers of a token cannot be shared by 5 heads": change_config(num_attention_heads=5),
    "asks for pooling_mode_cls_token": lambda folder: (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_cls_token": True})
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_folder_that_cannot_be_used_is_named_with_its_problem(base, problem):
    PROBLEMS[problem](base)
    with pytest.raises(UserError) as error:
        read_base_model(str(base))
    assert problem in str(error.value)
    assert str(base) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_folder_and_a_missing_one_are_named_too():
    with pytest.raises(UserError, match=r"tuning\.base is not set"):
        read_base_model("")
    with pytest.raises(UserError, match=r"config\.json cannot be read \(No such file or directory\)"):
        read_base_model("/no/such/folder")


def test_weights_with_the_prefix_and_the_pooler_of_other_files_are_read_alike(base):
    path = base / "model.safetensors"
    before = read_base_model(str(base)).weights
    weights = {f"bert.{name}": tensor for name, tensor in before.items()} | {
        "bert.pooler.dense.bias": before["embeddings.LayerNorm.bias"]
    }
    safetensors.torch.save_file({name: tensor.clone() for name, tensor in weights.items()}, path)
    assert read_base_model(str(base)).weights.keys() == before.keys()
