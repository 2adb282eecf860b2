"""Limits: how much a client may ask for, and the gate that holds requests to it before their body is parsed."""

import asyncio
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREDICT = "/v1/predict"
RETRY_SECONDS = "1"
_TAIL_BYTES = 128  # a boundary has at most 70


@dataclass(frozen=True)
class Limits:
    """What is refused beyond.

    Attributes:
        num_bytes: Of a request's body.
        num_files: Of a request.
        num_pixels: Of an image; one with more is quarantined, the others of its request are answered.
        num_requests: At once; together with `num_bytes` they bound what bodies hold in memory.
        seconds: From the end of a request's headers to its answer.
    """

    num_bytes: int = 32 * 2**20
    num_files: int = 32
    num_pixels: int = 50_000_000
    num_requests: int = 32
    seconds: int = 60


class Gate:
    """Lets requests for predictions through to the app, within the limits. Counts on one event loop.

    Args:
        app: Behind it.
        limits: Of each request and of all together.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._num_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the app where a limit is passed."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", PREDICT):
            await self._app(scope, receive, send)
            return
        if self._num_open >= self._limits.num_requests:
            busy = f"{self._num_open} requests are being worked on; try again"
            await _refuse(503, busy, {"Retry-After": RETRY_SECONDS})(scope, receive, send)
            return
        self._num_open += 1
        try:
            await self._within_time(scope, receive, send)
        finally:
            self._num_open -= 1

    async def _within_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"multipart/form-data":
            await _refuse(415, "expected a body of multipart/form-data with files in the field images")(
                scope, receive, send
            )
            return
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.num_bytes:
            await _refuse(413, self._too_long())(scope, receive, send)
            return
        num_bytes, has_begun, tail = 0, False, b""
        end = b"--" + parse_options_header(headers[b"content-type"])[1].get(b"boundary", b"") + b"--"

        async def counted() -> Message:
            nonlocal num_bytes, tail
            message = await receive()
            body = message.get("body", b"")
            num_bytes += len(body)
            if num_bytes > self._limits.num_bytes:
                raise HTTPException(413, self._too_long())
            tail = (tail + body[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            is_last = message["type"] == "http.request" and not message.get("more_body", False)
            if is_last and not tail.rstrip().endswith(end):  # the parser passes over a file that has no end
                raise HTTPException(400, "the body is cut: the boundary that ends it is not there")
            return message

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._app(scope, counted, watched)
        except TimeoutError:
            if has_begun:  # too late for another answer
                raise
            await _refuse(504, f"took longer than {self._limits.seconds} seconds")(scope, receive, send)

    def _too_long(self) -> str:
        return f"the body is longer than {self._limits.num_bytes} bytes"


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
