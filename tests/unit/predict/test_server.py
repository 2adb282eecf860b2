"""The server: it gives the model's answers in the order of the files, and limits everything that is requested."""

import asyncio
import base64
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Full
from typing import Any

import httpx2
import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.hostile_files import many_scans, slow_bitmap
from headstart.backbone.params import BackboneParams
from headstart.base.files import sha256_file
from headstart.base.helpers import Helpers
from headstart.base.threads import num_cores
from headstart.imaging.effort import Limits as DecodingLimits
from headstart.imaging.formats import format_names
from headstart.predict.commands.serve import parse
from headstart.predict.heat_maps import HeatMaps, find_heat_maps
from headstart.predict.image_like import DecodedImage, ImageLike
from headstart.predict.inputs import LoadedImage
from headstart.predict.model import Model, load
from headstart.predict.pages import NUM_NEAREST
from headstart.predict.prediction import Prediction
from headstart.predict.server import batcher as batching
from headstart.predict.server import decoder as decoding
from headstart.predict.server.app import make_app
from headstart.predict.server.batcher import Batcher, PredictJob
from headstart.predict.server.decoder import Decoder
from headstart.predict.server.explainer import Explainer
from headstart.predict.server.limits import PREDICT, Gate, Limits
from tests.conftest import write_photos
from tests.support.bundles import CLASSES, make_bundle, written
from tests.support.source import ROOT

ADDRESS = "http://localhost"
HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    "../../etc/passwd",
    "http://127.0.0.1:9/x.png",
    "a\\b\u202eg.png",
    "шум.png",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 small photos."""
    root = tmp_path_factory.mktemp("served") / "photos"
    write_photos(root)
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams, folder: Path) -> Path:
    """A fine-tuned bundle, two of whose references are photos of the folder."""
    made = make_bundle(tiny_backbone, track="finetune")
    known = made.references
    files = sorted(folder.rglob("*.*"), key=sha256_file)[:2]
    digests = sorted([*(sha256_file(file) for file in files), *known.digests[2:]])
    paths = {sha256_file(file): str(file.relative_to(folder)) for file in files}
    root = tmp_path_factory.mktemp("bundle")
    found = load(written(root / "first", made)).predict(sorted(folder.rglob("*.*")))
    held_out = np.array([[one.confidence, -1] for one in found], dtype=np.float32)  # half of them pass at 0.5
    references = replace(
        known,
        held_out=held_out,
        digests=digests,
        paths=[paths.get(one, f"gone/{one}.png") for one in digests],
    )
    return written(root / "b", replace(made, references=references))


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    """The model."""
    return load(bundle)


@contextmanager
def serving(
    model: Model, photos: Path | None = None, decoding_seconds: float = 30, **changes: int
) -> Iterator[FastAPI]:
    """Give the app of a model with a running decoder and batcher."""
    limits = replace(Limits(), **{"max_pixels": 10_000} | changes)
    explainer = Explainer(model, find_heat_maps(model.bundle, None), photos)
    with (
        Decoder(model, limits.max_pixels, decoding_seconds) as decoder,
        Batcher(model, explainer, limits.max_requests) as batcher,
    ):
        yield make_app(model, decoder, batcher, limits, "127.0.0.1")


@pytest.fixture(scope="module")
def client(model: Model, folder: Path) -> Iterator[TestClient]:
    """A client of the app."""
    with serving(model, folder, max_files=20, max_bytes=400_000) as app:
        yield TestClient(app, ADDRESS)


@pytest.fixture(scope="module")
def photo(folder: Path) -> bytes:
    """The bytes of one photo."""
    return (folder / "red" / "1.png").read_bytes()


def files_of(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """Return files for the field `images`."""
    return [("images", (f"{number}.png", content)) for number, content in enumerate(contents)]


class Hold:
    """Replaces a model's `predict`: it waits for `go` and records the number of images of each call."""

    def __init__(self, model: Model) -> None:
        self.sizes: list[int] = []
        self.has_begun, self.go = threading.Event(), threading.Event()
        self._predict = model.predict

    def __call__(self, images: list[ImageLike], **options: Any) -> list[Prediction]:
        """Predict after `go` has been set."""
        self.sizes.append(len(images))
        self.has_begun.set()
        assert self.go.wait(60)
        return self._predict(images, **options)


def test_answers_are_those_of_the_model(client: TestClient, model: Model, folder: Path) -> None:
    """The rows of a request are in the order of its files, with the classes and probabilities of `Model.predict`."""
    paths = sorted(folder.rglob("*.*"))
    files = [("images", (path.name, path.read_bytes())) for path in paths]
    reply = client.post(PREDICT, files=files, params={"top": 3, "coverage": 0.5}).json()

    assert reply["model"] == model.digest
    assert len(reply["images"]) == len(paths) == 12
    for row, path, one in zip(reply["images"], paths, model.predict(paths, coverage=0.5), strict=True):
        assert (row["name"], row["status"], row["reason"]) == (path.name, one.status, one.reason)
        assert row["predicted"] == one.predicted
        assert row["confidence"] == pytest.approx(one.confidence)
        assert [(rank["label"], rank["probability"]) for rank in row["top"]] == [
            (label, pytest.approx(value)) for label, value in one.top(3)
        ]
        assert (row["heat_map"], row["nearest"]) == (None, None)
    assert {row["status"] for row in reply["images"]} == {"ok", "unknown"}


def test_explanations_have_heat_maps_and_training_images(
    client: TestClient, model: Model, folder: Path, photo: bytes
) -> None:
    """With `explain` a row has a PNG of the network's input and the model's nearest training images."""
    (row,) = client.post(PREDICT, files=files_of(photo), params={"explain": True}).json()["images"]
    (one,) = model.predict([photo], num_nearest=NUM_NEAREST)
    kind, _, text = row["heat_map"].partition(",")

    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (64, 64)
    assert [(near["path"], near["label"]) for near in row["nearest"]] == [
        (near.path, near.label) for near in one.nearest
    ]
    assert [near["similarity"] for near in row["nearest"]] == pytest.approx([near.similarity for near in one.nearest])
    for near in row["nearest"]:
        assert near["thumbnail"].startswith("data:image/webp;base64,") == (folder / near["path"]).is_file()


def test_heat_maps_are_of_the_most_probable_class(
    client: TestClient, model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each photo of a request has the heat map of its own class."""
    columns: list[int] = []

    def recorded(_: HeatMaps, pixels: NDArray[np.uint8], column: int) -> NDArray[np.float32]:
        columns.append(column)
        return np.zeros(pixels.shape[:2], dtype=np.float32)

    monkeypatch.setattr(HeatMaps, "of", recorded)
    paths = sorted(folder.rglob("*.*"))
    files = files_of(*(path.read_bytes() for path in paths))
    assert client.post(PREDICT, files=files, params={"explain": True}).status_code == 200

    assert columns == [int(one.logits.argmax()) for one in model.predict(paths) if one.logits is not None]


def test_the_cache_of_thumbnails_is_limited(
    model: Model, folder: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training image is read again only if many others were shown since."""
    read: list[Path] = []
    module = "headstart.predict.server.explainer"

    def thumbnail(path: Path, _: str) -> str:
        read.append(path)
        return ""

    monkeypatch.setattr(f"{module}.training_thumbnail", thumbnail)
    monkeypatch.setattr(f"{module}._MAX_THUMBNAILS", 5)
    explainer = Explainer(model, None, folder)
    (one,) = model.predict([photo], num_nearest=20)
    for _ in range(3):
        explainer.thumbnails(one.nearest[:5])
    assert len(read) == 5
    explainer.thumbnails(one.nearest)
    assert len(read) == 20
    explainer.thumbnails(one.nearest[:5])
    assert len(read) == 25


def test_concurrent_requests_keep_their_order(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty requests at once, with several photos and coverages, get their own rows from fewer than sixty calls."""
    paths = sorted(folder.rglob("*.*"))
    expected = dict(zip(paths, model.predict(paths), strict=True))
    hold = Hold(model)
    monkeypatch.setattr(model, "predict", hold)
    asked = [[paths[(number + place) % 12] for place in range(1 + number % 3)] for number in range(60)]

    async def work(app: FastAPI) -> list[httpx2.Response]:
        async with client_of(app) as client:
            requests = [
                client.post(
                    PREDICT,
                    files=[("images", (path.name, path.read_bytes())) for path in chosen],
                    params={"coverage": 1} if number % 2 else {},
                )
                for number, chosen in enumerate(asked)
            ]
            tasks = [asyncio.ensure_future(request) for request in requests]
            await asyncio.to_thread(hold.has_begun.wait, 60)
            hold.go.set()
            return await asyncio.gather(*tasks)

    with serving(model, max_requests=60) as app:
        responses = asyncio.run(work(app))
    for chosen, response in zip(asked, responses, strict=True):
        assert response.status_code == 200
        rows = response.json()["images"]
        assert [row["name"] for row in rows] == [path.name for path in chosen]
        assert [row["confidence"] for row in rows] == pytest.approx([expected[path].confidence for path in chosen])
    assert sum(hold.sizes) == sum(map(len, asked))
    assert len(hold.sizes) < 60


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    """Return a client that can send many requests at once."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=ADDRESS)


def test_waiting_requests_share_a_call(model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that waited for the model share the next call. A request whose client has given up is skipped."""
    hold = Hold(model)
    monkeypatch.setattr(model, "predict", hold)
    jobs = [PredictJob([as_decoded(model, photo)] * num, None, explain=False) for num in (1, 2, 3, 4)]
    with Batcher(model, Explainer(model, None, None), 3) as batcher:
        batcher.submit(jobs[0])
        assert hold.has_begun.wait(60)
        for job in jobs[1:]:
            batcher.submit(job)
        jobs[2].answers.cancel()
        with pytest.raises(Full):
            batcher.submit(jobs[0])
        hold.go.set()
        found = [len(job.answers.result(60)) for job in (jobs[0], jobs[1], jobs[3])]

    assert found == [1, 2, 4]
    assert hold.sizes == [1, 6]


def test_requests_that_share_a_call_keep_their_coverage(
    model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coverage of one request does not change the answers to the others."""
    paths = sorted(folder.rglob("*.*"))
    least_sure = min(model.predict(paths), key=lambda one: one.confidence or 0)
    photo = Path(least_sure.name).read_bytes()
    hold = Hold(model)
    monkeypatch.setattr(model, "predict", hold)
    coverages = (None, 0.01, None, 1e-9)
    jobs = [PredictJob([as_decoded(model, photo)], model.thresholds(coverage), explain=False) for coverage in coverages]
    with Batcher(model, Explainer(model, None, None), 4) as batcher:
        batcher.submit(jobs[0])
        assert hold.has_begun.wait(60)
        for job in jobs[1:]:
            batcher.submit(job)
        hold.go.set()
        found = [job.answers.result(60)[0].prediction.status for job in jobs]

    assert found == ["ok", "unknown", "ok", "unknown"]
    assert hold.sizes == [1, 3]


def test_a_failed_request_is_no_longer_counted() -> None:
    """After an error in the app the next request is accepted."""

    async def breaking(*_: Any) -> None:
        raise RuntimeError("broken")

    gate = Gate(breaking, replace(Limits(), max_requests=1))
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": headers}
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            asyncio.run(gate(scope, None, None))  # type: ignore[arg-type]


def test_a_call_takes_a_limited_number_of_images(model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests wait, a call takes only some, so that the first do not wait for the last."""
    hold = Hold(model)
    monkeypatch.setattr(model, "predict", hold)
    monkeypatch.setattr(batching, "_MAX_IMAGES", 5)
    jobs = [PredictJob([as_decoded(model, photo)] * 2, None, explain=False) for _ in range(6)]
    with Batcher(model, Explainer(model, None, None), 5) as batcher:
        batcher.submit(jobs[0])
        assert hold.has_begun.wait(60)
        for job in jobs[1:]:
            batcher.submit(job)
        hold.go.set()
        for job in jobs:
            job.answers.result(60)

    assert hold.sizes == [2, 6, 4]


def as_decoded(model: Model, data: bytes) -> DecodedImage:
    """Return a file as the app passes it to the batcher."""
    return model.decode(LoadedImage("a.png", data=data), DecodingLimits(10**6, 60), Helpers(1))


def test_a_request_on_which_the_model_fails_fails_alone(
    model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It alone gets 500, with a message that reveals nothing about the machine, and the server keeps running."""
    predict = model.predict

    def failing(images: list[Any], **options: Any) -> list[Prediction]:
        if any(image.status.name == "bad" for image in images):
            raise RuntimeError("/secret/path")
        return predict(images, **options)

    monkeypatch.setattr(model, "predict", failing)

    async def work(app: FastAPI) -> list[httpx2.Response]:
        async with client_of(app) as client:
            names = ["a", "bad", "b", "bad", "c"]
            return await asyncio.gather(*(client.post(PREDICT, files=[("images", (name, photo))]) for name in names))

    with serving(model) as app:
        responses = asyncio.run(work(app))

    assert [response.status_code for response in responses] == [200, 500, 200, 500, 200]
    assert responses[1].json() == {"detail": "the model failed on this request"}
    assert capsys.readouterr().err.count("serve: WARNING: a request failed: RuntimeError: /secret/path\n") == 2


def test_a_file_that_takes_too_long_is_quarantined_alone(model: Model, photo: bytes) -> None:
    """Its decoding is stopped and it gets a reason; the other files of the request are answered."""
    with serving(model, max_pixels=10**7, decoding_seconds=0.4) as app:
        files = files_of(photo, slow_bitmap(3000, 2000), photo, many_scans(300, 3000))
        rows = TestClient(app, ADDRESS).post(PREDICT, files=files).json()["images"]

    assert [row["status"] for row in rows] == ["ok", "quarantined", "ok", "quarantined"]
    assert rows[1]["reason"] == rows[3]["reason"] == "decoding takes longer than 0.4 seconds"


def test_slow_files_hold_up_nobody_else(model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """While more slow files than there are helpers wait for their end, others are answered."""
    go, decode, slow = threading.Event(), model.decode, slow_bitmap(10, 10)

    def waiting(file: LoadedImage, *others: Any) -> DecodedImage:
        assert file.name != "slow" or go.wait(60)
        return decode(file, *others)

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            requests = [client.post(PREDICT, files=[("images", ("slow", slow))]) for _ in range(num_cores() + 3)]
            tasks = [asyncio.create_task(request) for request in requests]
            await asyncio.sleep(0.1)
            assert (await client.post(PREDICT, files=files_of(photo))).json()["images"][0]["status"] == "ok"
            assert not any(task.done() for task in tasks)
            go.set()
            assert [response.status_code for response in await asyncio.gather(*tasks)] == [200] * len(tasks)

    monkeypatch.setattr(model, "decode", waiting)
    with serving(model) as app:
        asyncio.run(work(app))


def test_a_request_with_many_files_leaves_a_thread_to_others(
    model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are decoded one thread short of all, so that the file of another request finds one."""
    begun, go = threading.Semaphore(0), threading.Event()
    decode = model.decode

    def waiting(file: LoadedImage, *others: Any) -> DecodedImage:
        if file.name == "many":
            begun.release()
            assert go.wait(60)
        return decode(file, *others)

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            many = asyncio.create_task(client.post(PREDICT, files=[("images", ("many", photo))] * 20))
            await asyncio.to_thread(begun.acquire, timeout=60)
            assert (await client.post(PREDICT, files=files_of(photo))).status_code == 200
            assert not many.done()
            go.set()
            assert len((await many).json()["images"]) == 20

    monkeypatch.setattr(model, "decode", waiting)
    with serving(model) as app:
        asyncio.run(work(app))


def test_pixels_of_waiting_images_are_limited(model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests whose pixels would take too much memory together are decoded one after the other."""
    monkeypatch.setattr(decoding, "_MOST_BYTES", 1)
    files = [LoadedImage("a", data=photo)] * 3
    num_at_once = most = 0

    async def work(decoder: Decoder) -> None:
        async def request() -> None:
            nonlocal num_at_once, most
            async with decoder.decoded(files) as images:
                num_at_once += 1
                most = max(most, num_at_once)
                assert [image.status.status for image in images] == ["ok"] * 3
                await asyncio.sleep(0.01)
                num_at_once -= 1

        await asyncio.gather(*(request() for _ in range(5)))

    with Decoder(model, 10**6, 60) as decoder:
        asyncio.run(work(decoder))
    assert most == 1


def test_bad_files_are_quarantined(client: TestClient, photo: bytes) -> None:
    """Empty, foreign, cut and too large files each have a reason; the good files of the request are answered."""
    large = io.BytesIO()
    Image.new("L", (101, 100)).save(large, "PNG")
    contents = [photo, b"", b"GET / HTTP/1.1", photo[: len(photo) // 2], large.getvalue(), b"/etc/passwd", photo]
    response = client.post(PREDICT, files=files_of(*contents), params={"explain": True})
    rows = response.json()["images"]

    assert response.status_code == 200
    assert [row["status"] for row in rows] == ["ok", *["quarantined"] * 5, "ok"]
    assert rows[1]["reason"] == "zero bytes"
    assert rows[2]["reason"] == rows[5]["reason"] == f"not an image of a known format ({', '.join(format_names())})"
    assert rows[3]["reason"].startswith("damaged")
    assert rows[4]["reason"] == "101 x 100 pixels; at most 10000 are allowed"
    for row in rows[1:6]:
        assert (row["predicted"], row["confidence"], row["top"], row["heat_map"], row["nearest"]) == (
            "",
            None,
            [],
            None,
            [],
        )
    assert {**rows[0], "name": ""} == {**rows[6], "name": ""}


@pytest.mark.parametrize("name", [*HOSTILE, "", "x" * 2000])
def test_file_names_are_only_repeated(client: TestClient, photo: bytes, name: str) -> None:
    """Only a file's bytes are used. Its name, whatever it is, comes back unchanged."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="'
        + name.replace("\\", "\\\\").encode()
        + b'"\r\n\r\n' + photo + b"\r\n--b--\r\n"
    )  # fmt: skip
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = client.post(PREDICT, content=body, headers=headers)

    assert response.status_code == 200
    assert [(row["name"], row["status"]) for row in response.json()["images"]] == [(name, "ok")]


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-16", "utf-7", "zlib", "nothing"])
def test_odd_charsets_break_nothing(client: TestClient, photo: bytes, charset: str) -> None:
    """A body that names its own charset gets an answer or an error message, even for half a surrogate pair."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="\\ud800"\r\n\r\n' + photo + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": f"multipart/form-data; charset={charset}; boundary=b"}
    response = client.post(PREDICT, content=body, headers=headers)

    assert response.status_code in (200, 422)
    assert response.json().keys() & {"images", "detail"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/docs", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/page/serve.html", 404),
        ("GET", "/../pyproject.toml", 404),
        ("GET", PREDICT, 405),
        ("PUT", PREDICT, 405),
        ("POST", "/healthz", 405),
        ("DELETE", "/", 405),
    ],
)
def test_unknown_routes_and_methods(client: TestClient, method: str, path: str, status: int) -> None:
    """An unknown path is 404 and an unknown method 405, each with a detail."""
    response = client.request(method, path)

    assert response.status_code == status
    assert list(response.json()) == ["detail"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("top=0", "query.top: "),
        (f"top={len(CLASSES) + 1}", "query.top: "),
        ("top=two", "query.top: "),
        ("coverage=0", "query.coverage: "),
        ("coverage=1.01", "query.coverage: "),
        ("coverage=nan", "query.coverage: "),
        ("explain=maybe", "query.explain: "),
        ("topp=3", "query.topp: is not a parameter; expected coverage, explain, top"),
    ],
)
def test_wrong_parameters_are_named(client: TestClient, photo: bytes, query: str, message: str) -> None:
    """A parameter that is out of range, of another type or unknown is 422, and the detail names it."""
    response = client.post(f"{PREDICT}?{query}", files=files_of(photo))

    assert response.status_code == 422
    assert response.json()["detail"].startswith(message)


def test_other_bodies_are_errors(client: TestClient, photo: bytes) -> None:
    """Another content type is 415, a missing boundary 400, and no files or text in their place 422."""
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}

    assert client.post(PREDICT, json={"images": []}).status_code == 415
    assert client.post(PREDICT, content=photo).status_code == 415
    assert client.post(PREDICT, data={"images": "/etc/passwd"}).status_code == 415
    assert client.post(PREDICT, content=b"x", headers={"Content-Type": "multipart/form-data"}).status_code == 400
    assert client.post(PREDICT, content=b"x", headers=multipart).status_code == 400
    assert client.post(PREDICT, content=b"--b--\r\n", headers=multipart).status_code == 422
    assert client.post(PREDICT, files={"photos": photo}).status_code == 422
    text = b'--b\r\nContent-Disposition: form-data; name="images"\r\n\r\n/etc/passwd\r\n--b--\r\n'
    assert client.post(PREDICT, content=text, headers=multipart).status_code == 422


@pytest.mark.parametrize("num_missing", [4, 20, 60, 400])
def test_a_cut_body_is_an_error(client: TestClient, photo: bytes, num_missing: int) -> None:
    """A file that is cut is not silently dropped, even if the announced length fits."""
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n%b\r\n' % (number, photo)
        for number in range(2)
    )
    header = {"Content-Type": "multipart/form-data; boundary=xyz"}
    whole, cut = body + b"--xyz--\r\n", (body + b"--xyz--\r\n")[:-num_missing]

    assert len(client.post(PREDICT, content=whole, headers=header).json()["images"]) == 2
    response = client.post(PREDICT, content=cut, headers=header)
    assert response.status_code == 400
    assert "the body is cut" in response.json()["detail"]


def test_too_many_files_are_an_error(client: TestClient, photo: bytes) -> None:
    """One file more than the limit is 422. As many files as the limit are answered."""
    assert len(client.post(PREDICT, files=files_of(*[photo] * 20)).json()["images"]) == 20
    response = client.post(PREDICT, files=files_of(*[photo] * 21))

    assert (response.status_code, response.json()["detail"].split(":")[0]) == (422, "body.images")


def test_a_body_that_is_too_long_is_stopped(model: Model) -> None:
    """With a stated length before a byte is read, and otherwise as soon as the limit is passed, not at the end."""
    num_given = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal num_given
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        while True:  # without an end
            num_given += 1
            yield b"x" * 1000

    async def work(app: FastAPI) -> None:
        # httpx would read the whole stream first, so call the app directly.
        sent: list[dict[str, Any]] = []
        chunks = body()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
        scope = {"type": "http", "method": "POST", "path": PREDICT, "query_string": b"", "headers": headers}
        await app(scope, receive, send)
        assert sent[0]["status"] == 413
        assert b"the body is longer than 10000 bytes" in sent[1]["body"]
        stated = {**scope, "headers": [*headers, (b"content-length", b"10001")]}
        sent.clear()
        await app(stated, None, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 413

    with serving(model, max_bytes=10_000) as app:
        asyncio.run(work(app))
    assert num_given == 10


def test_too_many_requests_get_503(model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request beyond the limit gets 503 with Retry-After at once. Earlier and later requests are answered."""
    hold = Hold(model)
    monkeypatch.setattr(model, "predict", hold)

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            tasks = [asyncio.create_task(client.post(PREDICT, files=files_of(photo))) for _ in range(2)]
            await asyncio.to_thread(hold.has_begun.wait, 60)
            refused = await client.post(PREDICT, files=files_of(photo))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (await client.get("/healthz")).status_code == 200
            hold.go.set()
            assert [response.status_code for response in await asyncio.gather(*tasks)] == [200, 200]
            assert (await client.post(PREDICT, files=files_of(photo))).status_code == 200

    with serving(model, max_requests=2) as app:
        asyncio.run(work(app))


def test_a_request_that_takes_too_long_gets_504(model: Model, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets 504 while the model is still working."""
    hold = Hold(model)
    monkeypatch.setattr(model, "predict", hold)
    with serving(model, max_seconds=0) as app:
        response = TestClient(app, ADDRESS).post(PREDICT, files=files_of(photo))
        hold.go.set()

    assert (response.status_code, response.json()) == (504, {"detail": "the request took longer than 0 seconds"})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "[::1]", "10.1.2.3"])
def test_addresses_and_own_names_are_allowed(client: TestClient, host: str) -> None:
    """Any IP address is allowed in the Host header, because another site has a name."""
    assert client.get("/healthz", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil", "evil:127.0.0.1", "127.0.0.1.evil:80", "", "[::1"])
def test_other_names_in_the_host_header_are_errors(client: TestClient, host: str) -> None:
    """A site that points its own name at the server gets no answer."""
    response = client.get("/healthz", headers={"Host": host})

    assert response.status_code == 400
    assert response.json()["detail"].startswith(
        f"Host header {host!r} is not allowed; use the server's IP address or one of"
    )


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:81", "http://localhost.evil"])
def test_pages_of_other_sites_are_errors(client: TestClient, photo: bytes, origin: str) -> None:
    """They cannot send photos through their visitors' browsers."""
    response = client.post(PREDICT, files=files_of(photo), headers={"Origin": origin})

    assert response.status_code == 403
    assert response.json() == {
        "detail": f"Origin header {origin!r} is not allowed; only the server's own page may send requests"
    }


def test_healthz_and_page(client: TestClient, model: Model) -> None:
    """/healthz names the model. The page allows only its own script and style, and refers to no other site."""
    page = client.get("/")
    policy = page.headers["content-security-policy"]

    assert client.get("/healthz").json() == {"model": model.digest, "track": "finetune", "num_classes": len(CLASSES)}
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.text) == []
    assert "innerHTML" not in page.text


def test_generated_requests_get_what_openapi_says(model: Model) -> None:
    """Valid and invalid requests that are generated from the schema get only responses that the schema describes."""
    with serving(model) as app:
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})

        paths, statuses = app.openapi()["paths"], ["200", "400", "403", "413", "415", "422", "500", "503", "504"]
        assert set(paths[PREDICT]["post"]["responses"]) == set(statuses)
        asked = []
        for result in schema.get_all_operations():
            operation: Any = result.ok()  # type: ignore[union-attr]
            asked.append(operation.label)

            @settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
            @cases_of(operation)  # type: ignore[untyped-decorator]
            def check(case: Any) -> None:
                case.call_and_validate(headers={"Host": "localhost"})

            check()
    assert sorted(asked) == ["GET /healthz", f"POST {PREDICT}"]


def cases_of(operation: Any) -> Any:
    """Return a decorator that gives a test valid and invalid cases of one operation."""
    modes = schemathesis.GenerationMode
    return given(case=operation.as_strategy(modes.POSITIVE) | operation.as_strategy(modes.NEGATIVE))


def test_a_wrong_command_line_gives_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong port or limit, or a missing bundle, gives exit code 2."""
    for words in (["b", "--port", "70000"], ["b", "--max-files", "0"], [], ["b", "--max-bytes", "x"]):
        with pytest.raises(SystemExit) as stopped:
            parse(words)
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_serves_until_a_signal(bundle: Path, tmp_path: Path, photo: bytes) -> None:
    """It answers over loopback, stops at either signal with exit code 0, and a used port is an error of one line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for stop in (signal.SIGTERM, signal.SIGINT):
        command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", "--max-pixels", "9999"]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            said = ""
            while not (found := re.search(r"on (http://127\.0\.0\.1:(\d+)) ", said)):
                line = server.stderr.readline()
                assert line, said
                said += line
            large = io.BytesIO()
            Image.new("RGB", (100, 100)).save(large, "PNG")
            files = files_of(photo, large.getvalue())
            reply = httpx2.post(f"{found[1]}{PREDICT}", files=files, timeout=60).json()
            taken = [*command[:5], "--port", found[2]]
            second = subprocess.run(taken, cwd=tmp_path, env=environment, capture_output=True, text=True)
            server.send_signal(stop)
            rest = server.stderr.read()

        assert [row["status"] for row in reply["images"]] == ["ok", "quarantined"]
        assert (server.returncode, rest) == (0, "serve: stopped\n")
        assert second.returncode == 1
        assert re.fullmatch(r"serve: cannot listen on 127\.0\.0\.1, port \d+: .*\n", second.stderr)
