"""Batching: requests that wait together go through the network together, in one thread."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, Queue
from types import TracebackType
from typing import Self

from headstart.predict.explain import NUM_NEAREST
from headstart.predict.inputs import Loaded
from headstart.predict.model import Model
from headstart.predict.prediction import Prediction, judge
from headstart.predict.server.explainer import Explainer

# More of them gain nothing, and the first would wait for the last.
_MOST_IMAGES = 64


@dataclass(frozen=True)
class Answer:
    """What there is to say of one image.

    Attributes:
        prediction: With its nearest training images if it was to be explained.
        heat_map: `data:` address of a PNG; None if there is none.
        thumbnails: `data:` addresses of the nearest training images; empty where there is no picture.
    """

    prediction: Prediction
    heat_map: str | None = None
    thumbnails: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """The images of one request.

    Attributes:
        images: With their bytes.
        thresholds: By `Model.thresholds`.
        explain: Whether heat maps and nearest training images are wanted.
        answers: Comes true in the order of the images.
    """

    images: Sequence[Loaded]
    thresholds: tuple[float, float] | None
    explain: bool
    answers: "Future[list[Answer]]" = field(default_factory=Future)


class Batcher:
    """Predicts for many requests at once; a context, at whose end all that wait have been answered.

    Args:
        model: That predicts.
        explainer: Used in the batcher's thread only.
        num_waiting: Jobs that may wait.
    """

    def __init__(self, model: Model, explainer: Explainer, num_waiting: int) -> None:
        self._model, self._explainer = model, explainer
        self._waiting: Queue[Job | None] = Queue(num_waiting)
        self._thread = threading.Thread(target=self._work, name="batcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            queue.Full: Too many wait.
        """
        self._waiting.put_nowait(job)

    def _work(self) -> None:
        while self._answer_some():
            pass

    def _answer_some(self) -> bool:
        """Answer what waits, at least one job; return False at the end. Nothing of the jobs is held afterwards."""
        jobs, num_images = [self._waiting.get()], 0
        while jobs[-1] is not None:
            num_images += len(jobs[-1].images)
            if num_images >= _MOST_IMAGES:
                break
            try:
                jobs.append(self._waiting.get_nowait())
            except Empty:
                break
        # Whose client has waited for too long is passed over.
        wanted = [job for job in jobs if job is not None and job.answers.set_running_or_notify_cancel()]
        if wanted:
            self._answer(wanted)
        return jobs[-1] is not None

    def _answer(self, jobs: Sequence[Job]) -> None:
        try:
            found = self._predict(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live on, and the client be told
            if len(jobs) > 1:  # one request must not spoil another
                for job in jobs:
                    self._answer([job])
            else:
                jobs[0].answers.set_exception(error)
            return
        for job, predictions in zip(jobs, found, strict=True):
            if not job.explain:
                job.answers.set_result([Answer(one) for one in predictions])
        for job, predictions in zip(jobs, found, strict=True):  # these take longer
            if job.explain:
                self._explain(job, predictions)

    def _predict(self, jobs: Sequence[Job]) -> list[list[Prediction]]:
        """Return each job's predictions, by one call of the model."""
        needs_nearest = any(job.explain or job.thresholds for job in jobs)
        images = [image for job in jobs for image in job.images]
        predictions = iter(self._model.predict(images, num_nearest=NUM_NEAREST if needs_nearest else 0))
        return [
            [
                judge(one, job.thresholds) if job.thresholds is not None and one.logits is not None else one
                for _, one in zip(job.images, predictions, strict=False)  # the images end first
            ]
            for job in jobs
        ]

    def _explain(self, job: Job, predictions: Sequence[Prediction]) -> None:
        try:
            answers = [
                Answer(one, self._explainer.heat_map(image, one), self._explainer.thumbnails(one.nearest))
                for image, one in zip(job.images, predictions, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - as above
            job.answers.set_exception(error)
            return
        job.answers.set_result(answers)
