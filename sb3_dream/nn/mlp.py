"""Plain perceptrons."""

from __future__ import annotations

import torch as th
from torch import nn

from sb3_dream.nn.layers import Chain, LayerNorm, Linear


def mlp(inputs: int, width: int, layers: int, outputs: int | None = None) -> Chain:
    """Linear, layer norm, SiLU, ``layers`` times, and a last linear layer where ``outputs`` are asked for.

    Layer norm, because PyTorch fuses its backward pass on a CPU and that of RMS norm not.

    :param inputs: size of the input
    :param width: size of every hidden layer
    :param layers: number of hidden layers
    :param outputs: size of the output; None for the last hidden layer itself
    """
    modules: list[nn.Module] = []
    for _ in range(layers):
        modules += [Linear(inputs, width), LayerNorm(width), nn.SiLU()]
        inputs = width
    if outputs is not None:
        modules.append(Linear(inputs, outputs))
    return Chain(*modules)


def zero_init(layer: nn.Module) -> nn.Module:
    """
    :param layer: a linear layer, or a sequence that ends in one
    :return: the same, with an output of 0 until it has learned something
    """
    last = layer[-1] if isinstance(layer, nn.Sequential) else layer
    for parameter in last.parameters():
        th.nn.init.zeros_(parameter)
    return layer
