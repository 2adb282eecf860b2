"""A stand-in for the review server: many made-up images, decisions kept in memory.

`python -m tests.support.review_server --rows 100000` prints the page's address. It answers as the server does, so the
page can be tried with more images than a test can write.
"""

import argparse
import colorsys
import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, Body, FastAPI, HTTPException
from fastapi.responses import FileResponse, Response

import headstart.review

PAGE = Path(headstart.review.__file__).parent / "page"
TOKEN = "token"
QUEUES = {
    "suspects": ("Label suspects", "The model, trained without the image, gives its label a low probability."),
    "disagree": ("Tracks disagree", "The head and the fine-tuned network predict different classes."),
    "lookalikes": ("Look-alikes", "Images of different splits that look nearly the same."),
    "doubtful": ("Doubtful", "The two most probable classes are nearly equally probable."),
    "wrong": ("Wrong on the test set", "A correction changes the test set, and so the numbers. The page counts these."),
    "random": ("Random", "Drawn by chance. They estimate how many labels of the whole data set are wrong."),
    "unlabelled": ("Unlabelled", "Images that would teach the model most."),
    "quarantined": ("Quarantined files", "These could not be decoded. You can drop them."),
}
COMPARISON = {
    "num_common": 153, "accuracy_before": 0.9412, "accuracy_after": 0.9673, "difference": 0.0261, "low": -0.0049,
    "high": 0.0588, "p_value": 0.21875, "newly_right": 5, "newly_wrong": 1, "suspects_gone": 18, "suspects_new": 2,
    "num_labels_changed": 0,
}  # fmt: skip


def digest_of(number: int) -> str:
    """Return the digest of a made-up image."""
    return hashlib.sha256(str(number).encode()).hexdigest()


class Images:
    """Made-up images and what was decided about them."""

    def __init__(self, num: int, classes: Sequence[str]) -> None:
        self.num, self.classes = num, list(classes)
        self.numbers = {digest_of(number): number for number in range(num)}
        self.digests = list(self.numbers)
        self.decisions: dict[str, tuple[str, str]] = {}
        self.steps: dict[str, tuple[str, tuple[str, str] | None]] = {}
        self.ids: dict[str, str] = {}
        self.run: dict[str, Any] = {"state": "idle", "reason": "", "lines": [], "seconds": 0.0, "comparison": None}

    def label(self, digest: str) -> str:
        """Return the label of an image."""
        number = self.numbers[digest]
        return self.classes[number * number % 7 % len(self.classes)]

    def row(self, digest: str) -> dict[str, Any]:
        """Return the row of an image in a queue."""
        number, label = self.numbers[digest], self.label(digest)
        suggestion = self.classes[(self.classes.index(label) + 1) % len(self.classes)]
        decision, by = self.decisions.get(digest, (None, None))
        return {
            "digest": digest, "path": f"train/{label}/{number:07d}.jpg", "label": label, "suggestion": suggestion,
            "split": "test" if number % 4 == 0 else "train", "why": f"The head says {suggestion} with probability 0.9.",
            "decision": decision, "by": by, "id": self.ids.get(digest), "width": 640, "height": 480,
        }  # fmt: skip

    def decide(self, body: dict[str, Any], who: str = "ann") -> dict[str, Any]:
        """Take a decision into account."""
        rows, conflicts, ids = [], [], {}
        for digest in body["digests"]:
            found = self.decisions.get(digest)
            if (found and found[0]) != body["seen"][digest] and not body.get("force"):
                conflicts.append({"digest": digest, "theirs": found and found[0], "by": "ben", "when": "12:00"})
                continue
            self.decisions[digest] = (body["label"] or self.label(digest), who)
            self.ids[digest] = f"{len(self.steps):016x}"
            self.steps[self.ids[digest]] = digest, found
            ids[digest] = self.ids[digest]
            rows.append(self.row(digest))
        return {"rows": rows, "conflicts": conflicts, "ids": ids}

    def undo(self, ids: Sequence[str]) -> dict[str, Any]:
        """Take decisions back."""
        rows = []
        for one in reversed(ids):
            digest, earlier = self.steps[one]
            self.decisions.pop(digest, None)
            if earlier:
                self.decisions[digest] = earlier
            rows.append(self.row(digest))
        return {"rows": rows, "conflicts": []}

    def work(self) -> None:
        """Pretend to retrain."""
        for step in range(6):
            self.run["seconds"] = step / 2
            self.run["lines"].append(f"Running stage number {step}")
            time.sleep(0.5)
            if self.run["state"] != "running":
                return
        self.run |= {"state": "done", "comparison": COMPARISON}


def make_app(images: Images) -> FastAPI:
    """Return the app over some images."""
    router = APIRouter(prefix=f"/{TOKEN}")

    @router.get("/")
    def page() -> FileResponse:
        headers = {"Content-Security-Policy": "default-src 'self'"}
        return FileResponse(PAGE / "page.html", headers=headers)

    @router.get("/api/state")
    def state() -> dict[str, Any]:
        queues = []
        for place, (name, (title, about)) in enumerate(QUEUES.items()):
            num = images.num >> place if name != "unlabelled" else 0
            done = sum(images.numbers[digest] < num for digest in images.decisions)
            queues.append({"name": name, "title": title, "about": about, "num": num, "num_done": done})
        return {
            "data_set": "data/my_photos", "classes": images.classes, "who": "ann", "queues": queues,
            "fixes_path": "data/label_fixes/my_photos.csv", "retrain": images.run,
            "results": {"version": 0, "is_foreign": False, "gap": None},
            "accuracy": {"before": None, "after": 0.9412, "num_images": 153},
            "noise": {"num_images": images.num, "num_decided": 120, "num_wrong": 4, "num_skipped": 2,
                      "share": 0.033, "low": 0.013, "high": 0.083, "num_mended": 31,
                      "num_suspects_decided": 36, "num_suspects_wrong": 27},
            "test_labels_changed": sum(images.numbers[one] % 4 == 0 for one in images.decisions),
        }  # fmt: skip

    @router.get("/api/queue/{name}")
    def queue(name: str, start: int = 0, count: int = 200) -> dict[str, Any]:
        num = images.num >> list(QUEUES).index(name)
        return {"num": num, "rows": [images.row(digest) for digest in images.digests[start : min(start + count, num)]]}

    @router.get("/api/image/{digest}")
    def image(digest: str) -> dict[str, Any]:
        row = images.row(digest)
        names = sorted(images.classes, key=lambda name: name != row["suggestion"])[:5]
        top = [{"label": name, "p": 0.9 / 3**place} for place, name in enumerate(names)]
        near = [
            {**images.row(one), "similarity": 0.97 - 0.03 * place} for place, one in enumerate(images.digests[7:15])
        ]
        decision = images.decisions.get(digest)
        history = [{"label": decision[0], "who": decision[1], "when": "12:00", "why": "suspects"}] if decision else []
        tracks = [{"track": track, **one} for track in ("head", "finetune") for one in top]
        return row | {"probabilities": tracks, "nearest": near, "history": history}

    @router.get("/thumb/{digest}")
    @router.get("/photo/{digest}")
    def picture(digest: str) -> Response:
        number = images.numbers[digest]
        red, green, blue = (round(255 * one) for one in colorsys.hsv_to_rgb(number * 0.618 % 1, 0.45, 0.8))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="192" height="144"><rect width="192" height="144" '
            f'fill="rgb({red},{green},{blue})"/><circle cx="96" cy="72" r="{20 + number % 40}" fill="#fff8"/>'
            f'<text x="8" y="136" font-size="14">{number}</text></svg>'
        )
        return Response(svg, media_type="image/svg+xml", headers={"Cache-Control": "max-age=31536000, immutable"})

    @router.post("/api/decide")
    def decide(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008 - FastAPI's way
        return images.decide(body)

    @router.post("/api/undo")
    def undo(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
        return images.undo(body["ids"])

    @router.post("/api/class")
    def declare(body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
        images.classes.append(body["name"])
        return {"classes": images.classes}

    @router.get("/api/retrain")
    def progress() -> dict[str, Any]:
        return images.run

    @router.post("/api/retrain")
    def start() -> dict[str, Any]:
        images.run = {"state": "running", "reason": "", "lines": [], "seconds": 0.0, "comparison": None}
        threading.Thread(target=images.work, daemon=True).start()
        return images.run

    @router.delete("/api/retrain")
    def cancel() -> dict[str, Any]:
        images.run["state"] = "cancelled"
        return images.run

    @router.get("/{name}")
    def file(name: str) -> FileResponse:
        if name not in {path.name for path in PAGE.iterdir()}:
            raise HTTPException(404, "there is nothing at this address")
        return FileResponse(PAGE / name, media_type="text/javascript" if name.endswith(".js") else None)

    app = FastAPI()
    app.include_router(router)
    return app


def main() -> None:
    """Serve made-up images on a free port of this machine."""
    parser = argparse.ArgumentParser(description="Serve the review page over made-up images.")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--classes", nargs="+", default=["ants", "bees", "beetles", "butterflies", "wasps"])
    words = parser.parse_args()
    config = uvicorn.Config(make_app(Images(words.rows, words.classes)), port=words.port, log_level="warning")
    with config.bind_socket() as socket:
        print(f"http://127.0.0.1:{socket.getsockname()[1]}/{TOKEN}/", flush=True)
        uvicorn.Server(config).run(sockets=[socket])


if __name__ == "__main__":
    main()
