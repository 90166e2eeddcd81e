"""A callback, for hyperparameter files, that stops training as a user does."""

import os
import signal
from typing import ClassVar

from stable_baselines3.common.callbacks import BaseCallback


class StopAt(BaseCallback):
    """
    Sends this process the signal of Ctrl-C, once and again, as impatient users do.

    :param step: the number of steps after which it does
    """

    enabled: ClassVar[bool] = True

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.enabled and self.num_timesteps >= self.step:
            os.kill(os.getpid(), signal.SIGINT)
        return True


class FailAt(BaseCallback):
    """
    Raises what a full disk raises.

    :param step: the number of steps after which it does
    """

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.step:
            raise OSError(28, "No space left on device")
        return True
