"""Is an optimiser one that can train the networks, and are its arguments ones that it has?"""

from __future__ import annotations

import inspect
from typing import Any

import torch as th

from sb3_dream.config_values import as_settings
from sb3_dream.nn.muon import MuonAdam

_DEFAULTS = {"eps": 1e-5, "fused": True}  # as in Stable-Baselines3's actor-critic algorithms, and faster


def optimizer_arguments(kind: Any, arguments: Any) -> dict[str, Any]:
    """
    :param kind: the optimiser's class
    :param arguments: what the user gives, or None for the defaults
    :return: its arguments but the learning rate
    :raises ValueError: if it is no optimiser that takes steps by itself, or these are no named arguments, or
        would spoil the parameters
    """
    if not (isinstance(kind, type) and issubclass(kind, th.optim.Optimizer)):
        raise ValueError(f"optimizer_class must be a class of torch.optim, such as torch.optim.AdamW, not {kind!r}")
    if inspect.signature(kind.step).parameters["closure"].default is inspect.Parameter.empty:
        raise ValueError(f"optimizer_class: {kind.__name__} steps only where a loss can be computed again, as here not")
    if issubclass(kind, th.optim.SparseAdam):
        raise ValueError("optimizer_class: SparseAdam is for sparse gradients; take torch.optim.Adam")
    if arguments is None and kind in (MuonAdam, th.optim.Adam, th.optim.AdamW):
        return dict(_DEFAULTS)
    arguments = as_settings("optimizer_kwargs", arguments)
    if "lr" in arguments:
        raise ValueError("optimizer_kwargs: the learning rate is learning_rate of DREAM, not lr")
    eps = arguments.get("eps")
    if isinstance(eps, int | float) and eps == 0:
        raise ValueError("optimizer_kwargs: eps must be above 0, or a gradient of 0 is divided by 0")
    for name, value in arguments.items():
        if isinstance(value, int | float) and not abs(value) <= th.finfo(th.float32).max:
            raise ValueError(f"optimizer_kwargs: {name} must be a finite number that float32 has, not {value!r}")
    return arguments


def make_optimizer(
    kind: type[th.optim.Optimizer], parameters: list[Any], rate: float, arguments: dict[str, Any]
) -> th.optim.Optimizer:
    """
    :param kind: the optimiser's class
    :param parameters: to optimise, or groups of them
    :param rate: learning rate
    :param arguments: the other ones
    :return: the optimiser
    :raises ValueError: if it has no such arguments, or refuses their values
    """
    try:
        return kind(parameters, lr=rate, **arguments)  # type: ignore[call-arg]
    except Exception as error:  # whatever wrong arguments may raise
        raise ValueError(f"{kind.__name__} cannot be made with optimizer_kwargs={arguments!r}: {error}") from error
