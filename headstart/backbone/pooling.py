"""Poolings: how the map or the tokens of a layer become one vector for each image.

To add one, write its functions and give it an entry in `POOLINGS`. params.yaml and the spec then accept its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # stages without torch check params.yaml, which accepts the names of `POOLINGS`
    import torch


@dataclass(frozen=True)
class Pooling:
    """A way to pool the output of a layer. An output (B, D) is a vector already and is left as it is.

    Attributes:
        of_map: Pools a map, (B, D, H, W) or (B, H, W, D), to (B, D). Its second argument names the axes of H and W.
            None: this pooling takes no maps.
        of_tokens: Pools tokens (B, T, D) to (B, D). Its second argument is the number of tokens, at the beginning,
            that stand for no patch (the class token, registers). None: this pooling takes no tokens.
        needs_class_token: Whether it takes tokens only of networks that have a class token.
    """

    of_map: Callable[[torch.Tensor, tuple[int, int]], torch.Tensor] | None
    of_tokens: Callable[[torch.Tensor, int], torch.Tensor] | None
    needs_class_token: bool = False

    @property
    def inputs(self) -> str:
        """The outputs that it takes, in words."""
        tokens = "tokens (T, D) of a network with a class token" if self.needs_class_token else "tokens (T, D)"
        kinds = ["a vector (D)", self.of_map and "a map (D, H, W)", self.of_tokens and tokens]
        return " or ".join(kind for kind in kinds if kind)


def _mean_of_map(output: torch.Tensor, places: tuple[int, int]) -> torch.Tensor:
    return output.mean(places)


def _mean_of_tokens(output: torch.Tensor, num_prefix_tokens: int) -> torch.Tensor:
    return output[:, num_prefix_tokens:].mean(1)


def _class_token(output: torch.Tensor, num_prefix_tokens: int) -> torch.Tensor:  # noqa: ARG001
    return output[:, 0]


POOLINGS = {
    "mean": Pooling(_mean_of_map, _mean_of_tokens),
    "token": Pooling(None, _class_token, needs_class_token=True),
}
