"""What a CUDA graph does, on a processor: operations are written down, and done again on the same tensors.

As with a graph, no Python runs when they are done again: what depends on a number that Python looked at, or on a tensor
made of one, would stay as it was. So both are refused, as a GPU refuses them while it records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as th
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::lift_fresh")


def record_on_processor(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """As :func:`sb3_dream.nn.graphs.record_cuda`: everything is as before when it returns."""
    tape, state = _Tape(), th.get_rng_state()
    with _ChecksOfProcessors(tape), tape:
        result = function()
    th.set_rng_state(state)
    for tensor, before in tape.overwritten.values():
        with th.no_grad():
            tensor.copy_(before)
    return result, tape.play


class _ChecksOfProcessors(TorchFunctionMode):
    """Lets functions look at their arguments that do so on a processor only, not on a GPU."""

    def __init__(self, tape: _Tape) -> None:
        self.tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        checks = getattr(func, "__name__", "") in ("quantile", "one_hot")
        self.tape.may_wait += checks
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.tape.may_wait -= checks


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.may_wait = 0
        self.steps: list[tuple[Any, Any, Any, list[Any], bool]] = []
        self.own: set[int] = set()  # memory that the function allocates
        self.overwritten: dict[int, tuple[th.Tensor, th.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        if schema.name in _WAITS and not self.may_wait:
            raise RuntimeError(f"{schema.name} cannot be recorded")
        named = list(zip(schema.arguments, args, strict=False))
        named += [(argument, kwargs[argument.name]) for argument in schema.arguments if argument.name in kwargs]
        written = [
            tensor
            for argument, value in named
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tree_leaves(value)
        ]
        for tensor in written:
            if _memory(tensor) not in self.own:
                self.overwritten.setdefault(_memory(tensor), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        given = {_memory(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, th.Tensor)}
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, th.Tensor)]
        new = [leaf for leaf in made if _memory(leaf) not in given]
        self.own.update(map(_memory, new))
        if new or written:
            self.steps.append((func, args, kwargs, made if new else [], th.is_grad_enabled()))
        return result

    def play(self) -> None:
        with th._C._AutoDispatchBelowAutograd():  # where they were written down
            for func, args, kwargs, made, learning in self.steps:
                with th.set_grad_enabled(learning):  # some operations look whether gradients are on
                    again = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, th.Tensor)]
                for tensor, value in zip(made, again, strict=bool(made)):
                    tensor.copy_(value)


def _memory(tensor: th.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
