"""Networks over feature vectors that may contain pictures: a picture's columns are treated alike.

A layout without a grid gives a plain residual perceptron; with one, every block shares its weights over the
grid's columns, looks at the neighbouring columns and at the mean over all of them. In a game where things
stand in columns this sees ten times the data that a dense layer sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch as th
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from sb3_dream.nn.layers import Chain, LayerNorm, Linear


@dataclass(frozen=True)
class Grid:
    """A picture inside a flat vector: row after row, in each row column after column.

    :param start: index of its first value
    :param rows: number of rows; 1 where the values of a column lie together in the vector
    :param columns: number of columns
    :param depth: values of each cell, which lie together in the vector
    """

    start: int
    rows: int
    columns: int
    depth: int = 1

    @property
    def channels(self) -> int:
        """Values that each column holds."""
        return self.rows * self.depth

    @property
    def size(self) -> int:
        return self.channels * self.columns

    def split(self, values: th.Tensor) -> th.Tensor:
        """
        :param values: (..., size) of the grid alone
        :return: (..., J, channels) column by column
        """
        return values.unflatten(-1, (self.rows, self.columns, self.depth)).transpose(-3, -2).flatten(-2)

    def join(self, columns: th.Tensor) -> th.Tensor:
        """The inverse of :meth:`split`."""
        return columns.unflatten(-1, (self.rows, self.depth)).transpose(-3, -2).flatten(-3)


class Parts(NamedTuple):
    """A flat feature vector, taken apart as its layout says.

    :param columns: (N, J, channels) of the grids, or None
    :param loose: (N, loose_size), or None
    """

    columns: th.Tensor | None
    loose: th.Tensor | None


def together(*parts: Parts) -> Parts:
    """
    :param parts: each as its layout says
    :return: what the sum of the layouts says
    """
    return Parts(_cat([part.columns for part in parts]), _cat([part.loose for part in parts]))


def _cat(parts: Sequence[th.Tensor | None]) -> th.Tensor | None:
    tensors = [part for part in parts if part is not None]
    if len(tensors) < 2:
        return tensors[0] if tensors else None
    return th.cat(tensors, -1)


@dataclass(frozen=True)
class Layout:
    """What a flat feature vector holds: grids, and loose values.

    :param size: length of the vector
    :param grids: the pictures in it; all have the same number of columns
    """

    size: int
    grids: tuple[Grid, ...] = ()
    loose: tuple[slice, ...] = field(init=False)

    def __post_init__(self) -> None:
        if len({grid.columns for grid in self.grids}) > 1:
            raise ValueError(f"all grids of a layout need the same number of columns: {self.grids}")
        loose, position = [], 0
        for grid in sorted(self.grids, key=lambda g: g.start):
            loose.append(slice(position, grid.start))
            position = grid.start + grid.size
        loose.append(slice(position, self.size))
        object.__setattr__(self, "loose", tuple(s for s in loose if s.stop > s.start))

    @property
    def columns(self) -> int:
        return self.grids[0].columns if self.grids else 1

    @property
    def channels(self) -> int:
        return sum(grid.channels for grid in self.grids)

    @property
    def loose_size(self) -> int:
        return sum(s.stop - s.start for s in self.loose)

    def __add__(self, other: Layout) -> Layout:
        moved = tuple(replace(g, start=g.start + self.size) for g in other.grids)
        return Layout(self.size + other.size, self.grids + moved)

    def split(self, x: th.Tensor) -> Parts:
        """
        :param x: (N, size)
        """
        columns = [g.split(x[:, g.start : g.start + g.size]) for g in self.grids]
        return Parts(_cat(columns), _cat([x[:, s] for s in self.loose]))


def _moved(y: th.Tensor, right: bool) -> th.Tensor:
    """(N, J, D) features, the first quarter moved by a column to the right or left, the second to the other side."""
    quarter, columns = y.shape[-1] // 4, y.shape[1]
    padded = F.pad(y[..., : 2 * quarter], (0, 0, 1, 1))  # (N, J + 2, D / 2)
    first, second = padded.split(quarter, -1)
    first, second = first.narrow(1, 0 if right else 2, columns), second.narrow(1, 2 if right else 0, columns)
    return th.cat((first, second, y[..., 2 * quarter :]), -1)


class _FromNeighbours(th.autograd.Function):
    """The first quarter of the features comes from the column on the left, the second from the one on the right.

    As a function of its own, since autograd would fill a tensor with zeros for each slice.
    """

    @staticmethod
    def forward(ctx: Any, y: th.Tensor) -> th.Tensor:  # (N, J, D)
        return _moved(y, right=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: th.Tensor) -> th.Tensor:
        return _moved(gradient, right=False)


class Block(nn.Module):
    """Pre-norm residual block; over several columns it also sees both neighbours and the mean of all columns."""

    def __init__(self, width: int, columns: int, hidden: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)
        self.mixes = columns > 1
        self.up = Linear(width, hidden)
        self.context = Linear(width, hidden, bias=False) if self.mixes else None
        self.down = Linear(hidden, width)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: th.Tensor) -> th.Tensor:  # (N, J, D)
        # layers are not called as modules, see Chain
        y = self.norm.forward(x)
        learning = th.is_grad_enabled()  # otherwise, what nobody else needs is overwritten
        if self.context is None:
            hidden = self.up.forward(y)
        else:
            mean = y.sum(1) / y.shape[1]  # divided once it is small
            context = F.linear(mean, self.context.weight, self.up.bias)[:, None]  # (N, 1, hidden)
            mixed = _FromNeighbours.apply(y) if learning else _moved(y, right=True)
            hidden = F.linear(mixed, self.up.weight)
            hidden = hidden + context if learning else hidden.add_(context)
        return x + self.down.forward(F.silu(hidden, inplace=not learning))


class GridNet(nn.Module):
    """Feature vectors to column features.

    :param layout: what the input holds
    :param width: features of each column (without grids: of the one column there is)
    :param depth: number of residual blocks
    :param hidden: width inside a block; ``width`` when None
    """

    def __init__(self, layout: Layout, width: int, depth: int, hidden: int | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.width = width
        self.columns = layout.columns
        self.from_columns = Linear(layout.channels, width) if layout.grids else None
        self.from_loose = Linear(layout.loose_size, width) if layout.loose else None
        self.position = nn.Parameter(0.02 * th.randn(layout.columns, width)) if layout.grids else None
        self.blocks = Chain(*(Block(width, layout.columns, hidden or width) for _ in range(depth)))
        self.norm = LayerNorm(width)

    def forward(self, x: th.Tensor | Parts) -> th.Tensor:
        """
        :param x: (N, F), or that taken apart already
        :return: (N, J, D), normalised
        """
        columns, loose = self.layout.split(x) if isinstance(x, th.Tensor) else x
        y: th.Tensor | None = None
        if columns is not None and self.from_columns is not None and self.position is not None:
            y = F.linear(columns, self.from_columns.weight) + (self.position + self.from_columns.bias)
        if loose is not None and self.from_loose is not None:
            shared = self.from_loose.forward(loose)[:, None]  # (N, 1, D)
            y = shared if y is None else y + shared
        return self.norm.forward(self.blocks(y))


class ColumnOutput(nn.Module):
    """Column features to one vector of a given layout, ``copies`` numbers for each of its values.

    :param layout: layout of the output; its grids must have as many columns as the features
    :param width: features a column
    :param copies: numbers for each value of the layout
    """

    def __init__(self, layout: Layout, width: int, copies: int = 1) -> None:
        super().__init__()
        self.layout, self.copies = layout, copies
        self.to_columns = Linear(width, layout.channels * copies) if layout.grids else None
        self.to_loose = Linear(width, layout.loose_size * copies) if layout.loose else None

    def forward(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: (N, J, D)
        :return: (copies, N, size), each copy together in memory, where what is computed of it is fastest
        """
        parts: dict[int, th.Tensor] = {}  # by where they begin
        if self.to_columns is not None:
            values = self.to_columns(x).unflatten(-1, (-1, self.copies))  # (N, J, channels, copies)
            split = values.split([g.channels for g in self.layout.grids], 2)
            for g, part in zip(self.layout.grids, split, strict=True):
                parts[g.start] = g.join(part.movedim(-1, 0))
        if self.to_loose is not None:
            values = self.to_loose(x.mean(1)).unflatten(-1, (-1, self.copies)).movedim(-1, 0)  # (copies, N, loose)
            sizes = [s.stop - s.start for s in self.layout.loose]
            parts |= {s.start: part for s, part in zip(self.layout.loose, values.split(sizes, -1), strict=True)}
        return th.cat([parts[start] for start in sorted(parts)], -1)


class ColumnLogits(nn.Sequential):
    """Column features (N, J, D) to a number for each value of a layout, (N, size).

    :param layout: of the output; its grids must have as many columns as the features
    :param width: features a column
    """

    def __init__(self, layout: Layout, width: int) -> None:
        super().__init__(ColumnOutput(layout, width), nn.Flatten(0, 1))
