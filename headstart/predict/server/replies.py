"""Replies: what the server sends, as types, which its OpenAPI is made from."""

from typing import Literal

from pydantic import BaseModel, Field

from headstart.predict.prediction import as_utf8
from headstart.predict.server.batcher import Answer


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Health(BaseModel):
    """Which model answers."""

    model: str = Field(description="sha256 of the model's tensors", pattern="^[0-9a-f]{64}$")
    track: str = Field(description="how it was trained: head or finetune")
    num_classes: int = Field(ge=2)


class Ranked(BaseModel):
    """A class and how probable it is."""

    label: str
    probability: float = Field(ge=0, le=1)


class Near(BaseModel):
    """A training image that looks like the photo to the model."""

    path: str
    label: str
    similarity: float = Field(description="cosine of both embeddings")
    thumbnail: str = Field(description="data: address of a small picture; empty where there is none")


class Row(BaseModel):
    """What the model says of one file."""

    name: str = Field(description="as the client gave it; it is only echoed")
    status: Literal["ok", "repaired", "unknown", "quarantined"]
    reason: str = Field(description="what was repaired, why it is unknown, or why the file gives no picture")
    predicted: str = Field(description="the most probable class, or unknown; empty if quarantined")
    confidence: float | None = Field(ge=0, le=1, description="calibrated probability of the most probable class")
    top: list[Ranked]
    heat_map: str | None = Field(description="data: address of a PNG, if it was asked for and the network has one")
    nearest: list[Near] | None = Field(description="nearest first; null if it was not asked for")


class Reply(BaseModel):
    """What the model says of a request's files, in their order."""

    model: str = Field(description="sha256 of the model's tensors", pattern="^[0-9a-f]{64}$")
    images: list[Row]


def row_of(answer: Answer, num_top: int, *, is_explained: bool) -> Row:
    """Return an answer as a row of a reply.

    Args:
        answer: Of one image.
        num_top: Classes to list.
        is_explained: Whether heat map and nearest training images were asked for.
    """
    one = answer.prediction
    near = [
        Near(path=as_utf8(other.path), label=as_utf8(other.label), similarity=other.similarity, thumbnail=thumbnail)
        for other, thumbnail in zip(one.nearest, answer.thumbnails, strict=False)
    ]
    return Row(
        name=as_utf8(one.name),
        status=one.status,
        reason=as_utf8(one.reason),
        predicted=as_utf8(one.predicted),
        confidence=one.confidence,
        top=[Ranked(label=as_utf8(label), probability=probability) for label, probability in one.top(num_top)],
        heat_map=answer.heat_map,
        nearest=near if is_explained else None,
    )
