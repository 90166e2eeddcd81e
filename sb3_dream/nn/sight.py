"""What is seen of a binary picture by looking down its columns.

Where things fall, rest on each other or hide each other, what counts in a column is where its first run of filled
cells begins and what lies behind it. A network would have to learn that place by place, from examples; here it is
computed. Taking a scene apart by depth is known in computer graphics as depth peeling (Everitt 2001).
"""

from __future__ import annotations

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.grid import Grid, Layout


class ColumnSight(nn.Module):
    """Appends to a vector, for each picture in it, which cells lie at or behind the first, second, .. run of filled
    cells of their column, counted from the picture's first row.

    :param layout: of the vector; that of the result is in the attribute ``layout``
    :param pictures: those grids of it that hold bits
    :param depth: how many runs to tell apart; 0 appends nothing
    """

    def __init__(self, layout: Layout, pictures: tuple[Grid, ...], depth: int) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"sight is a number of runs, 0 or more, not {depth}")
        self.depth = depth
        self.pictures = pictures if depth else ()
        self.layout = layout
        for g in self.pictures:
            self.layout += Layout(depth * g.size, (Grid(0, depth * g.channels, g.columns, column_major=True),))

    def forward(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: (..., V)
        :return: (..., V + depth * cells)
        """
        parts = [x]
        for g in self.pictures:
            cells = x[..., g.start : g.start + g.size].unflatten(-1, (g.channels, g.columns)).transpose(-1, -2)
            begins = cells * (1 - F.pad(cells[..., :-1], (1, 0)))  # (..., J, rows)
            runs = begins @ th.ones(g.channels, g.channels, device=x.device).triu()  # runs met so far
            parts += [th.stack([(runs > k).float() for k in range(self.depth)], -2).flatten(-3)]
        return th.cat(parts, -1) if len(parts) > 1 else x
