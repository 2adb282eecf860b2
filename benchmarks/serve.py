"""The server over loopback against calling the model directly, and its memory over many requests."""

import argparse
import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.memory import memory_bytes
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from headstart.predict.engine import MANY_IMAGES
from headstart.predict.model import load
from headstart.predict.server.limits import PREDICT
from tests.support.source import ROOT

BOUNDARY = b"benchmark"
HEADERS = {"Content-Type": "multipart/form-data; boundary=benchmark"}


@contextmanager
def serving(bundle: Path) -> Iterator[tuple[int, int]]:
    """Start the server, and give its port and its process."""
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", "--device", "cpu"]
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
    """Return a request's body with one photo."""
    head = b'Content-Disposition: form-data; name="images"; filename="photo"'
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + photo + b"\r\n--" + BOUNDARY + b"--\r\n"


def ask(port: int, photo: bytes, num: int, num_clients: int) -> list[float]:
    """Send requests of one photo each, by clients that each wait for their answer; return the seconds of each."""
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

    clients = [threading.Thread(target=work, args=(num // num_clients,)) for _ in range(num_clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(seconds) == num // num_clients * num_clients
    return seconds


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("models/head"))
    parser.add_argument("--photo", type=Path, default=Path("data/digits/3/0003.png"))
    parser.add_argument("--num", type=int, default=10_000, help="requests while memory is looked at")
    parser.add_argument("--part", type=int, default=1_000, help="requests of a round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(machine())
    photo, part, num_clients = arguments.photo.read_bytes(), arguments.part, arguments.clients
    model = load(arguments.bundle, device="cpu", num_images=MANY_IMAGES)
    latencies: dict[int, list[float]] = {1: [], num_clients: []}
    with serving(arguments.bundle) as (port, process):

        def direct(num_at_once: int) -> float:
            calls = part // num_at_once
            return (
                calls * num_at_once / seconds_of(lambda: [model.predict([photo] * num_at_once) for _ in range(calls)])
            )

        def served(num: int) -> float:
            start = time.perf_counter()
            found = ask(port, photo, part, num)
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
        results = take_turns(contestants, arguments.rounds)
        print(f"images/s, and times the model:\n{describe_ratios(results, 'the model, one at a time')}")
        for num, seconds in latencies.items():
            half, most = 1000 * np.percentile(seconds, [50, 99])
            print(f"latency, {num} clients: p50 {half:.1f} ms, p99 {most:.1f} ms")
        for number in range(10):
            ask(port, photo, arguments.num // 10, num_clients)
            print(f"memory after {arguments.num // 10 * (number + 1)} more: {memory_bytes(process) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
