"""Gradient steps that stop before they spoil anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_dream.nn.collectives import average_gradients
from sb3_dream.nn.transfers import Later

Scalars = dict[str, th.Tensor]


class Gradients(NamedTuple):
    """
    :param scalars: losses and metrics by name, summed over their pieces, detached
    :param values: the gradients of the losses' sum, for each of an optimiser's parameters; None where there is none
    :param sound: scalar that is not finite if a loss or metric is not; or a gradient, where those were guarded
    """

    scalars: Scalars
    values: list[th.Tensor | None]
    sound: th.Tensor


class FiniteCheck:
    """
    Stops training at the first loss or gradient that is not finite, before it changes a parameter.

    :param late: do not wait for what is checked, as on a GPU: look at it when the next one comes, or at :meth:`settle`.
        Until then :func:`gradients` has to keep parameters finite
    """

    def __init__(self, late: bool) -> None:
        self.late = late
        self._waiting: tuple[Later, list[str], str] | None = None

    def __call__(self, scalars: Scalars, total: th.Tensor, when: str) -> None:
        """
        :param scalars: by name
        :param total: scalar that is not finite if one of them is not, or a gradient of theirs
        :param when: for the error message
        :raises FloatingPointError: with the names of those that are NaN or infinite
        """
        self.settle()
        self._waiting = Later(th.stack([total, *scalars.values()]).detach()), list(scalars), when
        if not self.late:
            self.settle()

    def settle(self) -> None:
        """
        :raises FloatingPointError: if what was checked last is not finite
        """
        if self._waiting is None:
            return
        (numbers, names, when), self._waiting = self._waiting, None
        total, *finite = th.isfinite(numbers.get()).tolist()
        if not total:
            bad = [name for name, good in zip(names, finite, strict=True) if not good]
            what = ", ".join(bad) or f"the gradient of {', '.join(names)}"
            raise FloatingPointError(
                f"{what} became NaN or infinite in {when}; no parameter was changed by it. Check rewards and "
                "observations, or lower the learning rate."
            )


def gradients(optimizer: th.optim.Optimizer, losses: Scalars | Iterable[Scalars], guarded: bool = False) -> Gradients:
    """
    :param optimizer: of the parameters
    :param losses: scalars by name, or pieces of them that add up: each piece is passed backwards before the next one is
        computed. Scalars without gradients are handed back only
    :param guarded: all gradients are 0 where one, or a loss, is not finite: for a :class:`FiniteCheck` that is late
    """
    optimizer.zero_grad(set_to_none=True)
    total: Scalars = {}
    for piece in (losses,) if isinstance(losses, dict) else losses:
        th.stack([scalar for scalar in piece.values() if scalar.requires_grad]).sum().backward()
        for name, scalar in piece.items():
            total[name] = total[name] + scalar.detach() if name in total else scalar.detach()
    values = [parameter.grad for parameter in _parameters(optimizer)]
    sound = th.stack(list(total.values())).sum()
    if guarded:
        given = [value for value in values if value is not None]
        joined = th.cat([value.flatten() for value in given])  # one operation instead of one for each parameter
        sound = sound + joined.norm()
        parts = th.where(sound.isfinite(), joined, 0.0).split([value.numel() for value in given])
        guarded_values = (part.view_as(value) for part, value in zip(parts, given, strict=True))
        values = [None if value is None else next(guarded_values) for value in values]
    return Gradients(total, values, sound)


def descend(
    optimizer: th.optim.Optimizer, found: Gradients, max_grad_norm: float, check: FiniteCheck, when: str
) -> Scalars:
    """One step of the optimiser.

    :param max_grad_norm: of each of the optimiser's parameter groups
    :param check: of the losses and the gradients
    :param when: for the error message
    :return: the scalars of ``found``
    :raises FloatingPointError: if a loss or a gradient is NaN or infinite
    """
    for parameter, gradient in zip(_parameters(optimizer), found.values, strict=True):
        parameter.grad = gradient
    average_gradients(optimizer)
    groups = [group["params"] for group in optimizer.param_groups]
    norms = [th.nn.utils.clip_grad_norm_(parameters, max_grad_norm, foreach=True) for parameters in groups]
    check(found.scalars, sum(norms, found.sound), when)
    optimizer.step()
    return found.scalars


def _parameters(optimizer: th.optim.Optimizer) -> list[th.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed inside the ``with`` block has gradients through the module, but none for its parameters."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
