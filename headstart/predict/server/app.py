"""The app: which addresses the server answers, and how."""

import asyncio
import sys
from queue import Full
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse

from headstart.base.errors import DataError
from headstart.predict.inputs import Loaded
from headstart.predict.model import Model
from headstart.predict.server.batcher import Batcher, Job
from headstart.predict.server.limits import PREDICT, RETRY_SECONDS, Gate, Limits
from headstart.predict.server.names import OwnNames
from headstart.predict.server.page import make_page
from headstart.predict.server.replies import Health, Problem, Reply, row_of

_DEFAULT_TOP = 5
_PARAMETERS = {"top", "coverage", "explain"}


def make_app(model: Model, batcher: Batcher, limits: Limits, host: str) -> FastAPI:
    """Return the app of a model.

    Args:
        model: That predicts, with `limits.num_pixels`.
        batcher: Of this model, at work.
        limits: Of what clients may ask for.
        host: That is listened on, as for `OwnNames`.
    """
    # The pages that FastAPI shows its OpenAPI with load scripts of other sites.
    app = FastAPI(
        title="Headstart",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
    )
    app.add_middleware(Gate, limits=limits)
    app.add_middleware(OwnNames, host=host)
    page, headers = make_page(model, limits)
    num_classes = len(model.classes)

    @app.exception_handler(RequestValidationError)
    async def tell(_: Request, error: RequestValidationError) -> JSONResponse:
        """Say in one line what is wrong with a request."""
        found = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return JSONResponse({"detail": "; ".join(found)}, 422)

    @app.get("/", include_in_schema=False)
    async def show() -> HTMLResponse:
        """Give the page."""
        return HTMLResponse(page, headers=headers)

    @app.get("/healthz")
    async def healthz() -> Health:
        """Say which model answers."""
        return Health(model=model.digest, track=model.bundle.track, num_classes=num_classes)

    @app.post(PREDICT, responses=_problems(limits))
    async def predict(
        request: Request,
        images: Annotated[
            list[UploadFile],
            File(min_length=1, max_length=limits.num_files, description="image files: BMP, GIF, JPEG, PNG, TIFF, WebP"),
        ],
        top: Annotated[int, Query(ge=1, le=num_classes, description="so many classes of each image")] = min(
            _DEFAULT_TOP, num_classes
        ),
        coverage: Annotated[
            float | None,
            Query(gt=0, le=1, description="fraction of images like the training images to answer; rest: unknown"),
        ] = None,
        explain: Annotated[bool, Query(description="add a heat map and the nearest training images")] = False,
    ) -> Reply:
        """Say what is in photos, in their order. A file that gives no picture is a quarantined row."""
        odd = sorted(set(request.query_params) - _PARAMETERS)
        if odd:
            raise HTTPException(422, f"query.{odd[0]}: is no parameter; expected {', '.join(sorted(_PARAMETERS))}")
        try:
            thresholds = model.thresholds(coverage)
        except DataError as error:
            raise HTTPException(422, str(error)) from error
        job = Job([Loaded(one.filename or "", data=await one.read()) for one in images], thresholds, explain)
        try:
            batcher.submit(job)
        except Full as error:
            raise HTTPException(503, "too many requests wait; try again", {"Retry-After": RETRY_SECONDS}) from error
        try:
            answers = await asyncio.wrap_future(job.answers)
        except Exception as error:
            print(f"serve: WARNING: a request failed: {type(error).__name__}: {error}", file=sys.stderr)
            raise HTTPException(500, "the model failed on this request") from error
        return Reply(model=model.digest, images=[row_of(answer, top, is_explained=explain) for answer in answers])

    return app


def _problems(limits: Limits) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI shall say of requests without an answer."""
    again = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return {
        400: {"model": Problem, "description": "The body is no multipart/form-data, or is cut; or the Host is another"},
        403: {"model": Problem, "description": "A page of another site asked"},
        413: {"model": Problem, "description": f"The body is longer than {limits.num_bytes} bytes"},
        415: {"model": Problem, "description": "The body is of another type"},
        422: {"model": Problem, "description": "A parameter is missing or wrong, or there are too many files"},
        500: {"model": Problem, "description": "The model failed"},
        503: {"model": Problem, "description": "Too many requests at once", "headers": again},
        504: {"model": Problem, "description": f"It took longer than {limits.seconds} seconds"},
    }
