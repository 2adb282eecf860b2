"""The server over loopback against the model called directly: images/s and latency; its memory over many requests.

With `--megapixels` only the latency of large photos is measured, against a model that decodes them whole. With
`--hostile` only the latency of ordinary clients is measured, while others send files that would take minutes.

python -m benchmarks.serve [--bundle FOLDER] [--photo FILE] [--photos FOLDER] [--megapixels 12 | --hostile]
"""

import http.client
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.hostile_files import many_scans, slow_bitmap
from benchmarks.memory import memory_bytes
from benchmarks.options import add_photo_options, add_rounds_option, add_size_option, make_parser
from benchmarks.photo_set import make_photo_set
from benchmarks.predict import make_bundle
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from benchmarks.workspace import ROOT
from headstart.predict.engine import MANY_IMAGES
from headstart.predict.model import load
from headstart.predict.server.limits import PREDICT

BOUNDARY = b"benchmark"
HEADERS = {"Content-Type": "multipart/form-data; boundary=benchmark"}


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Start the server, and give its port and the id of its process."""
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", "--device", "cpu", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = None
        while found is None:
            line = server.stderr.readline()
            assert line, "the server did not start"
            found = re.search(r"on http://127\.0\.0\.1:(\d+) ", line)
        yield int(found[1]), server.pid
        server.terminate()


def body_of(photo: bytes) -> bytes:
    """Return the body of a request with one photo."""
    head = b'Content-Disposition: form-data; name="images"; filename="photo"'
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + photo + b"\r\n--" + BOUNDARY + b"--\r\n"


def send_requests(port: int, photo: bytes, num_requests: int, num_clients: int) -> list[float]:
    """Send requests of one photo each, from clients that wait for each answer; return the seconds of each request."""
    body, seconds = body_of(photo), list[float]()

    def work(num_own: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(num_own):
            start = time.perf_counter()
            connection.request("POST", PREDICT, body, HEADERS)
            response = connection.getresponse()
            assert b'"status":"ok"' in response.read()
            seconds.append(time.perf_counter() - start)
        connection.close()

    clients = [threading.Thread(target=work, args=(num_requests // num_clients,)) for _ in range(num_clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(seconds) == num_requests // num_clients * num_clients
    return seconds


def measure_large(source: Path | None, num_photos: int, megapixels: float, num_rounds: int) -> None:
    """Send large photos, one at a time, to a server that reduces them and to one that decodes them whole."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
        root = Path(scratch)
        rows = make_photo_set(root / "photos", source, num_photos, megapixels)
        photos = [(root / "photos" / row.path).read_bytes() for row in rows]

        def contestant(decode: str) -> Callable[[], float]:
            port, _ = servers.enter_context(serving(make_bundle(root, rows, decode)))
            return lambda: 1000 * float(np.median([send_requests(port, photo, 1, 1) for photo in photos]))

        rival = "decode exact"
        results = take_turns({rival: contestant("exact"), "decode scaled": contestant("scaled")}, num_rounds)
        print(f"median latency of one photo in ms, {megapixels:g} megapixels:\n{describe_ratios(results, rival)}")


@contextmanager
def sending(port: int, hostile: bytes | None) -> Iterator[list[float]]:
    """Send a file again and again while the block runs, and give the seconds of each request; None sends nothing."""
    seconds, is_over = list[float](), threading.Event()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while hostile is not None and not is_over.is_set():
            start = time.perf_counter()
            connection.request("POST", PREDICT, body_of(hostile), HEADERS)
            response = connection.getresponse()
            answer = response.read()
            assert b'"status":"quarantined"' in answer or response.status == 504, answer
            seconds.append(time.perf_counter() - start)

    sender = threading.Thread(target=work)
    sender.start()
    yield seconds
    is_over.set()
    sender.join()


def measure_hostile(bundle: Path, photo: bytes, num_requests: int, num_clients: int, num_rounds: int) -> None:
    """Measure the 99th percentile of ordinary clients alone, and beside a sender of hostile files."""
    senders = {
        "nobody": None,
        "a JPEG of 9,000 scans": many_scans(9_000, 7_000),
        "a JPEG of 80 scans": many_scans(70, 7_000),
        "a bitmap of short runs": slow_bitmap(4_000, 4_000),
    }
    with serving(bundle, "--max-seconds", "10") as (port, _):
        send_requests(port, photo, num_requests, num_clients)

        def contestant(name: str) -> Callable[[], float]:
            def run() -> float:
                with sending(port, senders[name]) as answers:
                    seconds = send_requests(port, photo, num_requests, num_clients)
                print(f"  {name}: {len(answers)} answers, the slowest after {max(answers, default=0):.2f} s")
                return 1000 * float(np.percentile(seconds, 99))

            return run

        results = take_turns({name: contestant(name) for name in senders}, num_rounds)
    print(
        f"99th percentile of {num_clients} ordinary clients in ms, beside a sender of\n"
        + describe_ratios(results, "nobody")
    )


def main() -> None:
    """Measure, and print."""
    parser = make_parser(__doc__)
    default = "(default: %(default)s)"
    parser.add_argument("--bundle", type=Path, default=Path("models/head"), help=f"folder of the model {default}")
    parser.add_argument(
        "--photo", type=Path, default=Path("data/digits/3/0003.png"), help=f"the photo to send {default}"
    )
    add_photo_options(parser, 24)
    add_size_option(parser)
    parser.add_argument("--hostile", action="store_true", help="measure ordinary clients beside hostile ones")
    parser.add_argument("--requests-per-round", type=int, default=1_000, help=f"for images/s and latency {default}")
    parser.add_argument("--requests-for-memory", type=int, default=10_000, help=f"requests at the end {default}")
    parser.add_argument("--num-clients", type=int, default=16, help=f"clients that send at once {default}")
    add_rounds_option(parser)
    given = parser.parse_args()
    print(machine())
    if given.megapixels:
        measure_large(given.photos, given.num_photos, given.megapixels, given.num_rounds)
        return
    photo, num_requests, num_clients = given.photo.read_bytes(), given.requests_per_round, given.num_clients
    if given.hostile:
        measure_hostile(given.bundle, photo, num_requests, num_clients, given.num_rounds)
        return
    model = load(given.bundle, device="cpu", num_images=MANY_IMAGES)
    latencies: dict[int, list[float]] = {1: [], num_clients: []}
    with serving(given.bundle) as (port, process):

        def direct(num_at_once: int) -> float:
            calls = num_requests // num_at_once
            return (
                calls * num_at_once / seconds_of(lambda: [model.predict([photo] * num_at_once) for _ in range(calls)])
            )

        def served(num: int) -> float:
            start = time.perf_counter()
            found = send_requests(port, photo, num_requests, num)
            latencies[num] += found
            return len(found) / (time.perf_counter() - start)

        served(num_clients)
        latencies[num_clients].clear()
        contestants = {
            "the model, one at a time": lambda: direct(1),
            f"the model, {num_clients} at a time": lambda: direct(num_clients),
            "the server, one client": lambda: served(1),
            f"the server, {num_clients} clients": lambda: served(num_clients),
        }
        results = take_turns(contestants, given.num_rounds)
        print(f"images/s, and how many times the model's:\n{describe_ratios(results, 'the model, one at a time')}")
        for num, seconds in latencies.items():
            half, most = 1000 * np.percentile(seconds, [50, 99])
            print(f"latency, {num} clients: median {half:.1f} ms, 99th percentile {most:.1f} ms")
        for number in range(10):
            send_requests(port, photo, given.requests_for_memory // 10, num_clients)
            num_sent = given.requests_for_memory // 10 * (number + 1)
            print(f"memory after {num_sent} more requests: {memory_bytes(process) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
