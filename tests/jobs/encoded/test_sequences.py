"""encoded.sequences: only customers with changed events are encoded again, with the same rows as a rebuild."""

import json
import subprocess
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs.config.settings import HOME, Settings
from jobs.encoded import sequences
from jobs.errors import UserError
from jobs.event_sequences import encode_sequences
from jobs.storage import models
from jobs.storage.commits import replace_rows
from jobs.storage.lake import Lake
from tests.jobs.shop_sequences import DAY, to_row, to_rows, write_rows

IDS = [f"customer-{number}" for number in range(60)]
NEXT = DAY + timedelta(days=1)
TRAIN = """
import json, sys
from pathlib import Path
import pyarrow as pa
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import hash_ids
from jobs.autoencoder.sequence_training import train_sequence_encoder
from jobs.config.settings import Sequence, Settings
from tests.jobs.shop_sequences import DAY
lake, folder, *ids = sys.argv[1:]
sequence = Sequence(width=8, dimension=4, epochs=2, batch_size=16, max_events=12)
settings = Settings(lake=lake, models=folder, reports="", source="", input="", sequence=sequence)
checkpoint = CheckpointFile(folder, "v", 60.0)
trained = train_sequence_encoder(settings, DAY, pa.array(ids), hash_ids(pa.array(ids)), checkpoint, print)
Path(folder, "sequence.onnx").write_bytes(trained.content)
Path(folder, "meta.json").write_text(json.dumps({"sequence": trained.meta}))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the files of a trained sequence encoder."""
    folder = tmp_path_factory.mktemp("trained")
    write_rows(f"{folder}/lake", to_rows(IDS))
    python = HOME / ".venv" / "train" / "bin" / "python"
    subprocess.run([python, "-c", TRAIN, f"{folder}/lake", folder, *IDS], cwd=HOME, check=True)
    return folder


@pytest.fixture
def shop(trained, tmp_path):
    """A lake of the customers as of two days, and settings with the trained model as champion."""
    settings = Settings(lake=f"{tmp_path}/lake", models=f"{tmp_path}/models", reports="", source="", input="")
    write_rows(settings.lake, to_rows(IDS))
    rows = [{"customer_id": name, "day": day} for day in (DAY, NEXT) for name in [*IDS, "idle"]]
    replace_rows(settings.lake, sequences.CUSTOMERS, pa.Table.from_pylist(rows, sequences.CUSTOMERS.arrow_schema))
    save_model(settings, trained, "v1")
    return Lake(None, settings.lake), settings


def save_model(settings, trained, version, sequence=True):
    def write(folder):
        meta = json.loads((trained / "meta.json").read_text())
        (folder / "sequence.onnx").write_bytes((trained / "sequence.onnx").read_bytes())
        (folder / "meta.json").write_text(json.dumps(meta if sequence else {}))

    models.save(settings.models, version, write)
    models.promote(settings.models, version, DAY)


def read(lake, day):
    rows = lake.read_arrow(sequences.TABLE, days=[day]).sort_by("customer_id").to_pylist()
    return {row["customer_id"]: row for row in rows}


def test_only_customers_with_new_events_are_encoded_and_the_rows_are_those_of_a_rebuild(shop, monkeypatch):
    lake, settings = shop
    sequences.run(lake, settings, DAY)
    late = to_row("customer-3", DAY, ["search"])  # arrives a day late
    write_rows(settings.lake, [late], late["day"])
    write_rows(settings.lake, [to_row("customer-5", NEXT, ["view"])], NEXT)
    encoded = []
    monkeypatch.setattr(
        sequences.event_sequences, "encode_sequences", lambda c, s: encoded.extend(s.ids.to_pylist()) or encode_sequences(c, s)
    )
    sequences.run(lake, settings, NEXT)
    rows, before = read(lake, NEXT), read(lake, DAY)

    assert encoded == ["customer-3", "customer-5"]
    assert sorted(rows) == sorted(IDS)  # none for `idle`, who has no event
    assert rows["customer-3"]["vector"] != before["customer-3"]["vector"]
    assert rows["customer-4"] == before["customer-4"] | {"day": NEXT}
    lake.replace_rows(sequences.TABLE, sequences.TABLE.arrow_schema.empty_table())
    sequences.run(lake, settings, NEXT)
    rebuilt = read(lake, NEXT)
    assert all(np.allclose(rebuilt[name]["vector"], rows[name]["vector"], atol=1e-6) for name in IDS)
    assert {n: row | {"vector": 0} for n, row in rebuilt.items()} == {n: row | {"vector": 0} for n, row in rows.items()}


def test_vectors_of_another_model_are_never_kept_and_one_without_encoder_has_no_rows(shop, trained):
    lake, settings = shop
    sequences.run(lake, settings, DAY)
    save_model(settings, trained, "v2")
    sequences.run(lake, settings, NEXT)
    assert {row["model_version"] for row in read(lake, NEXT).values()} == {"v2"}
    save_model(settings, trained, "v3", sequence=False)
    sequences.run(lake, settings, NEXT)
    assert read(lake, NEXT) == {}


def test_an_encoder_that_does_not_give_its_golden_vectors_is_refused(shop, trained):
    lake, settings = shop
    meta = json.loads((trained / "meta.json").read_text())
    meta["sequence"]["golden"]["vector"][0][0] += 0.1
    path = f"{settings.models}/autoencoder/v1/meta.json"
    with open(path, "w") as file:
        json.dump(meta, file)
    with pytest.raises(UserError, match=r"^encode: model v1: sequence.onnx differs from the golden rows"):
        sequences.run(lake, settings, DAY)
    assert not read(lake, DAY)


def test_a_customer_with_one_event_has_a_vector(shop):
    lake, settings = shop
    write_rows(settings.lake, [to_row("idle", NEXT, ["view"])], NEXT)
    sequences.run(lake, settings, NEXT)
    assert np.isclose(np.linalg.norm(read(lake, NEXT)["idle"]["vector"]), 1, atol=1e-5)
