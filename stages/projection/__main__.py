"""Stage `projection`: features/features.h5 -> diagnostics/projection.csv. Labels play no part."""

from pathlib import Path

from stages.running import run_stage


def main() -> None:
    """Project the embeddings to two dimensions, and print the number of images."""
    from headstart.artifacts.features import open_features
    from headstart.tables.projection import ProjectedImage
    from headstart.tables.rows import write_rows
    from stages.params import load_params
    from stages.projection.params import Params

    params = load_params(Params).projection

    from stages.projection.projection import project

    with open_features(Path("features/features.h5")) as features:
        digests = [digest.decode() for digest in features.digests]
        images = project(features, digests, params)
    write_rows(Path("diagnostics/projection.csv"), images, ProjectedImage)
    print(f"projection: {len(images)} of {len(digests)} images by principal components and by t-SNE")


if __name__ == "__main__":
    run_stage("projection", main)
