"""Check of the Host and Origin headers, so that no other site can use the server through its visitors' browsers."""

import ipaddress
import socket

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class HostCheck:
    """Accepts requests whose Host is an IP address or a name of this machine, and whose Origin is this server.

    A site that points its own name at this server (DNS rebinding) could read the answers, but its requests carry that
    name in the Host header. A page of another site could send images, but the browser names that site in the Origin
    header.

    Args:
        app: App behind the check.
        host: Address or name that the server listens on; allowed besides `localhost` and the machine's own name.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._names = app, ("localhost", socket.gethostname().lower(), host.lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the app if a header is not allowed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_allowed(_without_port(host)):
            names = ", ".join(dict.fromkeys(self._names))
            detail = f"Host header {host!r} is not allowed; use the server's IP address or one of these names: {names}"
            await JSONResponse({"detail": detail}, 400)(scope, receive, send)
        elif origin is not None and origin.partition("://")[2].lower() != host.lower():
            detail = f"Origin header {origin!r} is not allowed; only the server's own page may send requests"
            await JSONResponse({"detail": detail}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_allowed(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name.lower() in self._names
        return True  # a site has a name, never just an address


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
