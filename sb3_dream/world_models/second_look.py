"""A second look at a predicted picture, to correct it.

Some changes follow from others within one step: a stone drops, and *then* the row it completes disappears and all
above it moves. A network that must say both at once has to see the end of the first in order to begin with the second,
and has few examples of the second. Here the picture is predicted as well as possible first, then looked at like a real
one, and predicted again. As what moves is mostly there already, each cell may take over the value of another one in its
column, as in video prediction by moving pixels (Finn et al. 2016).
"""

from __future__ import annotations

from dataclasses import replace

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.grid import ColumnOutput, Grid, GridNet, Layout, Parts

_OFFSETS = (-2, -1, 1, 2)  # rows between a cell and those that it may copy


class SecondLook(nn.Module):
    """
    :param pictures: the binary pictures of the observation
    :param layout: what the input of :meth:`forward` holds
    :param width: features of a column
    :param depth: residual blocks
    """

    def __init__(self, pictures: tuple[Grid, ...], layout: Layout, width: int, depth: int) -> None:
        super().__init__()
        self.pictures = pictures
        together = Layout(0)
        for g in pictures:
            together += Layout(g.size, (replace(g, start=0),))
        self.net = GridNet(layout, width, depth)
        self.values = ColumnOutput(together, width, copies=2 + len(_OFFSETS))
        for parameter in self.values.parameters():
            nn.init.zeros_(parameter)  # nothing is corrected at first

    def guess(self, logits: th.Tensor, before: th.Tensor) -> th.Tensor:
        """
        :param logits: (N, V) of the first prediction's bits
        :param before: (N, V) the last observation
        :return: (N, V) the last observation with the most probable next pictures in it
        """
        guess = before.clone()
        for g in self.pictures:
            part = slice(g.start, g.start + g.size)
            guess[:, part] = (logits[:, part] > 0).to(before.dtype)
        return guess

    def forward(self, logits: th.Tensor, guess: th.Tensor, inputs: th.Tensor | Parts) -> th.Tensor:
        """
        :param logits: (N, V) of the first prediction's bits
        :param guess: (N, V) what it looks like
        :param inputs: what the correction may depend on, laid out as ``layout`` says
        :return: (N, V) logits, corrected where there are pictures
        """
        values = self.values(self.net(inputs))  # (2 + offsets, N, cells of all pictures)
        corrected, position = logits.clone(), 0
        for g in self.pictures:
            part = slice(g.start, g.start + g.size)
            off, on, *copies = values[..., position : position + g.size].unbind(0)
            cells = 2 * guess[:, part] - 1  # (N, cells) of -1 and 1
            out = cells + th.where(cells > 0, 1 - off, on - 1)
            for offset, weight in zip(_OFFSETS, copies, strict=True):
                out = out + weight * _shifted(cells, offset * g.columns)
            corrected[:, part] = out
            position += g.size
        return corrected

    def first_loss(self, logits: th.Tensor, after: th.Tensor) -> th.Tensor:
        """
        :param logits: (N, V) of the first prediction's bits
        :param after: (N, V) the observation to predict
        :return: (N,) its negative log-likelihood of the pictures, in nats
        """
        parts = [slice(g.start, g.start + g.size) for g in self.pictures]
        losses = [F.binary_cross_entropy_with_logits(logits[:, p], after[:, p], reduction="none") for p in parts]
        return th.cat(losses, -1).sum(-1)


def _shifted(cells: th.Tensor, by: int) -> th.Tensor:
    """(N, cells): for each, the one ``by`` places on; -1 beyond the picture."""
    if by > 0:
        return F.pad(cells[:, by:], (0, by), value=-1.0)
    return F.pad(cells[:, :by], (-by, 0), value=-1.0)
