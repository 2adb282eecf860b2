"""The server: the routes of the page, and of what it asks for."""

import asyncio
import mimetypes
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from headstart.base.errors import HeadstartError
from headstart.predict.server.host_check import HostCheck
from headstart.review.gate import Gate
from headstart.review.session import Session, UnknownError

PAGE = Path(__file__).parent / "page"
_MOST_ROWS = 500
_MOST_DIGESTS = 5000
_NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" width="192" height="192">'
    '<rect width="48" height="48" fill="#8884"/><path d="M14 14 34 34M34 14 14 34" stroke="#888" stroke-width="3"/>'
    "</svg>"
)
# The address of a picture has its content's digest, so what it shows never changes.
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=1000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Decide(_Body):
    """The body of `decide`."""

    digests: Annotated[list[Digest], Field(min_length=1, max_length=_MOST_DIGESTS)]
    label: Text | None
    why: Text = ""
    seen: Text | dict[Digest, Text | None] | None = None
    force: bool = False


class Undo(_Body):
    """The body of `undo`: ids of decisions, and the decisions of others that the person saw and wants to replace."""

    ids: Annotated[list[Text], Field(max_length=_MOST_DIGESTS)]
    seen: dict[Digest, Text | None] = {}


class NewClass(_Body):
    """The body of `class`."""

    name: Text


def make_app(session: Session, token: str, host: str) -> ASGIApp:
    """Return the app that serves the page.

    Args:
        session: The session that the page shows.
        token: Secret with which every path begins.
        host: Address or name that the server listens on, as for `HostCheck`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    files = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.is_file()}

    @app.exception_handler(HeadstartError)
    async def reply_to_error(_: Request, error: HeadstartError) -> JSONResponse:
        """Say what is wrong with a request, or with the project."""
        return JSONResponse({"detail": str(error)}, 404 if isinstance(error, UnknownError) else 409)

    @app.exception_handler(OSError)
    async def reply_to_system_error(_: Request, error: OSError) -> JSONResponse:
        """Say what the system could not do, such as write to a full disk."""
        return JSONResponse({"detail": str(error)}, 500)

    @app.exception_handler(Exception)
    async def reply_to_bug(_: Request, error: Exception) -> JSONResponse:
        """Say that the server failed. The stack trace goes to the terminal."""
        return JSONResponse({"detail": f"the server failed: {type(error).__name__}"}, 500)

    @app.exception_handler(RequestValidationError)
    async def reply_to_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        """Say in one line what is wrong with a request."""
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    @app.exception_handler(StarletteHTTPException)
    async def reply_to_refusal(_: Request, error: StarletteHTTPException) -> JSONResponse:
        """Say why a request was refused."""
        return JSONResponse({"detail": error.detail}, error.status_code)

    @app.get("/api/state")
    def state() -> dict[str, Any]:
        return session.state()

    @app.get("/api/queue/{name}")
    def queue(
        name: str, start: Annotated[int, Query(ge=0)] = 0, count: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 200
    ) -> dict[str, Any]:
        return session.queue(name, start, count)

    @app.get("/api/image/{digest}")
    def image(digest: Digest) -> dict[str, Any]:
        return session.image(digest)

    @app.get("/thumb/{digest}")
    async def thumb(digest: Digest) -> Response:
        path = session.path_of(digest)
        data = await asyncio.wrap_future(session.pictures.thumbnail(digest, path)) if path else None
        return _no_picture() if data is None else Response(data, media_type="image/webp", headers=_FOREVER)

    @app.get("/photo/{digest}")
    async def photo(digest: Digest) -> Response:
        path = session.path_of(digest)
        found = await asyncio.wrap_future(session.pictures.photo(digest, path)) if path else None
        return _no_picture() if found is None else Response(found[0], media_type=found[1], headers=_FOREVER)

    @app.post("/api/decide")
    def decide(body: Decide) -> dict[str, Any]:
        seen = body.seen if isinstance(body.seen, dict) else dict.fromkeys(body.digests, body.seen)
        return session.decide(body.digests, body.label, body.why, seen, force=body.force)

    @app.post("/api/undo")
    def undo(body: Undo) -> dict[str, Any]:
        return session.undo(body.ids, body.seen)

    @app.post("/api/class")
    def declare_class(body: NewClass) -> dict[str, Any]:
        return session.declare_class(body.name)

    @app.get("/api/retrain")
    def retrain() -> dict[str, Any]:
        return session.retrain.status()

    @app.post("/api/retrain")
    def start_retrain() -> dict[str, Any]:
        if not session.retrain.start():
            raise HTTPException(409, "the head is being trained already")
        return session.retrain.status()

    @app.delete("/api/retrain")
    def cancel_retrain() -> dict[str, Any]:
        if not session.retrain.cancel():
            raise HTTPException(409, "nothing is running that could be cancelled")
        return session.retrain.status()

    @app.get("/{name:path}")
    def page(name: str) -> Response:
        path = files.get(name or "page.html")
        if path is None:
            raise HTTPException(404, "there is nothing at this address")
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return Response(path.read_bytes(), media_type="text/javascript" if path.suffix == ".js" else kind)

    return HostCheck(Gate(app, token), host)


def _no_picture() -> Response:
    return Response(_NO_PICTURE, 404, media_type="image/svg+xml")
