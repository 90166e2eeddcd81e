"""``ModelErrorCallback``: measures, while DREAM trains, whether the dream is true."""

from __future__ import annotations

import math

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Image, TensorBoardOutputFormat
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, sync_envs_normalization

from sb3_dream.diagnostics import model_error, open_loop
from sb3_dream.held_out import newest_episodes, play_episodes
from sb3_dream.policies import DreamPolicy
from sb3_dream.replay import SequenceReplayBuffer, SequenceSamples


class ModelErrorCallback(BaseCallback):
    """
    Logs what :func:`~sb3_dream.diagnostics.model_error` measures, as ``train/model_error``, ``train/model_error_15``,
    ``train/reward_explained_variance`` and so on, and, in TensorBoard, the open-loop prediction of one episode beside
    the truth as ``train/open_loop``. What training draws at random is not disturbed.

    :param eval_freq: environment steps between two measurements
    :param eval_env: play episodes in these environments to measure on. None for the newest complete episodes of
        training: they cost nothing, but the model may have begun to learn from them
    :param rows: of episodes to measure on, about
    :param horizon: steps of the long prediction
    :param context: rows that warm the memory up before anything is judged
    :param verbose: 1 to print the errors, too
    """

    def __init__(
        self,
        eval_freq: int = 5_000,
        eval_env: GymEnv | None = None,
        rows: int = 1_000,
        horizon: int = 15,
        context: int = 5,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        for name, value in {"eval_freq": eval_freq, "rows": rows, "horizon": horizon, "context": context}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.eval_freq, self.rows, self.horizon, self.context = eval_freq, rows, horizon, context
        self.eval_env = (
            eval_env if eval_env is None or isinstance(eval_env, VecEnv) else DummyVecEnv([lambda: eval_env])
        )
        self._measured = 0

    def _on_training_start(self) -> None:
        self._measured = self.num_timesteps // self.eval_freq

    def _on_step(self) -> bool:
        due = self.num_timesteps // self.eval_freq
        if due > self._measured and self.model._n_updates > 0:
            samples = self._held_out()
            if samples is not None:
                self._measured = due
                self._measure(samples)
        return True

    def _held_out(self) -> SequenceSamples | None:
        normalizer = self.model.get_vec_normalize_env()
        if self.eval_env is None:
            replay = self.model.replay_buffer  # type: ignore[attr-defined]
            assert isinstance(replay, SequenceReplayBuffer)
            return newest_episodes(replay, self.rows, normalizer=normalizer)
        if normalizer is not None:
            if not isinstance(self.eval_env, VecNormalize):
                raise ValueError("training is behind VecNormalize: wrap eval_env in VecNormalize, too")
            sync_envs_normalization(self.training_env, self.eval_env)
        return play_episodes(self._policy, self.eval_env, self.rows, seed=self.num_timesteps)

    @property
    def _policy(self) -> DreamPolicy:
        assert isinstance(self.model.policy, DreamPolicy)
        return self.model.policy

    def _measure(self, samples: SequenceSamples) -> None:
        errors = model_error(self._policy, samples, self.horizon, self.context)
        known = {name: value for name, value in errors.items() if math.isfinite(value)}
        for name, value in known.items():
            self.logger.record(f"train/{name}", value)
        if self.verbose:
            print(f"After {self.num_timesteps} steps: " + ", ".join(f"{k} {v:.3g}" for k, v in known.items()))
        longest = int(samples.valid.sum(1).argmax())
        can_show = any(isinstance(output, TensorBoardOutputFormat) for output in self.logger.output_formats)
        if can_show and int(samples.valid[longest].sum()) > self.context:
            self.logger.record(
                "train/open_loop",
                Image(self._picture(samples, longest), "HWC"),
                exclude=("stdout", "log", "json", "csv"),
            )

    def _picture(self, samples: SequenceSamples, index: int) -> np.ndarray:
        from sb3_dream.plots import figure_to_image, plot_open_loop  # matplotlib: seconds, and seldom needed

        truth, prediction = open_loop(self._policy, samples, self.context, self.horizon, index)
        return figure_to_image(plot_open_loop(truth, prediction, self.context))


def with_model_error(callback: MaybeCallback) -> MaybeCallback:
    """
    :param callback: what ``learn`` was given
    :return: the same with a :class:`ModelErrorCallback` of default settings at the end, unless it holds one already
    """
    if _measures(callback):
        return callback
    if callback is None:
        return ModelErrorCallback()
    if isinstance(callback, list):
        return [*callback, ModelErrorCallback()]
    given = callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)
    return CallbackList([given, ModelErrorCallback()])


def _measures(callback: MaybeCallback) -> bool:
    nested = callback if isinstance(callback, list) else getattr(callback, "callbacks", [])
    return isinstance(callback, ModelErrorCallback) or any(_measures(each) for each in nested)
