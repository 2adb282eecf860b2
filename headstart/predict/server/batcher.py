"""The batcher: one thread that sends the images of all waiting requests through the network together."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, Queue
from types import TracebackType
from typing import Self

from headstart.predict.image_like import DecodedImage
from headstart.predict.model import Model
from headstart.predict.pages import NUM_NEAREST
from headstart.predict.prediction import Prediction, apply_thresholds
from headstart.predict.server.explainer import Explainer

# A larger batch is no faster, and its first request would wait for its last.
_MAX_IMAGES = 64


@dataclass(frozen=True)
class Answer:
    """The answer for one image.

    Attributes:
        prediction: Prediction, with the nearest training images if an explanation was requested.
        heat_map: `data:` URL of a PNG; None if there is no heat map.
        thumbnails: `data:` URLs of the nearest training images; an empty string where there is no picture.
    """

    prediction: Prediction
    heat_map: str | None = None
    thumbnails: Sequence[str] = ()


@dataclass(frozen=True)
class PredictJob:
    """The images of one request, and where their answers go.

    Attributes:
        images: Decoded images.
        thresholds: Minimum confidence and similarity, from `Model.thresholds`.
        explain: Whether heat maps and nearest training images are requested.
        answers: Future of the answers, in the order of the images.
    """

    images: Sequence[DecodedImage]
    thresholds: tuple[float, float] | None
    explain: bool
    answers: "Future[list[Answer]]" = field(default_factory=Future)


class Batcher:
    """Predicts for several requests at once. A context manager: at its end all waiting jobs have been answered.

    Args:
        model: Model that predicts.
        explainer: Explainer of this model; only the batcher's thread uses it.
        max_waiting: Number of jobs that can wait.
    """

    def __init__(self, model: Model, explainer: Explainer, max_waiting: int) -> None:
        self._model, self._explainer = model, explainer
        self._waiting: Queue[PredictJob | None] = Queue(max_waiting)  # None ends the thread
        self._thread = threading.Thread(target=self._work, name="batcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()

    def submit(self, job: PredictJob) -> None:
        """Queue a job.

        Raises:
            queue.Full: Too many jobs are waiting.
        """
        self._waiting.put_nowait(job)

    def _work(self) -> None:
        while self._answer_batch():
            pass

    def _answer_batch(self) -> bool:
        """Answer the waiting jobs, at least one; return False at the end. Keeps no reference to the jobs."""
        jobs, num_images = [self._waiting.get()], 0
        while jobs[-1] is not None:
            num_images += len(jobs[-1].images)
            if num_images >= _MAX_IMAGES:
                break
            try:
                jobs.append(self._waiting.get_nowait())
            except Empty:
                break
        # A job is cancelled when its client has waited too long.
        active = [job for job in jobs if job is not None and job.answers.set_running_or_notify_cancel()]
        if active:
            self._answer(active)
        return jobs[-1] is not None

    def _answer(self, jobs: Sequence[PredictJob]) -> None:
        try:
            results = self._predict(jobs)
        except Exception as error:  # noqa: BLE001 - the thread must survive any error and pass it to the client
            if len(jobs) > 1:  # one bad request must not fail the others
                for job in jobs:
                    self._answer([job])
            else:
                jobs[0].answers.set_exception(error)
            return
        for job, predictions in zip(jobs, results, strict=True):
            if not job.explain:
                job.answers.set_result([Answer(prediction) for prediction in predictions])
        for job, predictions in zip(jobs, results, strict=True):  # explanations take longer, so they come last
            if job.explain:
                self._explain(job, predictions)

    def _predict(self, jobs: Sequence[PredictJob]) -> list[list[Prediction]]:
        """Return the predictions of each job, from one call of the model."""
        needs_nearest = any(job.explain or job.thresholds for job in jobs)
        images = [image for job in jobs for image in job.images]
        predictions = iter(self._model.predict(images, num_nearest=NUM_NEAREST if needs_nearest else 0))
        return [
            [
                apply_thresholds(prediction, job.thresholds)
                if job.thresholds is not None and prediction.logits is not None
                else prediction
                for _, prediction in zip(job.images, predictions, strict=False)  # stops at the job's last image
            ]
            for job in jobs
        ]

    def _explain(self, job: PredictJob, predictions: Sequence[Prediction]) -> None:
        try:
            answers = [
                Answer(
                    prediction,
                    self._explainer.heat_map(image, prediction),
                    self._explainer.thumbnails(prediction.nearest),
                )
                for image, prediction in zip(job.images, predictions, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - as in _answer
            job.answers.set_exception(error)
            return
        job.answers.set_result(answers)
