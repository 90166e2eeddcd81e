"""Recurrent cells whose whole memory is one flat tensor a row, so that replay can store it."""

from __future__ import annotations

import math
from typing import Literal

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.layers import LayerNorm, Linear


class BlockLinear(nn.Module):
    """A linear layer whose weight is block-diagonal: each of ``blocks`` equal parts of the input has its own outputs.

    :param inputs: divisible by ``blocks``
    :param outputs: divisible by ``blocks``
    :param blocks: 1 for a dense layer
    """

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        if inputs % blocks or outputs % blocks:
            raise ValueError(f"{inputs} inputs and {outputs} outputs do not divide into {blocks} blocks")
        self.blocks, self.part = blocks, inputs // blocks
        bound = 1 / math.sqrt(self.part)  # as nn.Linear, for the inputs that an output really has
        self.weight = nn.Parameter(th.empty(blocks, self.part, outputs // blocks).uniform_(-bound, bound))
        self.bias = nn.Parameter(th.empty(blocks, 1, outputs // blocks).uniform_(-bound, bound))

    def forward(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: (N, inputs)
        :return: (N, blocks, outputs / blocks)
        """
        return th.baddbmm(self.bias, self.split(x).transpose(0, 1), self.weight).transpose(0, 1)

    def split(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: (N, inputs)
        :return: (N, blocks, inputs / blocks)
        """
        return x.reshape(len(x), self.blocks, self.part)


_PIECE = 128  # rows whose gates, a megabyte or two, stay in a processor's cache


class BlockGRU(nn.Module):
    """A GRU behind a normalised hidden layer, both block-diagonal in the memory (DreamerV3, Hafner et al. 2023).

    The input reaches all blocks, and must bring along what a block should know of the others.

    :param inputs: size of the input
    :param memory: size of the memory, divisible by ``blocks``
    :param blocks: 1 for dense layers
    """

    def __init__(self, inputs: int, memory: int, blocks: int) -> None:
        super().__init__()
        self.from_input = Linear(inputs, memory)
        self.from_memory = BlockLinear(memory, memory, blocks)
        self.norm = LayerNorm(memory)
        self.gates = BlockLinear(memory, 3 * memory, blocks)

    def forward(self, x: th.Tensor, memory: th.Tensor) -> th.Tensor:
        """
        :param x: (N, inputs)
        :param memory: (N, M)
        :return: (N, M) the next memory, in (-1, 1) when it starts there
        """
        if th.is_grad_enabled() or memory.device.type != "cpu" or len(memory) <= _PIECE:
            return self._step(x, memory)
        pieces = zip(x.split(_PIECE), memory.split(_PIECE), strict=True)
        return th.cat([self._step(*piece) for piece in pieces])

    def _step(self, x: th.Tensor, memory: th.Tensor) -> th.Tensor:
        parts = self.gates.split(memory)  # (N, blocks, M / blocks)
        # layers are not called as modules, see Chain
        y = self.from_input.forward(x)
        y.view_as(parts).add_(self.from_memory.forward(memory))
        reset, candidate, update = self.gates.forward(F.silu(self.norm.forward(y))).chunk(3, -1)
        change = 2 * th.sigmoid(2 * th.sigmoid(reset) * candidate) - 1  # a tanh, which PyTorch computes more slowly
        taken = th.sigmoid(update - 1)  # at first, little: remember most
        return th.lerp(parts, change.to(parts.dtype), taken.to(parts.dtype)).flatten(1)


class RecurrentStack(nn.Module):
    """Layers of GRU or LSTM cells. The memory holds, layer after layer, the output and, for an LSTM, the cell state.

    :param inputs: size of the input
    :param hidden: units of each layer
    :param layers: number of layers
    :param cell: ``"gru"`` or ``"lstm"``
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1, cell: Literal["gru", "lstm"] = "gru") -> None:
        super().__init__()
        if cell not in ("gru", "lstm"):
            raise ValueError(f"cell is 'gru' or 'lstm', not {cell!r}")
        if layers < 1:
            raise ValueError(f"a recurrent network needs at least one layer, not {layers}")
        self.hidden, self.cell = hidden, cell
        kind = nn.LSTMCell if cell == "lstm" else nn.GRU
        self.layers = nn.ModuleList(kind(inputs if i == 0 else hidden, hidden) for i in range(layers))
        self.layer_size = hidden * (2 if cell == "lstm" else 1)
        self.memory_size = layers * self.layer_size

    def forward(self, inputs: th.Tensor, memory: th.Tensor) -> th.Tensor:
        """
        :param inputs: (T, N, I)
        :param memory: (N, M) before the first step
        :return: (T, N, M) after each step
        """
        memories = []
        for layer, first in zip(self.layers, memory.split(self.layer_size, -1), strict=True):
            after = self._scan(layer, inputs, first)  # (T, N, layer_size)
            inputs = after[..., : self.hidden]
            memories.append(after)
        return memories[0] if len(memories) == 1 else th.cat(memories, -1)

    def output(self, memory: th.Tensor) -> th.Tensor:
        """
        :param memory: (..., M)
        :return: (..., hidden) the output of the last layer
        """
        start = self.memory_size - self.layer_size
        return memory[..., start : start + self.hidden]

    def _scan(self, layer: nn.Module, inputs: th.Tensor, first: th.Tensor) -> th.Tensor:
        if self.cell == "gru":
            return layer(inputs, first[None].contiguous())[0]
        hidden, cell = first.chunk(2, -1)
        steps = []
        for x in inputs.unbind(0):  # nn.LSTM returns the cell state of its last step only
            hidden, cell = layer(x, (hidden, cell))
            steps.append(th.cat((hidden, cell), -1))
        return th.stack(steps)
