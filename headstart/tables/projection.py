"""The projection: a place in two dimensions for each embedding."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class ProjectedImage(Row):
    """The places of one image's embedding in two dimensions, by two methods.

    Attributes:
        digest: sha256 of the file, in hex digits.
        pca_x: First principal component.
        pca_y: Second principal component.
        tsne_x: First coordinate by t-SNE.
        tsne_y: Second coordinate by t-SNE.
    """

    digest: str
    pca_x: float
    pca_y: float
    tsne_x: float
    tsne_y: float

    repro: ClassVar[str] = "projection"
