"""What the processes of a distributed training tell each other, with PyTorch's own collectives.

A process is one of several when ``torch.distributed`` was initialised; alone, each function returns at once what it
was given. Every function must be called by all ranks, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch as th
import torch.distributed as dist
from torch import nn

from sb3_dream.nn.moments import RunningMoments

Value = TypeVar("Value")


class LostRankError(OSError):
    """Another process of the training cannot be reached any more."""


def world_size() -> int:
    """
    :return: how many processes train together
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """
    :return: this process's number, from 0
    """
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def _reaching_all() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(
            f"rank {dist.get_rank()} of {dist.get_world_size()} has lost another rank: that one failed, was killed, or "
            "its machine is gone"
        ) from error


def average_gradients(optimizer: th.optim.Optimizer) -> None:
    """
    Replace the gradients by their means over all ranks, as if there had been one batch of all ranks' batches.

    :param optimizer: of the parameters; on all ranks, the same ones have gradients
    """
    if world_size() == 1:
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = th.cat([gradient.flatten() for gradient in gradients])
    with _reaching_all():
        dist.all_reduce(flat)
    flat /= world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


@th.no_grad()
def average_buffers(module: nn.Module) -> None:
    """
    Replace the module's running statistics by their means over all ranks. To be called after every update: moving
    averages are linear, so the mean of what each rank made of its batch is what one process makes of all of them.
    Moments that only some ranks had something to add to are those ranks'.

    :param module: with the same buffers on all ranks before the update
    """
    if world_size() == 1:
        return
    moments = [part for part in module.modules() if isinstance(part, RunningMoments)]
    shares: dict[th.Tensor, th.Tensor] = {}
    if moments:
        updates = th.stack([part.updates for part in moments])
        newest = updates.clone()
        with _reaching_all():
            dist.all_reduce(newest, dist.ReduceOp.MAX)
        for part, share, count in zip(moments, (updates == newest).double(), newest, strict=True):
            part.updates.copy_(count)
            shares |= {part.mean: share, part.square: share}
    learned = {name for name, _ in module.named_parameters()}
    buffers = [value for name, value in module.state_dict(keep_vars=True).items() if name not in learned]
    if not buffers:
        return
    # in double precision, in which what is the same on all ranks stays as it is
    parts = [(buffer.double() * shares.get(buffer, 1.0)).flatten() for buffer in buffers]
    weights = th.stack([th.as_tensor(shares.get(buffer, 1.0)).to(parts[0]) for buffer in buffers])
    sums = th.cat([*parts, weights])
    with _reaching_all():
        dist.all_reduce(sums)
    *totals, weights = sums.split([*(part.numel() for part in parts), len(buffers)])
    for buffer, total, weight in zip(buffers, totals, weights, strict=True):
        buffer.copy_((total / weight).view_as(buffer))


def add_up(array: th.Tensor) -> th.Tensor:
    """
    :param array: on the CPU, of the same shape on all ranks
    :return: the sum over all ranks
    """
    if world_size() > 1:
        with _reaching_all():
            dist.all_reduce(array)
    return array


def least(number: int) -> int:
    """
    :return: the smallest of all ranks' numbers
    """
    if world_size() == 1:
        return number
    smallest = th.tensor(number)
    with _reaching_all():
        dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return int(smallest)


def gathered(value: Value) -> list[Value]:
    """
    :param value: anything that can be pickled
    :return: all ranks' values, by rank
    """
    if world_size() == 1:
        return [value]
    values: list[Value] = [value] * world_size()
    with _reaching_all():
        dist.all_gather_object(values, value)
    return values


def of_rank(value: Value, source: int) -> Value:
    """
    :param value: anything that can be pickled; only the source's counts
    :param source: a rank
    :return: that rank's value
    """
    if world_size() == 1:
        return value
    box = [value]
    with _reaching_all():
        dist.broadcast_object_list(box, source)
    return box[0]


class Agreement:
    """
    Whether any rank says yes. The ranks ask each other at every eighth call only, since that takes as long as a step
    of a fast environment; what was said before is not forgotten. Alone, a process decides at each call.
    """

    _EVERY = 8

    def __init__(self) -> None:
        self._calls = 0
        self._said = False

    def __call__(self, yes: bool) -> bool:
        """
        :param yes: what this rank says
        :return: whether any does, the same on all ranks
        """
        if world_size() == 1:
            return yes
        self._calls += 1
        self._said |= yes
        if self._calls % self._EVERY:
            return False
        no, self._said = not self._said, False
        return not least(no)
