"""Stage `projection`: features/features.h5 -> diagnostics/projection.csv. Labels play no part."""

from pathlib import Path

from stages.core.entry import run_room


def main() -> None:
    """Lay the embeddings out in two dimensions."""
    from stages.core.features import open_features
    from stages.core.findings import ProjectedImage
    from stages.core.params import load_params
    from stages.core.tables import write_rows
    from stages.projection.params import Params

    params = load_params(Params).projection

    from stages.projection.projecting import project

    with open_features(Path("features/features.h5")) as features:
        digests = [digest.decode() for digest in features.digests]
        images = project(features, digests, params)
    write_rows(Path("diagnostics/projection.csv"), images, ProjectedImage)
    print(f"projection: {len(images)} of {len(digests)} images by principal components and t-SNE")


if __name__ == "__main__":
    run_room("projection", main)
