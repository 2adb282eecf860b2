"""`predict` against `extract` on the same photos, and `predict` of one photo against the imports that it needs.

python -m benchmarks.predict [--photos FOLDER] [--num-photos 800] [--megapixels 12] [--num-rounds 3]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.extract import params_of
from benchmarks.options import add_photo_options, add_rounds_option, add_size_option, make_parser
from benchmarks.photo_set import make_photo_set
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from benchmarks.workspace import ROOT
from headstart.artifacts.bundle import Bundle, write_bundle
from headstart.artifacts.features import open_features
from headstart.artifacts.references import make_references
from headstart.predict.model import load
from stages.extract.extraction import extract


def write_head(folder: Path, features_path: Path) -> None:
    """Write a bundle with a random head for two classes on the last layer of a features file."""
    random = np.random.default_rng(0)
    with open_features(features_path) as features:
        spec, dim = features.spec, features.dim("last")
        digests = [digest.decode() for digest in features.digests]
        embeddings = features.read("last", digests).mean(axis=1)
    bundle = Bundle(
        track="head",
        classes=["a", "b"],
        spec=spec,
        layers=["last"],
        dims=[dim],
        temperature=1.0,
        trained_on={"num_images": len(digests)},
        weight=random.normal(size=(2, dim)).astype(np.float32),
        bias=np.zeros(2, dtype=np.float32),
        references=make_references(
            digests,
            digests,
            ["a"] * len(digests),
            embeddings,
            random.uniform(size=(100, 2)).astype(np.float32),
            dims=[dim],
        ),
    )
    write_bundle(folder, bundle)


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    add_photo_options(parser, 800)
    add_size_option(parser)
    add_rounds_option(parser)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        rows = make_photo_set(root / "photos", given.photos, given.num_photos, given.megapixels)
        params = params_of("efficientnet_lite0", root / "photos", root)
        paths = [root / "photos" / row.path for row in rows]
        first = extract(
            rows, params, root / "features.h5", root / "export"
        )  # exports the network, which no round should do
        write_head(root / "head", root / "features.h5")
        model = load(root / "head", num_images=10**6)
        stores = iter(range(100))

        def embed() -> float:
            store = root / f"store{next(stores)}"
            store.mkdir()
            (store / "engines").symlink_to((root / "export" / "engines").resolve())
            done = extract(rows, params, root / "again.h5", store)
            assert done.num_embedded == len(rows) == first.num_images
            return done.num_embedded / done.embedding_seconds

        def predict(coverage: float | None) -> float:
            return len(paths) / seconds_of(lambda: model.predict(paths, coverage=coverage))

        rates = take_turns(
            {"extract": embed, "predict": lambda: predict(None), "predict, coverage 0.95": lambda: predict(0.95)},
            given.num_rounds,
        )
        print(f"images/s, {len(paths)} photos:\n{describe_ratios(rates, 'extract')}")

        def run(*words: str) -> float:
            return seconds_of(
                lambda: subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
            )

        starts = take_turns(
            {
                "import torch, timm": lambda: run("-c", "import torch, timm"),
                "predict one photo": lambda: run("-m", "headstart", "predict", str(root / "head"), str(paths[0])),
            },
            given.num_rounds,
        )
        print(f"seconds from the start of the process:\n{describe_ratios(starts, 'import torch, timm')}")


if __name__ == "__main__":
    main()
