"""The command `headstart review`: a local page to correct labels, from the command line to the end of the server."""

import getpass
import secrets
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from headstart.base.terminal import printable
from headstart.predict.commands.parser import Parser, integer_from
from headstart.predict.server.listener import is_loopback, listen, origin_of
from headstart.review.redirect import redirect_page
from headstart.review.server import make_app
from headstart.review.session import Session

# Requests at once; a browser opens six connections.
_MAX_REQUESTS = 128


@dataclass(frozen=True)
class ReviewOptions:
    """Parsed options of `headstart review`; the fields have the names of the options."""

    host: str
    port: int
    who: str
    no_browser: bool


def main(words: Sequence[str]) -> None:
    """Parse the command line, read the project, and serve the page until a signal stops the server."""
    run(parse(words))


def parse(words: Sequence[str]) -> ReviewOptions:
    """Parse the command line; exit with code 2 and one line if it has a mistake."""
    parser = Parser(
        prog="headstart review", description="Look at doubtful images in the browser, correct labels, train the head."
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on; default: 127.0.0.1")
    parser.add_argument(
        "--port", type=integer_from(0), default=0, help="port to listen on; default: 0, which takes any free port"
    )
    parser.add_argument("--who", default="", help="your name, for the fixes; default: git's user.name, or the login")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    given = ReviewOptions(**vars(parser.parse_args(words)))
    if given.port > 65535:
        parser.error(f"--port {given.port}: expected at most 65535")
    if not is_loopback(given.host):
        parser.error(f"--host {given.host}: expected a loopback address, because everyone could change the labels")
    if given.who != printable(given.who):  # bytes that are not UTF-8 arrive as letters that no file can hold
        parser.error(
            f"--who {printable(given.who)}: expected printable letters in UTF-8. Is the terminal set to UTF-8?"
        )
    return given


def run(options: ReviewOptions) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        HeadstartError: A result of the project is missing or damaged, or the server cannot listen on the address.
    """
    root = Path()
    with (
        listen(options.host, options.port, "Choose another --port") as listener,
        closing(Session(root, _name(options.who, root))) as session,
        ExitStack() as stack,
    ):
        token = secrets.token_urlsafe(32)
        config = uvicorn.Config(
            make_app(session, token, options.host),
            log_level="warning",
            access_log=False,  # it would show the token
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_REQUESTS,
            timeout_graceful_shutdown=5,
        )
        address = f"{origin_of(options.host, listener)}/{token}/"
        project = session.project
        print(
            f"review: {len(project.images)} images of {project.data_set}, {len(project.suspects)} labels to check, "
            f"decisions of {printable(session.decisions.who)} go to {session.decisions.path}\n"
            f"review: {address} (Ctrl+C stops the server)",
            file=sys.stderr,
            flush=True,
        )
        if not options.no_browser:
            page = stack.enter_context(redirect_page(address))
            threading.Thread(target=webbrowser.open, args=[page.as_uri()], daemon=True).start()
        # At a signal uvicorn closes everything and then raises the signal again.
        with suppress(KeyboardInterrupt, SystemExit):
            uvicorn.Server(config).run(sockets=[listener])
    print("review: stopped", file=sys.stderr)


def _name(given: str, root: Path) -> str:
    """Return the name of the person who decides: the given one, else git's, else that of the login."""
    if given.strip():
        return given.strip()
    with suppress(OSError):
        done = subprocess.run(
            ["git", "config", "user.name"],  # noqa: S607 - as DVC, the git of the user
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.stdout.strip():
            return done.stdout.strip()
    with suppress(OSError, KeyError):  # a container may run as a user without a name
        return printable(getpass.getuser())
    return ""
