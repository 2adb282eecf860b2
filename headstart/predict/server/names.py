"""Names: by what the server may be called, so that no other site can use it through its visitors' browsers."""

import ipaddress
import socket

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OwnNames:
    """Lets through what calls the server by an address or a name of this machine, and comes from no other page.

    A site whose name leads here (DNS rebinding) could read the answers, but calls the server by that name. A page of
    another site could send photos, but its browser says whose page it is.

    Args:
        app: Behind it.
        host: That is listened on: the name that is allowed besides `localhost` and the machine's own.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._names = app, ("localhost", socket.gethostname().lower(), host.lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the app where the name is another."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(_without_port(host)):
            names = ", ".join(dict.fromkeys(self._names))
            problem = f"this server is not called {host!r}; call it by its address, or by one of: {names}"
            await JSONResponse({"detail": problem}, 400)(scope, receive, send)
        elif origin is not None and origin.partition("://")[2].lower() != host.lower():
            problem = f"pages of {origin!r} may not use this server"
            await JSONResponse({"detail": problem}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_own(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name.lower() in self._names
        return True  # no site's name


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
