"""What `projection` finds: the embeddings in two dimensions."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class ProjectedImage(Row):
    """Where an image's embedding lies in two dimensions.

    Attributes:
        digest: sha256 of the file.
        pca_x: First principal component.
        pca_y: Second principal component.
        tsne_x: By t-SNE.
        tsne_y: Likewise.
    """

    digest: str
    pca_x: float
    pca_y: float
    tsne_x: float
    tsne_y: float

    repro: ClassVar[str] = "projection"
