"""Running: what the words of the command line mean, and the server from its socket to its end."""

import ipaddress
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from headstart.base.errors import DataError
from headstart.base.threads import one_blas_thread
from headstart.predict.command import Parser, at_least
from headstart.predict.engine import MANY_IMAGES
from headstart.predict.explain import check_photos
from headstart.predict.heat_maps import find_heat_maps
from headstart.predict.model import load
from headstart.predict.server.app import make_app
from headstart.predict.server.batcher import Batcher
from headstart.predict.server.explainer import Explainer
from headstart.predict.server.limits import Limits


@dataclass(frozen=True)
class Asked:
    """What the words of the command line ask for."""

    bundle: Path
    host: str
    port: int
    photos: Path | None
    device: str
    weights: Path | None
    limits: Limits


def main(words: Sequence[str]) -> None:
    """Read the command line, load the model, and serve until a signal stops it."""
    run(parse(words))


def parse(words: Sequence[str]) -> Asked:
    """Read the command line; a mistake in it is one line, and exit code 2."""
    usual, whole = Limits(), at_least(1)
    parser = Parser(prog="headstart serve", description="Answer over HTTP what is in photos.")
    parser.add_model()
    parser.add_surroundings()
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine's own only")
    parser.add_argument("--port", type=at_least(0), default=8000, help="0 for any that is free; default: 8000")
    for option, value, meaning in (
        ("--max-bytes", usual.num_bytes, "of a request"),
        ("--max-files", usual.num_files, "of a request"),
        ("--max-pixels", usual.num_pixels, "of an image"),
        ("--max-requests", usual.num_requests, "at once; others are told to try again"),
        ("--max-seconds", usual.seconds, "of a request"),
    ):
        parser.add_argument(option, type=whole, default=value, metavar="N", help=f"{meaning}; default: {value}")
    given = parser.parse_args(words)
    if given.port > 65535:
        parser.error(f"--port {given.port}: expected at most 65535")
    return Asked(
        bundle=given.bundle,
        host=given.host,
        port=given.port,
        photos=given.photos,
        device=given.device,
        weights=given.weights,
        limits=Limits(given.max_bytes, given.max_files, given.max_pixels, given.max_requests, given.max_seconds),
    )


def run(asked: Asked) -> None:
    """Serve until SIGTERM or SIGINT; requests that are being worked on are answered first.

    Raises:
        BundleError, ParamsError: As `load`.
        DataError: The address cannot be listened on, or there is no folder of photos.
    """
    check_photos(asked.photos)
    with _listen(asked.host, asked.port) as listener:
        limits = asked.limits
        model = load(
            asked.bundle,
            device=asked.device,
            num_images=MANY_IMAGES,  # they will come: the engine for many
            weights=asked.weights,
            max_pixels=limits.num_pixels,
        )
        explainer = Explainer(model, find_heat_maps(model.bundle, asked.weights), asked.photos)
        with one_blas_thread(), Batcher(model, explainer, limits.num_requests) as batcher:
            config = uvicorn.Config(
                make_app(model, batcher, limits, asked.host),
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,  # whoever sends them could pass for another
                server_header=False,
                timeout_graceful_shutdown=limits.seconds,
            )
            _greet(asked, len(model.classes), listener)
            # uvicorn closes everything at a signal, and then sends it on.
            with suppress(KeyboardInterrupt, SystemExit):
                uvicorn.Server(config).run(sockets=[listener])
    print("serve: stopped", file=sys.stderr)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise DataError(f"{host}, port {port}: cannot be listened on: {error}") from error
    # Connections inherit it. Without it the end of each answer waits 40 ms for the client's word that it got the start.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _greet(asked: Asked, num_classes: int, listener: socket.socket) -> None:
    if not _is_loopback(asked.host):
        print(
            f"serve: WARNING: whoever reaches {asked.host} can use this server: it asks for no password",
            file=sys.stderr,
        )
    shown = f"[{asked.host}]" if ":" in asked.host else asked.host
    address = f"http://{shown}:{listener.getsockname()[1]}"
    print(f"serve: {asked.bundle}, {num_classes} classes, on {address} (Ctrl+C stops it)", file=sys.stderr, flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
