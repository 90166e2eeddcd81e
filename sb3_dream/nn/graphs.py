"""Functions of tensors that a GPU repeats by itself, without being told each operation again.

An update of a small network is thousands of operations, each of which takes a GPU less time than a processor takes to
start it. A CUDA graph holds them all, with the addresses of what they read and write, and is started as one (Nguyen,
Carilli, Eryilmaz et al. 2021, *Accelerating PyTorch with CUDA Graphs*).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch as th
from torch.utils._pytree import tree_flatten, tree_unflatten

Result = TypeVar("Result")
Record = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]
"""Takes a function; returns what it returns, and what makes everything that it did to tensors happen again."""

_FIRST_CALLS = 3  # during which libraries choose their kernels and allocate, which a recording must not do
_MOST = 32  # recordings, each with memory of its own; shapes beyond those seldom occur


class Recording(NamedTuple):
    """
    :param inputs: those of the function, whose tensors it reads from
    :param result: what the function returned, into which it writes
    :param repeat: makes it happen again
    """

    inputs: list[Any]
    result: Any
    repeat: Callable[[], None]


class Graphs:
    """
    Calls functions, and records each at its fourth call with inputs of one shape.

    What is recorded must not depend on anything but its tensors: those it is given, and others that stay where they
    are, as parameters and buffers do. Python does not run again: attributes and branches are those of the recording.

    :param record: how to record, see :func:`record_cuda`; None to only call
    """

    def __init__(self, record: Record | None) -> None:
        self._record = record
        self._calls: Counter[Any] = Counter()
        self._recordings: dict[Any, Recording] = {}

    def run(self, function: Callable[..., Result], *inputs: Any) -> Result:
        """
        :param function: of tensors, in nested tuples, lists and dictionaries if need be; what else there is among the
            inputs is part of what is recorded
        :return: what it returns: the same tensors at each call once it is recorded, so valid until the next call only
        """
        if self._record is None:
            return function(*inputs)
        leaves, form = tree_flatten(inputs)
        looks = ((leaf.shape, leaf.dtype) if isinstance(leaf, th.Tensor) else leaf for leaf in leaves)
        key = (function.__qualname__, form, *looks)
        recording = self._recordings.get(key)
        if recording is None:
            self._calls[key] += 1
            if self._calls[key] <= _FIRST_CALLS or len(self._recordings) >= _MOST:
                return function(*inputs)
            given = [leaf.clone() if isinstance(leaf, th.Tensor) else leaf for leaf in leaves]
            try:
                result, repeat = self._record(lambda: function(*tree_unflatten(given, form)))
            except RuntimeError as error:
                warnings.warn(f"goes on without CUDA graphs: one could not be recorded ({error})", stacklevel=2)
                self._record, self._recordings = None, {}
                return function(*inputs)
            recording = self._recordings[key] = Recording(given, result, repeat)
        for own, leaf in zip(recording.inputs, leaves, strict=True):
            if isinstance(leaf, th.Tensor):
                own.copy_(leaf)
        recording.repeat()
        return recording.result


def recorder(device: th.device) -> Record | None:
    """
    :return: what records functions of tensors on the device; None, and a warning, where nothing does
    """
    if device.type != "cuda":
        warnings.warn(f"cuda_graphs=True changes nothing: the device is {device.type}", stacklevel=2)
        return None
    return record_cuda


def record_cuda(function: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
    """
    :param function: of tensors on a GPU; nothing of it is executed, it is recorded alone
    :return: what it returns, not computed yet, and what computes it
    :raises RuntimeError: if it does what cannot be recorded, such as to wait for a number
    """
    graph = th.cuda.CUDAGraph()
    with th.cuda.graph(graph):
        result = function()
    return result, graph.replay
