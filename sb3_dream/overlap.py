"""Updates while the environments step, for environments whose steps take time in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class Overlapped(VecEnvWrapper):
    """
    Environments that something else is done beside, in every step.

    :param venv: environments; only those of ``SubprocVecEnv`` and the like step while this process works
    :param meanwhile: what to do between a step's beginning and its end
    """

    def __init__(self, venv: VecEnv, meanwhile: Callable[[], None]) -> None:
        super().__init__(venv)
        self._meanwhile = meanwhile

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: (num_envs, ...) for the environments
        """
        self.venv.step_async(actions)
        try:
            self._meanwhile()
        except BaseException:
            with suppress(EOFError, ConnectionError):  # of processes that the same Ctrl-C has ended
                self.venv.step_wait()  # or the next reset would be answered with what this step led to
            raise

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: observations, rewards, dones and infos
        """
        return self.venv.step_wait()

    def reset(self) -> VecEnvObs:
        """
        :return: the first observations
        """
        return self.venv.reset()
