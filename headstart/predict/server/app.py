"""The app: the routes of the server."""

import asyncio
import sys
from queue import Full
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse

from headstart.base.errors import DataError
from headstart.imaging.formats import titles
from headstart.predict.inputs import LoadedImage
from headstart.predict.model import Model
from headstart.predict.server.batcher import Batcher, PredictJob
from headstart.predict.server.decoder import Decoder
from headstart.predict.server.host_check import HostCheck
from headstart.predict.server.limits import PREDICT, RETRY_SECONDS, Gate, Limits
from headstart.predict.server.page import make_page
from headstart.predict.server.replies import ErrorReply, HealthReply, PredictReply, image_reply

_DEFAULT_TOP = 5
_PARAMETERS = {"top", "coverage", "explain"}


def make_app(model: Model, decoder: Decoder, batcher: Batcher, limits: Limits, host: str) -> FastAPI:
    """Return the app that serves a model.

    Args:
        model: The model.
        decoder: Decoder of this model.
        batcher: Running batcher of this model.
        limits: Limits on what clients can ask for.
        host: Address or name that the server listens on, as for `HostCheck`.
    """
    # FastAPI's own documentation pages load scripts from other sites, so they are off.
    app = FastAPI(
        title="Headstart",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
    )
    app.add_middleware(Gate, limits=limits)
    app.add_middleware(HostCheck, host=host)
    page, headers = make_page(model, limits)
    num_classes = len(model.classes)

    @app.exception_handler(RequestValidationError)
    async def reply_to_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        """Say in one line what is wrong with a request."""
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        """Return the page."""
        return HTMLResponse(page, headers=headers)

    @app.get("/healthz")
    async def healthz() -> HealthReply:
        """Return which model the server has loaded."""
        return HealthReply(model=model.digest, track=model.bundle.track, num_classes=num_classes)

    @app.post(PREDICT, responses=_error_responses(limits))
    async def predict(
        request: Request,
        images: Annotated[
            list[UploadFile],
            File(min_length=1, max_length=limits.max_files, description=f"image files: {titles()}"),
        ],
        top: Annotated[
            int, Query(ge=1, le=num_classes, description="number of most probable classes to list for each image")
        ] = min(_DEFAULT_TOP, num_classes),
        coverage: Annotated[
            float | None,
            Query(
                gt=0,
                le=1,
                description="fraction of images like the training images that are answered; the others are unknown",
            ),
        ] = None,
        explain: Annotated[bool, Query(description="add a heat map and the nearest training images")] = False,
    ) -> PredictReply:
        """Predict the classes of image files, in their order. A file that cannot be decoded is quarantined."""
        unexpected = sorted(set(request.query_params) - _PARAMETERS)
        if unexpected:
            expected = ", ".join(sorted(_PARAMETERS))
            raise HTTPException(422, f"query.{unexpected[0]}: is not a parameter; expected {expected}")
        try:
            thresholds = model.thresholds(coverage)
        except DataError as error:
            raise HTTPException(422, str(error)) from error
        files = [LoadedImage(file.filename or "", data=await file.read()) for file in images]
        async with decoder.decoded(files) as decoded:
            job = PredictJob(decoded, thresholds, explain)
            try:
                batcher.submit(job)
            except Full as error:
                raise HTTPException(
                    503, "too many requests are waiting; try again", {"Retry-After": RETRY_SECONDS}
                ) from error
            try:
                answers = await asyncio.wrap_future(job.answers)
            except Exception as error:
                print(f"serve: WARNING: a request failed: {type(error).__name__}: {error}", file=sys.stderr)
                raise HTTPException(500, "the model failed on this request") from error
        return PredictReply(
            model=model.digest, images=[image_reply(answer, top, is_explained=explain) for answer in answers]
        )

    return app


def _error_responses(limits: Limits) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of the error responses, for OpenAPI."""
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return {
        400: {
            "model": ErrorReply,
            "description": "The body is not multipart/form-data or is cut, or the Host header is not allowed",
        },
        403: {"model": ErrorReply, "description": "The request comes from a page of another site"},
        413: {"model": ErrorReply, "description": f"The body is longer than {limits.max_bytes} bytes"},
        415: {"model": ErrorReply, "description": "The body has another content type"},
        422: {"model": ErrorReply, "description": "A parameter is missing or wrong, or there are too many files"},
        500: {"model": ErrorReply, "description": "The model failed"},
        503: {"model": ErrorReply, "description": "Too many requests at once", "headers": retry},
        504: {"model": ErrorReply, "description": f"The request took longer than {limits.max_seconds} seconds"},
    }
