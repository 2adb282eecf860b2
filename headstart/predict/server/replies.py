"""Replies: the JSON that the server sends, as types. FastAPI makes the OpenAPI description from them."""

from typing import Literal

from pydantic import BaseModel, Field

from headstart.predict.prediction import utf8_text
from headstart.predict.server.batcher import Answer


class ErrorReply(BaseModel):
    """Why there is no answer."""

    detail: str


class HealthReply(BaseModel):
    """Which model the server has loaded."""

    model: str = Field(description="sha256 of the model's tensors", pattern="^[0-9a-f]{64}$")
    track: str = Field(description="how the model was trained: head or finetune")
    num_classes: int = Field(ge=2)


class RankedClass(BaseModel):
    """A class and its probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class NeighbourReply(BaseModel):
    """A training image whose embedding is close to that of the image."""

    path: str
    label: str
    similarity: float = Field(description="cosine of the two embeddings")
    thumbnail: str = Field(description="data: URL of a small picture; empty if there is none")


class ImageReply(BaseModel):
    """The prediction for one file."""

    name: str = Field(description="file name as the client sent it; the server only repeats it")
    status: Literal["ok", "repaired", "unknown", "quarantined"]
    reason: str = Field(
        description="what was repaired, why the answer is unknown, or why the file cannot be read or decoded"
    )
    predicted: str = Field(description="the most probable class, or unknown; empty if quarantined")
    confidence: float | None = Field(
        ge=0, le=1, description="calibrated probability of the most probable class; null if quarantined"
    )
    top: list[RankedClass] = Field(description="the most probable classes, the most probable first")
    heat_map: str | None = Field(description="data: URL of a PNG; null if not requested, or if the network has none")
    nearest: list[NeighbourReply] | None = Field(
        description="nearest training images, nearest first; null if not requested"
    )


class PredictReply(BaseModel):
    """The predictions for the files of a request, in their order."""

    model: str = Field(description="sha256 of the model's tensors", pattern="^[0-9a-f]{64}$")
    images: list[ImageReply]


def image_reply(answer: Answer, num_top: int, *, is_explained: bool) -> ImageReply:
    """Return an answer as it is sent.

    Args:
        answer: Answer for one image.
        num_top: Number of most probable classes to list.
        is_explained: Whether heat map and nearest training images were requested.
    """
    prediction = answer.prediction
    nearest = [
        NeighbourReply(
            path=utf8_text(neighbour.path),
            label=utf8_text(neighbour.label),
            similarity=neighbour.similarity,
            thumbnail=thumbnail,
        )
        for neighbour, thumbnail in zip(prediction.nearest, answer.thumbnails, strict=False)
    ]
    return ImageReply(
        name=utf8_text(prediction.name),
        status=prediction.status,
        reason=utf8_text(prediction.reason),
        predicted=utf8_text(prediction.predicted),
        confidence=prediction.confidence,
        top=[
            RankedClass(label=utf8_text(label), probability=probability)
            for label, probability in prediction.top(num_top)
        ],
        heat_map=answer.heat_map,
        nearest=nearest if is_explained else None,
    )
