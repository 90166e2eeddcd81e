"""Observations to one vector of features: a perceptron for the vector, convolutions for each image."""

from __future__ import annotations

import torch as th
from torch import nn

from sb3_dream.nn.distributions import symlog
from sb3_dream.nn.mlp import mlp
from sb3_dream.spaces import VECTOR, Observation, ObservationSpec

SMALLEST_IMAGE = 4
"""Fewest rows and columns that an image may have."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, x: th.Tensor) -> th.Tensor:  # (N, C, H, W)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def scale_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """
    :param height: rows of an image
    :param width: columns of an image
    :return: (rows, columns) of each scale: the image's own, then halves, until the smaller side is below 8
    :raises ValueError: where the image is too small for a convolution
    """
    if min(height, width) < SMALLEST_IMAGE:
        raise ValueError(f"an image needs at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} pixels, not {height} x {width}")
    sizes = [(height, width), (height // 2, width // 2)]
    while min(sizes[-1]) >= 8:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class ImageEncoder(nn.Module):
    """Convolutions that halve an image of any size and double its channels until 4 to 7 pixels are left on a side.

    :param shape: (C, H, W) of the image
    :param channels: of the first convolution
    """

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"an image has a shape (channels, rows, columns), not {shape}")
        before, layers = shape[0], []
        sizes = scale_sizes(*shape[1:])
        for i in range(len(sizes) - 1):
            after = channels * 2**i
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), ChannelNorm(after), nn.SiLU()]
            before = after
        self.layers = nn.Sequential(*layers)
        self.out_size = before * sizes[-1][0] * sizes[-1][1]

    def forward(self, image: th.Tensor) -> th.Tensor:
        """
        :param image: (N, C, H, W) in [0, 1]
        :return: (N, out_size)
        """
        # channels last: convolutions are faster that way on a CPU, and it is the norm's own order
        return self.layers((image - 0.5).contiguous(memory_format=th.channels_last)).flatten(1)


class ObservationEncoder(nn.Module):
    """All parts of an observation, each by its own network, side by side.

    :param spec: what the observations are
    :param width: of the perceptron's layers
    :param layers: of the perceptron
    :param channels: of the first convolution
    """

    def __init__(self, spec: ObservationSpec, width: int, layers: int, channels: int) -> None:
        super().__init__()
        self.continuous = any(segment.kind == "continuous" for segment in spec.segments)
        self.vector = mlp(spec.vector_size, width, layers) if spec.vector_size else None
        self.keys = tuple(spec.image_shapes)
        images = [ImageEncoder(shape, channels) for shape in spec.image_shapes.values()]
        self.images = nn.ModuleList(images)
        self.out_size = sum(image.out_size for image in images) + (width if self.vector is not None else 0)

    def forward(self, observation: Observation) -> th.Tensor:
        """
        :param observation: encoded, each tensor (N, ...)
        :return: (N, out_size)
        """
        parts = [image(observation[key]) for key, image in zip(self.keys, self.images, strict=True)]
        if self.vector is not None:
            vector = observation[VECTOR]
            parts.append(self.vector(symlog(vector) if self.continuous else vector))
        return parts[0] if len(parts) == 1 else th.cat(parts, -1)
