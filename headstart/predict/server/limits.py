"""Limits on what clients can ask for, and the gate that applies them before a request's body is parsed."""

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
    """The largest values that are accepted.

    Attributes:
        max_bytes: Bytes of a request's body.
        max_files: Files of a request.
        max_pixels: Pixels (width x height) of an image. A larger image is quarantined; the other images of its request
            are answered.
        max_requests: Requests at once. With `max_bytes` it limits the memory that bodies take.
        max_seconds: Seconds from the end of a request's headers to its answer. An image that takes half of them to
            decode is quarantined; the other images of its request are answered.
    """

    max_bytes: int = 32 * 2**20
    max_files: int = 32
    max_pixels: int = 50_000_000
    max_requests: int = 32
    max_seconds: int = 60


class Gate:
    """Passes prediction requests within the limits on to the app. It counts open requests on one event loop.

    Args:
        app: App behind the gate.
        limits: Limits on each request and on all together.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._num_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the app if a limit is exceeded."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", PREDICT):
            await self._app(scope, receive, send)
            return
        if self._num_open >= self._limits.max_requests:
            busy = f"the server is answering {self._num_open} requests; try again"
            await _refuse(503, busy, {"Retry-After": RETRY_SECONDS})(scope, receive, send)
            return
        self._num_open += 1
        try:
            await self._run_within_limits(scope, receive, send)
        finally:
            self._num_open -= 1

    async def _run_within_limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if content_type != b"multipart/form-data":
            await _refuse(415, "expected a body of type multipart/form-data with files in the field images")(
                scope, receive, send
            )
            return
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.max_bytes:
            await _refuse(413, self._too_long())(scope, receive, send)
            return
        num_bytes, has_begun, tail = 0, False, b""
        end = b"--" + parse_options_header(headers[b"content-type"])[1].get(b"boundary", b"") + b"--"

        async def receive_counted() -> Message:
            nonlocal num_bytes, tail
            message = await receive()
            body = message.get("body", b"")
            num_bytes += len(body)
            if num_bytes > self._limits.max_bytes:
                raise HTTPException(413, self._too_long())
            tail = (tail + body[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            is_last = message["type"] == "http.request" and not message.get("more_body", False)
            if is_last and not tail.rstrip().endswith(end):  # the parser silently drops a file that is cut
                raise HTTPException(400, "the body is cut: its closing boundary is missing")
            return message

        async def send_watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._limits.max_seconds):
                await self._app(scope, receive_counted, send_watched)
        except TimeoutError:
            if has_begun:  # part of the answer has been sent already
                raise
            await _refuse(504, f"the request took longer than {self._limits.max_seconds} seconds")(scope, receive, send)

    def _too_long(self) -> str:
        return f"the body is longer than {self._limits.max_bytes} bytes"


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
