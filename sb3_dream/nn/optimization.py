"""Gradient steps that stop before they spoil anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_dream.nn.collectives import average_gradients

Scalars = dict[str, th.Tensor]


class Gradients(NamedTuple):
    """
    :param scalars: losses and metrics by name, summed over their pieces, detached
    :param values: the gradients of the losses' sum, for each of an optimiser's parameters; None where there is none
    """

    scalars: Scalars
    values: list[th.Tensor | None]


def gradients(optimizer: th.optim.Optimizer, losses: Scalars | Iterable[Scalars]) -> Gradients:
    """
    :param optimizer: of the parameters
    :param losses: scalars by name, or pieces of them that add up: each piece is passed backwards before the next one is
        computed. Scalars without gradients are handed back only
    """
    optimizer.zero_grad(set_to_none=True)
    total: Scalars = {}
    for piece in (losses,) if isinstance(losses, dict) else losses:
        th.stack([scalar for scalar in piece.values() if scalar.requires_grad]).sum().backward()
        for name, scalar in piece.items():
            total[name] = total[name] + scalar.detach() if name in total else scalar.detach()
    return Gradients(total, [parameter.grad for parameter in _parameters(optimizer)])


def descend(optimizer: th.optim.Optimizer, found: Gradients, max_grad_norm: float, when: str) -> Scalars:
    """One step of the optimiser.

    :param max_grad_norm: of each of the optimiser's parameter groups
    :param when: for the error message
    :return: the scalars of ``found``
    :raises FloatingPointError: if a loss or a gradient is NaN or infinite; no parameter has changed then
    """
    for parameter, gradient in zip(_parameters(optimizer), found.values, strict=True):
        parameter.grad = gradient
    average_gradients(optimizer)
    groups = [group["params"] for group in optimizer.param_groups]
    norms = [th.nn.utils.clip_grad_norm_(parameters, max_grad_norm, foreach=True) for parameters in groups]
    require_finite_losses(found.scalars, sum(norms, th.stack(list(found.scalars.values())).sum()), when)
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


def require_finite_losses(losses: dict[str, th.Tensor], total: th.Tensor, when: str) -> None:
    """
    :param losses: scalars by name
    :param total: scalar that is not finite if one of them is not, or a gradient of theirs
    :param when: for the error message
    :raises FloatingPointError: with the names of those that are NaN or infinite
    """
    if not th.isfinite(total):
        bad = [name for name, loss in losses.items() if not th.isfinite(loss)]
        what = ", ".join(bad) or f"the gradient of {', '.join(losses)}"
        raise FloatingPointError(
            f"{what} became NaN or infinite in {when}; the parameters are as they were before. Check rewards and "
            "observations, or lower the learning rate."
        )
