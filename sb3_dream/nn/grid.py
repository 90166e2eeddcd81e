"""Networks over feature vectors that may contain pictures: a picture's columns are treated alike.

A layout without a grid gives a plain residual perceptron; with one, every block shares its weights over the
grid's columns, looks at the neighbouring columns and at the mean over all of them. In a game where things
stand in columns this sees ten times the data that a dense layer sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch as th
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Grid:
    """A picture inside a flat vector.

    :param start: index of its first value
    :param channels: values that each column holds (for a picture of cells: its rows)
    :param columns: number of columns
    :param column_major: whether a column's values lie together in the vector
    """

    start: int
    channels: int
    columns: int
    column_major: bool = False

    @property
    def size(self) -> int:
        return self.channels * self.columns


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
        moved = tuple(Grid(g.start + self.size, g.channels, g.columns, g.column_major) for g in other.grids)
        return Layout(self.size + other.size, self.grids + moved)

    def split(self, x: th.Tensor) -> tuple[th.Tensor | None, th.Tensor | None]:
        """
        :param x: (N, size)
        :return: the grids' columns (N, J, channels) and the loose values (N, loose_size); None for what is absent
        """
        columns = []
        for g in self.grids:
            part = x[:, g.start : g.start + g.size]
            if g.column_major:
                columns.append(part.reshape(-1, g.columns, g.channels))
            else:
                columns.append(part.reshape(-1, g.channels, g.columns).transpose(1, 2))
        loose = [x[:, s] for s in self.loose]
        return (th.cat(columns, -1) if columns else None), (th.cat(loose, -1) if loose else None)


class Block(nn.Module):
    """Pre-norm residual block; over several columns it also sees both neighbours and the mean of all columns."""

    def __init__(self, width: int, columns: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixes = columns > 1
        self.up = nn.Linear(width, hidden)
        self.context = nn.Linear(width, hidden, bias=False) if self.mixes else None
        self.down = nn.Linear(hidden, width)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: th.Tensor) -> th.Tensor:  # (N, J, D)
        y = self.norm(x)
        if self.context is None:
            return x + self.down(F.silu(self.up(y)))
        context = self.context(y.mean(1, keepdim=True))  # (N, 1, hidden)
        quarter = y.shape[-1] // 4
        left = F.pad(y[:, :-1, :quarter], (0, 0, 1, 0))
        right = F.pad(y[:, 1:, quarter : 2 * quarter], (0, 0, 0, 1))
        mixed = th.cat((left, right, y[..., 2 * quarter :]), -1)
        return x + self.down(F.silu(self.up(mixed) + context))


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
        self.from_columns = nn.Linear(layout.channels, width) if layout.grids else None
        self.from_loose = nn.Linear(layout.loose_size, width) if layout.loose else None
        self.position = nn.Parameter(0.02 * th.randn(layout.columns, width)) if layout.grids else None
        self.blocks = nn.Sequential(*(Block(width, layout.columns, hidden or width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: (N, F)
        :return: (N, J, D), normalised
        """
        columns, loose = self.layout.split(x)
        y: th.Tensor | None = None
        if self.from_columns is not None and self.position is not None:
            y = self.from_columns(columns) + self.position
        if self.from_loose is not None:
            shared = self.from_loose(loose)[:, None]  # (N, 1, D)
            y = shared if y is None else y + shared
        return self.norm(self.blocks(y))
