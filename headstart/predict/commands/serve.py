"""The command `headstart serve BUNDLE`: a model over HTTP, from the command line to the end of the server."""

import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import uvicorn

from headstart.base.threads import one_blas_thread
from headstart.predict.commands.parser import Parser, integer_from
from headstart.predict.engine import MANY_IMAGES
from headstart.predict.heat_maps import find_heat_maps
from headstart.predict.model import load
from headstart.predict.pages import check_photos
from headstart.predict.server.app import make_app
from headstart.predict.server.batcher import Batcher
from headstart.predict.server.decoder import Decoder
from headstart.predict.server.explainer import Explainer
from headstart.predict.server.limits import Limits
from headstart.predict.server.listener import is_loopback, listen, origin_of


@dataclass(frozen=True)
class ServeOptions:
    """Parsed options of `headstart serve`; the fields have the names of the options, but for the limits."""

    bundle: Path
    weights: Path | None
    device: str
    photos: Path | None
    host: str
    port: int
    limits: Limits


def main(words: Sequence[str]) -> None:
    """Parse the command line, load the model, and serve until a signal stops the server."""
    run(parse(words))


def parse(words: Sequence[str]) -> ServeOptions:
    """Parse the command line; exit with code 2 and one line if it has a mistake."""
    parser = Parser(prog="headstart serve", description="Predict the classes of images over HTTP.")
    parser.add_bundle()
    parser.add_device()
    parser.add_photos()
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1, which only this machine reaches"
    )
    parser.add_argument(
        "--port", type=integer_from(0), default=8000, help="port to listen on; 0 takes any free port; default: 8000"
    )
    meanings = {
        "max_bytes": "bytes of a request",
        "max_files": "files of a request",
        "max_pixels": "pixels (width x height) of an image",
        "max_requests": "requests at once; the server asks further clients to try again",
        "max_seconds": "seconds for a request",
    }
    for name, meaning in meanings.items():
        default = getattr(Limits(), name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=integer_from(1),
            default=default,
            metavar="N",
            help=f"largest number of {meaning}; default: {default}",
        )
    given = parser.parse_args(words)
    if given.port > 65535:
        parser.error(f"--port {given.port}: expected at most 65535")
    values = vars(given)
    limits = Limits(**{field.name: values.pop(field.name) for field in fields(Limits)})
    return ServeOptions(**values, limits=limits)


def run(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT; open requests are answered first.

    Raises:
        BundleError, ParamsError: As `load`.
        DataError: The server cannot listen on the address, or the folder of photos does not exist.
    """
    check_photos(options.photos)
    with listen(options.host, options.port, "Choose another --host or --port") as listener:
        limits = options.limits
        model = load(
            options.bundle,
            device=options.device,
            num_images=MANY_IMAGES,  # a server gets many images over time, so take the engine for many
            num_at_once=1,
            weights=options.weights,
        )
        explainer = Explainer(model, find_heat_maps(model.bundle, options.weights), options.photos)
        with (
            one_blas_thread(),
            Decoder(model, limits.max_pixels, limits.max_seconds / 2) as decoder,
            Batcher(model, explainer, limits.max_requests) as batcher,
        ):
            config = uvicorn.Config(
                make_app(model, decoder, batcher, limits, options.host),
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,  # a client that sends them could pass for another
                server_header=False,
                timeout_graceful_shutdown=limits.max_seconds,
            )
            _announce(options, len(model.classes), listener)
            # At a signal uvicorn closes everything and then raises the signal again.
            with suppress(KeyboardInterrupt, SystemExit):
                uvicorn.Server(config).run(sockets=[listener])
    print("serve: stopped", file=sys.stderr)


def _announce(options: ServeOptions, num_classes: int, listener: socket.socket) -> None:
    if not is_loopback(options.host):
        print(
            f"serve: WARNING: this server asks for no password: everyone who can reach {options.host} can use it",
            file=sys.stderr,
        )
    origin = origin_of(options.host, listener)
    print(
        f"serve: {options.bundle}, {num_classes} classes, on {origin} (Ctrl+C stops the server)",
        file=sys.stderr,
        flush=True,
    )
