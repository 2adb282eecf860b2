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
from headstart.predict.model import Model, load
from headstart.tables.index import IndexRow
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


def make_bundle(root: Path, rows: list[IndexRow], decode: str = "scaled") -> Path:
    """Embed the photos in `root/photos` and return a bundle that sees photos in the same way."""
    features_path, folder = root / f"{decode}.h5", root / decode
    extract(rows, params_of("efficientnet_lite0", root / "photos", root, decode), features_path, root / "export")
    write_head(folder, features_path)
    return folder


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
        bundle = make_bundle(root, rows)  # exports the network, which no round should do
        model = load(bundle, num_images=10**6)
        stores = iter(range(100))

        def embed() -> float:
            store = root / f"store{next(stores)}"
            store.mkdir()
            (store / "engines").symlink_to((root / "export" / "engines").resolve())
            done = extract(rows, params, root / "again.h5", store)
            assert done.num_embedded == len(rows)
            return done.num_embedded / done.embedding_seconds

        def predict(model: Model, coverage: float | None = None) -> float:
            return len(paths) / seconds_of(lambda: model.predict(paths, coverage=coverage))

        contestants = {
            "extract": embed,
            "predict": lambda: predict(model),
            "predict, coverage 0.95": lambda: predict(model, 0.95),
        }
        if given.megapixels:
            exact = load(make_bundle(root, rows, "exact"), num_images=10**6)
            contestants["predict, decode exact"] = lambda: predict(exact)
        rates = take_turns(contestants, given.num_rounds)
        print(f"images/s, {len(paths)} photos:\n{describe_ratios(rates, 'extract')}")

        def run(*words: str) -> float:
            return seconds_of(
                lambda: subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
            )

        starts = take_turns(
            {
                "import torch, timm": lambda: run("-c", "import torch, timm"),
                "predict one photo": lambda: run("-m", "headstart", "predict", str(bundle), str(paths[0])),
            },
            given.num_rounds,
        )
        print(f"seconds from the start of the process:\n{describe_ratios(starts, 'import torch, timm')}")


if __name__ == "__main__":
    main()
