"""Poolings: how the map or the tokens of a layer become one vector.

To add one, write its two functions, give it an entry in `POOLINGS`, and add its name to `PoolingName`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pooling:
    """A way to pool the output of a layer.

    Attributes:
        of_map: Turns a map, with its two axes of places, into vectors (B, D); None if it cannot.
        of_tokens: Turns tokens (B, T, D), with the number of those that are not patches, into vectors (B, D); None if
            it cannot.
        needs_class_token: Whether it takes only networks with a class token.
    """

    of_map: Callable[[torch.Tensor, tuple[int, int]], torch.Tensor] | None
    of_tokens: Callable[[torch.Tensor, int], torch.Tensor] | None
    needs_class_token: bool = False


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
