"""Stopping a command with Ctrl-C, or with the signal that ends a job on a cluster, so that nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_dream.nn.collectives import Agreement


class StopSignal:
    """
    What a signal does: at first it raises ``KeyboardInterrupt``; during training it waits for the end of a step, unless
    it comes twice; while something is saved it waits for that.
    """

    def __init__(self) -> None:
        self.received = False
        self._patient = False
        self._ignored = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """In this block, ``StopBetweenSteps`` acts on the first signal."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """In this block, signals are only noted."""
        self._ignored = True
        try:
            yield
        finally:
            self._ignored = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received, True
        if self._ignored:
            print("Stopping when all is saved.", flush=True)
        elif self._patient and not again:
            print("Stopping after this step; once more: at once.", flush=True)
        else:
            raise KeyboardInterrupt


class StopBetweenSteps(BaseCallback):
    """
    Ends training after a signal, where the model is whole: for off-policy algorithms before a new rollout, so that the
    last step is in the replay buffer and a model that can resume exactly does. Several ranks stop at the same step.

    :param stop: tells whether there was a signal
    """

    def __init__(self, stop: StopSignal) -> None:
        super().__init__()
        self._stop = stop
        self._any_rank_stops = Agreement()

    def _on_rollout_start(self) -> None:
        if self._any_rank_stops(self._stop.received):
            self._stop.received = True
            raise KeyboardInterrupt

    def _on_step(self) -> bool:
        if self._stop.received and not isinstance(self.model, OffPolicyAlgorithm):
            raise KeyboardInterrupt
        return True
