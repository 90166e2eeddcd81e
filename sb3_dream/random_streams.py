"""Random numbers: a stream of PyTorch's that only training draws from, and the state of all streams of the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th


class RandomStream:
    """
    PyTorch's random numbers for one purpose alone. What is drawn while it is in use leaves the numbers that others get
    untouched, and what others draw leaves its own untouched: so predicting, evaluating and plotting during training
    cannot change what is learned.

    :param device: on which numbers are drawn, beside the CPU
    :param seed: where the stream begins
    """

    def __init__(self, device: th.device, seed: int) -> None:
        self.device = device
        with self._aside():
            # not the seed itself: the networks have been initialised with its numbers
            seed = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
            th.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with th.cuda.device(device):
                    th.cuda.manual_seed(seed)
            self._state = torch_state(device)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Draw from this stream inside the ``with`` block."""
        with self._aside():
            set_torch_state(self._state, self.device)
            try:
                yield
            finally:
                self._state = torch_state(self.device)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        before = torch_state(self.device)
        try:
            yield
        finally:
            set_torch_state(before, self.device)

    def get_state(self) -> dict[str, np.ndarray]:
        """:return: where the stream is, as plain arrays"""
        return {name: state.numpy() for name, state in self._state.items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """
        :param state: what :meth:`get_state` returned; what is missing, because the device was another, stays as it is
        """
        self._state |= {name: th.from_numpy(state[name].copy()) for name in self._state if name in state}


def torch_state(device: th.device) -> dict[str, th.Tensor]:
    """
    :return: PyTorch's default generators: the CPU's, and the CUDA device's where that is the device
    """
    state = {"cpu": th.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = th.cuda.get_rng_state(device)
    return state


def set_torch_state(state: dict[str, th.Tensor], device: th.device) -> None:
    """
    :param state: what :func:`torch_state` returned
    :param device: the same device
    """
    th.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        th.cuda.set_rng_state(state["cuda"], device)


def global_state(device: th.device) -> dict[str, Any]:
    """
    :return: where the global streams of Python, NumPy and PyTorch are, as plain values
    """
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": {name: state.numpy() for name, state in torch_state(device).items()},
    }


def set_global_state(state: dict[str, Any], device: th.device) -> None:
    """
    :param state: what :func:`global_state` returned
    :param device: the device in use now
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    set_torch_state({name: th.from_numpy(array.copy()) for name, array in state["torch"].items()}, device)
