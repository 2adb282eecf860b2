"""Poolings: a new one needs an entry in `POOLINGS` and nothing else."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.pooling import POOLINGS, Pooling
from headstart.backbone.spec import BackboneFacts, find_problem, make_spec
from headstart.imaging.transform import Transform, make_views
from tests.conftest import backbone_params

PLAIN = Transform(64, 64, squash=False, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)


class Body(nn.Module):
    """A network whose layer `body` gives the pictures as a map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Identity()

    def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
        """Return one vector for each picture."""
        return self.body(inputs_BCHW).flatten(1)


def spec_with(pooling: str) -> dict[str, object]:
    """Return a spec that names a pooling."""
    facts = BackboneFacts("any", "0" * 64, PLAIN, 32, fixed_px=False)
    return make_spec(
        facts, PLAIN, ["body"], pooling=pooling, views=make_views(1, 0), precision="float32", decode="exact"
    )


def test_an_entry_is_all_that_a_new_pooling_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an entry for `max`, params and spec accept the name and the network pools by the maximum."""
    monkeypatch.setitem(POOLINGS, "max", Pooling(lambda output, places: output.amax(places), None))
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    network = EmbeddingNetwork(Body(), PLAIN, ["body"], "max")

    assert backbone_params("any", pooling="max").pooling == "max"
    assert find_problem(spec_with("max")) == ""
    assert torch.allclose(network(pixels)[0], pixels.amax((1, 2)) / 255)


def test_a_name_without_an_entry_is_refused_with_all_names() -> None:
    """Params and spec refuse an unknown pooling and list the known ones."""
    known = " or ".join(repr(name) for name in POOLINGS)
    with pytest.raises(ValidationError, match=f"Input should be {known}"):
        backbone_params("any", pooling="max")
    assert find_problem(spec_with("max")) == f"spec.pooling: Input should be {known}; found 'max'"
