"""Sources: each knows its own networks, and an entry in `SOURCES` is all that another one needs."""

import pytest
import torch
from torch import nn

from headstart.backbone.build import SOURCES, build_backbone, build_bare, source_of
from headstart.backbone.packaged_source import PackagedSource
from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone, Source
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.timm_source import TimmSource
from headstart.backbone.torchvision_source import TorchvisionSource
from headstart.base.errors import BackboneError
from headstart.imaging.transform import Transform
from tests.conftest import backbone_params


class MeanColour:
    """A source with one network: the mean colour of a picture."""

    accepts_files = False

    def knows(self, name: str) -> bool:
        """See `Source`."""
        return name == "mean_colour"

    def names(self) -> list[str]:
        """See `Source`."""
        return ["mean_colour"]

    def build(self, params: BackboneParams) -> Backbone:
        """See `Source`."""
        transform = Transform(32, 32, squash=False, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)
        facts = BackboneFacts(params.name, "0" * 64, transform, 16, fixed_px=False)
        return Backbone(facts, self.build_bare(params.name, 32))

    def build_bare(self, name: str, px: int) -> nn.Module:  # noqa: ARG002
        """See `Source`."""
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def weights_setting(self, name: str, sha256: str) -> str:  # noqa: ARG002
        """See `Source`."""
        return "auto"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("efficientnet_lite0", PackagedSource),
        ("timm/resnet18", TimmSource),
        ("timm/resnet50.a1_in1k", TimmSource),
        ("resnet18", TorchvisionSource),
    ],
)
def test_each_name_has_its_source(name: str, source: type[Source]) -> None:
    """The form of the name decides, also where several libraries have the network."""
    assert isinstance(source_of(name), source)


def test_an_entry_is_all_that_a_new_source_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of another source are built, and its names are among the near ones of a misspelt name."""
    monkeypatch.setattr("headstart.backbone.build.SOURCES", [*SOURCES, MeanColour])
    pictures = torch.rand(2, 3, 32, 32)

    assert torch.equal(build_backbone(backbone_params("mean_colour")).network(pictures), pictures.mean((2, 3)))
    assert torch.equal(build_bare("mean_colour", 32)(pictures), pictures.mean((2, 3)))
    with pytest.raises(BackboneError, match="did you mean mean_colour"):
        source_of("mean_color")


@pytest.mark.parametrize(
    ("name", "sha256", "setting"),
    [
        ("resnet50", "0676ba61" + "0" * 56, "IMAGENET1K_V1"),
        ("resnet50", "0" * 64, "auto"),
        ("timm/resnet18", "0" * 64, "auto"),
        ("efficientnet_lite0", "0" * 64, "auto"),
    ],
)
def test_published_weights_are_found_by_their_digest(name: str, sha256: str, setting: str) -> None:
    """A bundle names weights by digest; torchvision's addresses hold its first digits."""
    assert source_of(name).weights_setting(name, sha256) == setting


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/test_resnet", "resnet18"])
def test_a_bare_network_is_frozen_and_has_no_classifier(name: str) -> None:
    """It is like the built one but for its weights, which come from a bundle."""
    bare = build_bare(name, 64)

    assert not any(module.training for module in bare.modules())
    assert not any(parameter.requires_grad for parameter in bare.parameters())
    assert bare(torch.zeros(1, 3, 64, 64)).shape != (1, 1000)
