"""Review: wrong labels found per image shown, seconds from a decision to new numbers, and 100,000 images.

python -m benchmarks.review [--photos FOLDER] [--num-images 100000] [--rounds 3]

1. Ants & bees with 24 training labels flipped: a person goes through the label suspects in their order, corrects those
   that are flipped and accepts the others. How many are found within the first 60 shown, and what the head gains.
2. Digits: seconds from a decision to the new, compared numbers, and what of them DVC and the stages take.
3. Made-up results for 100,000 images: seconds to start, and milliseconds of the page's requests.
"""

import hashlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.data_sets import ANTS_BEES, DIGITS
from benchmarks.options import make_parser
from benchmarks.workspace import ROOT, run_main, write_params
from headstart.review.server import make_app
from headstart.review.session import Session
from headstart.tables.classes import write_classes
from headstart.tables.head import LabelSuspect, NearDuplicate
from headstart.tables.index import IndexRow
from headstart.tables.predictions import Predictions, write_predictions
from headstart.tables.rows import write_rows
from headstart.tables.split import RelabelledRow, SplitRow

NUM_FLIPPED, NUM_SHOWN, NUM_CLASSES = 24, 60, 20


def main() -> None:
    """Measure, and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--photos", type=Path, default=ANTS_BEES, help="folder of ants & bees (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=100_000, help="images of part 3 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="flips and retrainings to repeat (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HEADSTART_STORE"] = str(Path(folder) / "store")  # each data set is embedded once for all rounds
        if given.photos.is_dir():
            for seed in range(given.rounds):
                _find_flipped(Path(folder) / f"flipped{seed}", given.photos, seed)
        else:
            print(f"ants & bees: skipped, because {given.photos} is missing. Run: make ants_bees")
        _time_loop(Path(folder) / "digits", given.rounds)
        _time_requests(Path(folder) / "many", given.num_images)


def _client(session: Session) -> TestClient:
    return TestClient(make_app(session, "token", "127.0.0.1"), "http://127.0.0.1/token/")


def _project(root: Path, photos: Path) -> None:
    """Make a project of its own, with the code and DVC's settings of this one."""
    root.mkdir(parents=True)
    shutil.copytree(photos, root / "data/photos")
    for name in ("headstart", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvcignore", ".gitignore", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    write_params(root, "data/photos")
    (root / "data/label_fixes").mkdir()
    for words in ("git init --quiet", f"{sys.executable} -m dvc init --quiet"):
        subprocess.run(words.split(), cwd=root, check=True)
    with (root / ".dvc/config").open("a", encoding="utf-8") as config:
        config.write((ROOT / ".dvc/config").read_text(encoding="utf-8"))


def _find_flipped(root: Path, photos: Path, seed: int) -> None:
    """Flip labels, train, let a person go through the suspects, and train anew."""
    _project(root, photos)
    random = np.random.default_rng(seed)
    files = sorted((root / "data/photos/train").rglob("*.jpg"))
    names = sorted({file.parent.name for file in files})
    flipped = set()
    for number in random.choice(len(files), NUM_FLIPPED, replace=False):
        file = files[number]
        other = names[1 - names.index(file.parent.name)]
        target = file.parent.parent / other / f"flipped_{file.name}"
        file.rename(target)
        flipped.add(f"train/{other}/{target.name}")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", "evaluate@head"], cwd=root, check=True)
    session = Session(root, "benchmark")
    client = _client(session)
    queue = client.get(f"api/queue/suspects?count={NUM_SHOWN}").json()
    num_found = 0
    for row in queue["rows"]:
        label = row["suggestion"] if row["path"] in flipped else None
        num_found += label is not None
        answer = client.post("api/decide", json={"digests": [row["digest"]], "label": label, "why": "suspects"})
        assert not answer.json()["conflicts"]
    comparison = _retrain(client, session)
    session.close()
    print(
        f"ants & bees, seed {seed}: {num_found} of {NUM_FLIPPED} flipped labels found in {len(queue['rows'])} shown "
        f"(of {queue['num']} suspects): {num_found / NUM_FLIPPED:.0%}; accuracy {comparison['accuracy_before']:.3f} -> "
        f"{comparison['accuracy_after']:.3f} (difference {comparison['low']:+.3f} to {comparison['high']:+.3f}, "
        f"{comparison['num_common']} images); {comparison['suspects_gone']} suspects gone, "
        f"{comparison['suspects_new']} new",
        flush=True,
    )


def _retrain(client: TestClient, session: Session) -> dict[str, float]:
    client.post("api/retrain")
    session.retrain.wait()
    status = client.get("api/retrain").json()
    assert status["state"] == "done", status
    comparison: dict[str, float] = status["comparison"]
    return comparison


def _time_loop(root: Path, num_rounds: int) -> None:
    """Time decision to numbers on digits, against the stages alone and against DVC with nothing to do."""
    _project(root, DIGITS)
    dvc = [sys.executable, "-m", "dvc", "repro", "--quiet", "evaluate@head"]
    subprocess.run(dvc, cwd=root, check=True)
    session = Session(root, "benchmark")
    client = _client(session)

    def decide_and_train() -> None:
        row = client.get("api/queue/suspects").json()["rows"][0]
        body = {"digests": [row["digest"]], "label": row["suggestion"], "why": "suspects", "force": True}
        client.post("api/decide", json=body)
        _retrain(client, session)

    def run_stages() -> None:
        for stage in ("split", "head"):
            run_main(root, stage)
        run_main(root, "evaluate", "head")

    def run_dvc() -> None:
        subprocess.run(dvc, cwd=root, check=True)

    parts: dict[str, Callable[[], None]] = {
        "decision to numbers": decide_and_train,
        "its stages alone": run_stages,
        "dvc with nothing to do": run_dvc,
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for _ in range(num_rounds):
        for name, part in parts.items():
            start, cpu = time.monotonic(), _cpu_seconds()
            part()
            seconds[name].append((time.monotonic() - start, _cpu_seconds() - cpu))
    for name, each in seconds.items():
        print(
            f"digits, {name}: {min(one for one, _ in each):.1f} s at best of {num_rounds} "
            f"({min(cpu for _, cpu in each):.1f} s of processor time), load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    session.close()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _time_requests(root: Path, num_images: int) -> None:
    """Time the start of the server and the page's requests where there are many images."""
    write_many(root, num_images)
    start = time.monotonic()
    session = Session(root, "benchmark")
    print(f"{num_images} images: started in {time.monotonic() - start:.1f} s", flush=True)
    client = _client(session)
    digests = [row["digest"] for row in client.get("api/queue/random?count=500").json()["rows"]]
    for digest in digests:
        client.post("api/decide", json={"digests": [digest], "label": None, "why": "random"})
    decisions = iter(range(10**9))
    others = [row["digest"] for row in client.get(f"api/queue/random?start={num_images // 2}&count=500").json()["rows"]]
    requests: dict[str, Callable[[], object]] = {
        "state": lambda: client.get("api/state"),
        "200 rows at the beginning": lambda: client.get("api/queue/random?start=0&count=200"),
        "200 rows near the end": lambda: client.get(f"api/queue/doubtful?start={num_images // 2}&count=200"),
        "an image": lambda: client.get(f"api/image/{digests[0]}"),
        "a decision": lambda: client.post("api/decide", json={"digests": [others[next(decisions)]], "label": None}),
        "a decision on 200": lambda: client.post(
            "api/decide", json={"digests": digests[:200], "label": f"class {next(decisions) % 9:02}", "force": True}
        ),
    }
    for name, request in requests.items():
        milliseconds = []
        for _ in range(30):
            start = time.monotonic()
            request()
            milliseconds.append(1000 * (time.monotonic() - start))
        print(f"{num_images} images, {name}: median {statistics.median(milliseconds):.1f} ms, at best "
              f"{min(milliseconds):.1f} ms", flush=True)  # fmt: skip
    session.close()


def write_many(root: Path, num_images: int, photos: Sequence[bytes] = ()) -> None:
    """Write made-up results of the stages.

    Args:
        root: Folder of the project; it must not exist.
        num_images: Number of images.
        photos: JPEG files. If there are any, small distinct copies are written as the images, which else do not exist.
    """
    random = np.random.default_rng(0)
    write_params(_made(root), "data/photos")
    classes = [f"class {number:02}" for number in range(NUM_CLASSES)]
    labels = [classes[number] for number in random.integers(NUM_CLASSES, size=num_images)]
    small = [_small(photo) for photo in photos]
    split = []
    for number, label in enumerate(labels):
        data = (small[number % len(small)] if small else b"") + f"copy {number}".encode()
        path, digest = f"{label}/{number:06}.jpg", hashlib.sha256(data).hexdigest()
        if small:
            file = root / "data/photos" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        split.append(SplitRow(digest, path, label, "train" if number % 4 else "test", digest))
    split.sort(key=lambda row: row.digest)
    write_rows(
        root / "data/index.csv", [IndexRow(r.path, r.digest, "JPEG", 213, 160, "ok", "") for r in split], IndexRow
    )
    write_rows(root / "data/split.csv", split, SplitRow)
    write_classes(root / "data/classes.json", classes)
    for name, is_test in (("head", True), ("finetune", True), ("head_out_of_fold", False)):
        rows = [row for row in split if (row.split == "test") == is_test]
        logits = (
            random.normal(size=(len(rows), NUM_CLASSES))
            + 2 * np.eye(NUM_CLASSES)[[classes.index(row.label) for row in rows]]
        )
        paths = [row.path for row in rows]
        table = Predictions([row.digest for row in rows], paths, [row.label for row in rows], classes, logits)
        write_predictions(root / f"predictions/{name}.csv", table)
    trained, test = ([row for row in split if (row.split == "test") == is_test] for is_test in (False, True))
    suspects = [LabelSuspect(r.digest, r.path, r.label, 0.1, classes[0], 0.8) for r in trained[: num_images // 10]]
    write_rows(root / "diagnostics/relabelled.csv", [], RelabelledRow)
    write_rows(root / "diagnostics/head/label_suspects.csv", suspects, LabelSuspect)
    pairs = [
        NearDuplicate(a.digest, a.path, a.label, b.digest, b.path, b.label, 0.95)
        for a, b in zip(test, trained, strict=False)
    ]
    write_rows(root / "diagnostics/head/near_duplicates.csv", pairs, NearDuplicate)


def _small(photo: bytes) -> bytes:
    """Return a photo with 160 pixels at its short side."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as image:
        scale = 160 / min(image.size)
        image.resize((round(image.width * scale), round(image.height * scale))).save(file, "JPEG", quality=90)
    return file.getvalue()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
