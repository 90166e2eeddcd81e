"""Features back to observations, and how far the observation is from what was decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.distributions import symexp, symlog
from sb3_dream.nn.mlp import mlp
from sb3_dream.spaces import VECTOR, Observation, ObservationSpec, Segment
from sb3_dream.world_models.encoders import ChannelNorm, scale_sizes


class VectorDistribution:
    """What a network's outputs, one for each value of the observation vector, say about the vector.

    Bits, those of codes too, are Bernoulli with the output as logit; a one-hot is a categorical; a continuous value
    has its symlog predicted under a squared error (DreamerV3, Hafner et al. 2023, "Robust predictions").

    :param segments: what the values are
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.runs: list[tuple[str, slice]] = []
        for segment in segments:
            kind = "bits" if segment.kind == "code" else segment.kind
            if kind != "onehot" and self.runs and self.runs[-1][0] == kind:
                self.runs[-1] = (kind, slice(self.runs[-1][1].start, segment.slice.stop))
            else:
                self.runs.append((kind, segment.slice))

    def loss(self, output: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        :param output: (N, V)
        :param target: (N, V) observation vectors
        :return: (N,) summed over the values; nats for bits and one-hots
        """
        total = target.new_zeros(target.shape[0])
        for kind, part in self.runs:
            predicted, true = output[:, part], target[:, part]
            if kind == "bits":
                total = total + F.binary_cross_entropy_with_logits(predicted, true, reduction="none").sum(-1)
            elif kind == "onehot":
                total = total - (true * F.log_softmax(predicted, -1)).sum(-1)
            else:
                total = total + (predicted - symlog(true)).square().sum(-1)
        return total

    def mode(self, output: th.Tensor) -> th.Tensor:
        """
        :param output: (N, V)
        :return: (N, V) the most probable vector; gradients pass through bits and one-hots to their probabilities
        """
        parts = []
        for kind, part in self.runs:
            predicted = output[:, part]
            if kind == "continuous":
                parts.append(symexp(predicted))
                continue
            if kind == "bits":
                hard, soft = (predicted > 0).to(predicted.dtype), th.sigmoid(predicted)
            else:
                hard = F.one_hot(predicted.argmax(-1), predicted.shape[-1]).to(predicted.dtype)
                soft = F.softmax(predicted, -1)
            parts.append(straight_through(hard, soft))
        return parts[0] if len(parts) == 1 else th.cat(parts, -1)


def straight_through(hard: th.Tensor, soft: th.Tensor) -> th.Tensor:
    """
    :return: the value of ``hard`` with the gradient of ``soft`` (Bengio et al. 2013)
    """
    # hard + (soft - soft.detach()) in this order is exactly hard: the bracket is exactly 0
    return hard + (soft - soft.detach()) if soft.requires_grad else hard


class ImageDecoder(nn.Module):
    """The mirror of :class:`~sb3_dream.world_models.encoders.ImageEncoder`.

    :param inputs: size of the features
    :param shape: (C, H, W) of the image
    :param channels: of the encoder's first convolution
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        sizes = scale_sizes(*shape[1:])
        widths = [shape[0], *(channels * 2**i for i in range(len(sizes) - 1))]
        self.first = (widths[-1], *sizes[-1])
        self.expand = nn.Linear(inputs, self.first[0] * self.first[1] * self.first[2])
        layers: list[nn.Module] = []
        for i in reversed(range(len(sizes) - 1)):
            odd = (sizes[i][0] % 2, sizes[i][1] % 2)
            layers += [ChannelNorm(widths[i + 1]), nn.SiLU()]
            layers.append(nn.ConvTranspose2d(widths[i + 1], widths[i], 4, stride=2, padding=1, output_padding=odd))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: (N, inputs)
        :return: (N, C, H, W) in [0, 1]
        """
        small = self.expand(features).unflatten(-1, self.first).contiguous(memory_format=th.channels_last)
        return th.sigmoid(self.layers(small))


class ObservationDecoder(nn.Module):
    """All parts of an observation, each by its own network.

    :param inputs: size of the features
    :param spec: what the observations are
    :param width: of the perceptron's layers
    :param layers: of the perceptron
    :param channels: of the encoder's first convolution
    """

    def __init__(self, inputs: int, spec: ObservationSpec, width: int, layers: int, channels: int) -> None:
        super().__init__()
        self.distribution = VectorDistribution(spec.segments)
        self.vector = mlp(inputs, width, layers, spec.vector_size) if spec.vector_size else None
        self.keys = tuple(spec.image_shapes)
        self.images = nn.ModuleList(ImageDecoder(inputs, shape, channels) for shape in spec.image_shapes.values())

    def forward(self, features: th.Tensor) -> Observation:
        """
        :param features: (N, inputs)
        :return: encoded observations, each tensor (N, ...)
        """
        decoded = self._images(features)
        if self.vector is not None:
            decoded[VECTOR] = self.distribution.mode(self.vector(features))
        return decoded

    def losses(self, features: th.Tensor, target: Observation) -> dict[str, th.Tensor]:
        """
        :param features: (N, inputs)
        :param target: encoded observations, each tensor (N, ...)
        :return: (N,) for each part of the observation; squared errors, summed over the pixels, for images
        """
        losses = {
            key: (image - target[key]).square().flatten(1).sum(-1) for key, image in self._images(features).items()
        }
        if self.vector is not None:
            losses[VECTOR] = self.distribution.loss(self.vector(features), target[VECTOR])
        return losses

    def _images(self, features: th.Tensor) -> Observation:
        return {key: image(features) for key, image in zip(self.keys, self.images, strict=True)}
