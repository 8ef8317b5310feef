"""The wide network: customers with groups of inputs beside their features, and customers without."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake

from jobs.autoencoder import group_graph
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import read_customers
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.group_blocks import GroupBlock, fit_block
from jobs.autoencoder.group_network import GroupAutoencoder
from jobs.autoencoder.losses import denoising_loss
from jobs.autoencoder.model import Sizes
from jobs.autoencoder.pipeline import run
from jobs.autoencoder.preprocessing import PreprocessingParameters
from jobs.config.settings import Train
from jobs.errors import NotDue, UserError
from jobs.input_groups import INTERESTS, GroupVectors, read_interests
from jobs.storage import models
from jobs.storage.delta import table_path
from jobs.storage.vectors import to_lists

D, N = 20, 300
TASTES = np.arange(N) % 3
HAS_TEXT = np.arange(N) % 4 > 0  # three of four
FILES = (models.GROUPS, models.GROUPS_GOLDEN)


def make_vectors(seed: int = 2) -> np.ndarray:
    """Return vectors (N, D) of the text group, each near that of the customer's taste."""
    centres = np.random.default_rng(1).normal(size=(3, D))
    return (centres[TASTES] + 0.3 * np.random.default_rng(seed).normal(size=(N, D))).astype(np.float32)


def write_interests(lake: str, shop, model: str = "words@1", vectors: np.ndarray | None = None, day=None) -> None:
    rows = np.flatnonzero(HAS_TEXT)
    ids = pa.array(shop.ids(N)).take(pa.array(rows))
    columns = {"day": pa.array([day or shop.day] * len(rows)), "input_group": ["text"] * len(rows), "model": [model] * len(rows)}
    lists = to_lists((make_vectors() if vectors is None else vectors)[rows])
    table = pa.table({"customer_id": ids, **columns, "vector": lists}).cast(INTERESTS.arrow_schema)
    write_deltalake(table_path(lake, INTERESTS.name), table, partition_by=["day"], mode="append" if day else "overwrite")


@pytest.fixture
def network(make_network):
    """A wide network of six features and blocks of two and three columns, of which `sequence` is the second."""
    plain = make_network(3)
    parameters = plain.preprocess
    blocks = {"text": slice(6, 8), "sequence": slice(8, 11)}
    fitted = {name: getattr(parameters, name).numpy() for name in parameters.state_dict()}
    torch.manual_seed(1)
    return GroupAutoencoder(Sizes(11, 3, (8,)), PreprocessingParameters(**fitted), blocks, dropout=0.5)


def test_a_block_holds_the_first_components_and_weighs_a_share_of_the_features(shop):
    vectors = make_vectors()
    vectors[~HAS_TEXT] = np.nan
    block = fit_block(GroupVectors("text", "m", vectors), np.arange(N), 40.0, Train(group_weight=0.5, group_components=2))

    reduced = block.reduce(torch.from_numpy(vectors))

    assert reduced.shape == (N, 2)
    assert float(reduced[HAS_TEXT].var(dim=0, correction=0).sum()) == pytest.approx(20.0, rel=1e-3)
    assert (reduced[~HAS_TEXT] == 0).all()
    assert float(reduced[HAS_TEXT].mean(dim=0).abs().max()) < 1e-4
    assert block.facts["customers"] == HAS_TEXT.sum()


@pytest.mark.parametrize(
    "vectors", [np.full((N, D), np.nan, np.float32), np.ones((N, D), np.float32)], ids=["none", "all the same"]
)
def test_a_group_that_nobody_has_or_in_which_all_are_alike_has_no_block(vectors):
    assert fit_block(GroupVectors("text", "m", vectors), np.arange(N), 40.0, Train()) is None


def test_the_mean_of_a_neighbourhood_counts_only_those_who_have_a_group(network):
    customers = torch.zeros(4, 11)
    customers[:, 0] = torch.tensor([1.0, 2.0, 3.0, 6.0])
    customers[0, 6:8], customers[1, 6:8] = torch.tensor([2.0, 4.0]), torch.tensor([4.0, 8.0])
    means = network.average_neighbours(customers, torch.tensor([[0, 1, 2], [2, 0, 1]], dtype=torch.int32))
    assert means[:, 0].tolist() == [2.0, 2.0]
    assert means[:, 6:8].tolist() == [[3.0, 6.0], [0.0, 0.0]]  # the second customer has no text


def test_what_a_customer_does_not_have_costs_nothing_and_is_not_drawn_to_the_mean(network):
    target = torch.randn(5, 11, generator=torch.Generator().manual_seed(3))
    target[:, 6:8] = 0
    prediction = (target + 1).requires_grad_()
    loss = network.prediction_loss(prediction, target)
    loss.sum().backward()
    assert (prediction.grad[:, 6:8] == 0).all()
    assert (prediction.grad[:, 8:] != 0).all()
    assert torch.allclose(loss, torch.full((5,), 9 / 11))


def test_whole_groups_are_dropped_out_at_the_given_rate_and_features_never(network):
    customers = torch.ones(4000, 11)
    torch.manual_seed(2)
    masked = network.mask_inputs(customers)
    assert (masked[:, :6] == 1).all()
    assert (masked[:, 6] == masked[:, 7]).all()
    assert masked[:, [6, 8]].mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert not torch.equal(masked[:, 6], masked[:, 8])
    assert (customers == 1).all()


def test_the_gradient_of_a_piece_of_a_batch_does_not_depend_on_the_other_pieces(network):
    customers = torch.randn(40, 11, generator=torch.Generator().manual_seed(3))
    [examples] = Examples.from_imputations([customers], 2, average=network.average_neighbours)
    loss = denoising_loss(network, Train())

    def losses(rows):
        torch.manual_seed(7)
        return loss(examples.customers, examples.neighbour_means, rows)

    whole = losses(slice(None))
    parts = torch.cat([losses(torch.arange(20)), losses(torch.arange(20, 40))])
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shop):
    """The settings of a finished training with texts of two days, and its version."""
    settings = shop.settings(tmp_path_factory.mktemp("groups"), epochs=40)
    settings = replace(settings, train=replace(settings.train, latent=5))
    earlier = shop.day - timedelta(days=settings.train.backtest_days)
    shop.write(settings.lake, shop.values())
    shop.write(settings.lake, shop.values(seed=6), mode="append", day=pa.array([earlier] * N))
    write_interests(settings.lake, shop)
    write_interests(settings.lake, shop, day=earlier)
    return settings, run(settings, shop.day, retrain=False)


def encode(settings, shop, vectors, file=models.GROUPS) -> dict[str, np.ndarray]:
    """Return the outputs of the graph of groups for the customers with these text vectors (n, d)."""
    customers = read_customers(settings.lake, shop.day, 1)
    countries = customers.attributes["country"].fill_null("").to_numpy(zero_copy_only=False).astype(object)[:, None]
    version = models.champion(settings.models, shop.day)["version"]
    graph = models.read(settings.models, version, file)
    return group_graph.run_groups(graph, customers.features, countries, {"text": vectors})


def separate(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the variance of vectors that is between the labels."""
    means = np.stack([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])
    return float(np.square(means[labels] - vectors.mean(axis=0)).sum() / np.square(vectors - vectors.mean(axis=0)).sum())


def test_text_shows_in_the_vectors_of_those_who_have_it_and_the_others_are_placed_by_their_features(trained, shop):
    settings, version = trained
    customers = read_customers(settings.lake, shop.day, 1)
    vectors = read_interests(settings.lake, shop.day, customers.ids)["text"].matrix
    rows = pa.compute.index_in(customers.ids, pa.array(shop.ids(N))).to_numpy()
    has_text, tastes = HAS_TEXT[rows], TASTES[rows]

    learned = encode(settings, shop, vectors)["learned_text"]

    assert np.isfinite(learned).all()
    assert separate(learned[has_text], tastes[has_text]) > 0.15
    assert separate(learned[~has_text], tastes[~has_text]) < 0.1
    centre_distance = np.linalg.norm(learned[~has_text].mean(axis=0) - learned[has_text].mean(axis=0))
    assert centre_distance < 0.5 * np.linalg.norm(learned.std(axis=0))  # those without text are no cluster of their own
    assert models.meta(settings.models, version)["groups"]["text"]["model"] == "words@1"


def test_a_vector_that_is_no_number_counts_as_none(trained, shop):
    settings, _ = trained
    infinite = np.zeros((N, D), np.float32)
    infinite[:, 3] = np.inf
    outputs = [encode(settings, shop, vectors)["learned_text"] for vectors in (infinite, np.full((N, D), np.nan, np.float32))]
    np.testing.assert_array_equal(*outputs)


def test_the_files_of_the_wide_network_are_there_and_the_golden_rows_are_its_outputs(trained, shop):
    settings, version = trained
    meta = models.meta(settings.models, version)
    golden = models.groups_golden(settings.models, version, ["text"])
    features, vectors = (np.array(golden[name], np.float32) for name in ("features", "text"))
    countries = np.array(golden["attributes"], dtype=object)
    graph = models.read(settings.models, version, models.GROUPS)
    outputs = group_graph.run_groups(graph, features, countries, {"text": vectors})
    np.testing.assert_allclose(outputs["learned_text"], golden["learned_text"], rtol=1e-5, atol=1e-5)
    assert np.isnan(vectors[0]).all()
    assert meta["backtest"]["groups"]["text"]["dimensions"] == D
    backtest = encode(settings, shop, make_vectors(), models.BACKTEST_GROUPS)
    assert backtest["learned_text"].shape == (N, 5)
    assert backtest["joint"].shape[1] > len(meta["backtest"]["features"]) / 2
    folder = f"{settings.models}/{models.FAMILY}"
    assert not list(Path(folder).glob(".checkpoint*"))


def test_the_plain_network_is_the_same_with_and_without_texts(trained, tmp_path, shop):
    settings, version = trained
    plain = replace(settings, lake=str(tmp_path / "lake"), models=str(tmp_path / "models"))
    shop.write(plain.lake, shop.values())
    plain_version = run(plain, shop.day, retrain=False)
    assert plain_version != version
    assert models.read(plain.models, plain_version, "encoder.onnx") == models.read(settings.models, version, "encoder.onnx")
    assert "groups" not in models.meta(plain.models, plain_version)
    with pytest.raises(UserError, match=r"groups.onnx is missing"):
        models.read(plain.models, plain_version, models.GROUPS)


@pytest.fixture
def quick(trained, tmp_path, shop):
    """Settings for short trainings on texts of their own."""
    settings = replace(trained[0], lake=str(tmp_path / "lake"), models=str(tmp_path / "models"))
    shop.write(settings.lake, shop.values())
    write_interests(settings.lake, shop)
    return replace(settings, train=replace(settings.train, epochs=2, backtest_days=0))


def test_the_same_texts_give_the_same_version_and_network_and_others_another(quick, tmp_path, shop):
    repeated = replace(quick, models=str(tmp_path / "others"))
    version = run(quick, shop.day, retrain=False)
    assert run(repeated, shop.day, retrain=False) == version
    for file in FILES:
        assert models.read(repeated.models, version, file) == models.read(quick.models, version, file)
    write_interests(quick.lake, shop, vectors=make_vectors(seed=3))
    second = run(quick, shop.day, retrain=True)
    write_interests(quick.lake, shop, model="words@2", vectors=make_vectors(seed=3))
    third = run(quick, shop.day, retrain=True)
    heavier = replace(quick, train=replace(quick.train, group_weight=1.0))
    assert len({version, second, third, run(heavier, shop.day, retrain=True)}) == 4


def test_a_training_stopped_in_the_wide_network_resumes_there(quick, tmp_path, shop, monkeypatch, capsys):
    version = run(quick, shop.day, retrain=False)
    stopped = replace(quick, models=str(tmp_path / "stopped"))
    is_wide = property(lambda checkpoint: checkpoint._version == f"{version}-groups")
    save, batches = CheckpointFile.save, []

    def save_and_stop(checkpoint, tensors, state):
        save(checkpoint, tensors, state)
        batches.append(state["batch"])
        if len(batches) == 40:
            raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "is_due", is_wide)
        patch.setattr(CheckpointFile, "save", save_and_stop)
        with pytest.raises(SystemExit):
            run(stopped, shop.day, retrain=False)
    capsys.readouterr()
    assert run(stopped, shop.day, retrain=False) == version
    assert "groups  resumes from epoch 2" in capsys.readouterr().out
    for file in FILES:
        assert models.read(stopped.models, version, file) == models.read(quick.models, version, file)


def test_texts_of_another_model_make_a_training_due_where_what_is_published_needs_them(quick, shop, capsys):
    version = run(quick, shop.day, retrain=False)
    write_interests(quick.lake, shop, model="words@2")
    with pytest.raises(NotDue):
        run(quick, shop.day, retrain=False)
    models.promote(quick.models, version, shop.day, "learned_text")
    assert run(quick, shop.day, retrain=False) != version
    assert f"due: the text vectors of {shop.day} are of another model than those that {version} needs" in capsys.readouterr().out


def test_a_graph_of_groups_that_differs_from_the_trained_network_is_not_saved(quick, shop, monkeypatch):
    reduce = GroupBlock.reduce
    calls = []

    def reduce_differently(block, vectors):
        calls.append(1)
        return reduce(block, vectors) * (1.01 if len(calls) > 2 else 1)

    monkeypatch.setattr(GroupBlock, "reduce", reduce_differently)
    with pytest.raises(UserError, match=r"of groups.onnx differs by .* nothing was saved"):
        run(quick, shop.day, retrain=True)
    assert not models.versions(quick.models)
