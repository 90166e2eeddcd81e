"""What is seen of a binary picture by looking down its columns and along its rows.

Where things fall, rest on each other or hide each other, what counts in a column is where its first run of filled
cells begins and what lies behind it; where rows or walls are completed, what counts in a row is how many cells it still
lacks. A network would have to learn that place by place, from examples; here it is computed. Taking a scene apart by
depth is known in computer graphics as depth peeling (Everitt 2001), counting the cells of rows in document analysis as
a projection profile.
"""

from __future__ import annotations

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.grid import Grid, Layout, Parts, together


class Sight(nn.Module):
    """Computes, for each picture in a vector,

    - which cells lie at or behind the first, second, .. run of filled cells of their column, counted from the
      picture's first row: a picture each;
    - which rows lack no cell, one cell, ..: a loose value a row, each.

    :param layout: of the vector; that of what is computed of it is in the attribute ``computed``
    :param pictures: those grids of it that hold bits
    :param depth: how many runs, and numbers of lacking cells, to tell apart; 0 computes nothing
    """

    def __init__(self, layout: Layout, pictures: tuple[Grid, ...], depth: int) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"sight is a number of runs, 0 or more, not {depth}")
        self.depth = depth
        self.pictures = pictures if depth else ()
        self.computed = Layout(0)
        for g in self.pictures:
            self.computed += Layout(depth * g.size, (Grid(0, 1, g.columns, depth * g.channels),))
            self.computed += Layout(depth * g.channels)

    def forward(self, x: th.Tensor) -> Parts:
        """
        :param x: (N, V)
        :return: what is computed, taken apart
        """
        return together(*(Parts(behind, lacking) for behind, lacking in self._parts(x)))

    def vectors(self, x: th.Tensor) -> list[th.Tensor]:
        """
        :param x: (N, V)
        :return: (N, ...) each, the same as a flat vector, in pieces
        """
        return [vector for behind, lacking in self._parts(x) for vector in (behind.flatten(1), lacking)]

    def _parts(self, x: th.Tensor) -> list[tuple[th.Tensor, th.Tensor]]:
        """(N, J, depth * rows) of the runs and (N, depth * rows) of the rows, for each picture."""
        parts = []
        for g in self.pictures:
            cells = g.split(x[:, g.start : g.start + g.size]).contiguous()  # (N, J, rows)
            begins = cells - cells * F.pad(cells[..., :-1], (1, 0))
            runs = begins.cumsum(-1)  # met so far
            lacking = g.columns - cells.sum(1)  # (N, rows)
            behind = [(runs - k).clamp_(0, 1) for k in range(self.depth)]  # 1 where more than k runs were met
            parts.append((th.cat(behind, -1), th.cat([lacking == k for k in range(self.depth)], -1).to(x.dtype)))
        return parts
