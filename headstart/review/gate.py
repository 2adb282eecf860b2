"""The gate: what a request must have before the app sees it, and the headers of every answer."""

import secrets

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 2**20
# The page loads nothing from elsewhere, and no other page may show it or learn its address.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Gate:
    """Passes requests on whose path begins with the token and whose body is short.

    Args:
        app: App behind the gate. Its routes do not see the token.
        token: Secret of this session.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the app if a request may not pass."""
        if scope["type"] != "http":
            return
        num_bytes = 0

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, _TOO_LONG)
            return message

        token, slash, _ = scope["path"].removeprefix("/").partition("/")
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if not secrets.compare_digest(token.encode(), self._token.encode()) or not slash:
            # The address may be an old one: each start of the server has another token.
            answer = JSONResponse({"detail": "this address is not valid (any more); use the one that was printed"}, 404)
            await answer(scope, receive, send_with_headers)
        elif any(value.isdigit() and int(value) > MAX_BODY_BYTES for value in lengths):
            await JSONResponse({"detail": _TOO_LONG}, 413)(scope, receive, send_with_headers)
        else:
            scope = {**scope, "root_path": f"/{token}"}
            await self._app(scope, receive_counted, send_with_headers)


_TOO_LONG = f"the body is longer than {MAX_BODY_BYTES} bytes"
