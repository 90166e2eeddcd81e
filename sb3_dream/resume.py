"""Stopping and going on: what an algorithm saves beside its parameters, so that a resumed run is the run itself.

On a CPU, ``learn(a)`` and ``save_checkpoint``, or ``save`` and ``save_replay_buffer``; in another process
``load_checkpoint``, or ``load`` and ``load_replay_buffer``, and ``learn(b, reset_num_timesteps=False)``: the parameters
are bit for bit those of a run that was never stopped. All random streams, the recurrent memory and, where they can be
(see :mod:`sb3_dream.env_snapshots`), the environments in the middle of their episodes go on from where they were. Other
environments are reset and their episodes cut.

The streams are those of the process, so they are only touched when such a ``learn`` starts, never by ``load``. A file
saved by a callback in ``_on_step``, that is in the middle of a step, has no middle of an episode to go on from: save
in ``_on_rollout_start``, or between two ``learn``, to resume exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream.distributed import start_together
from sb3_dream.dreams import Dreams
from sb3_dream.env_snapshots import restore_snapshot, take_snapshot
from sb3_dream.environments import require_finite_step, require_masks
from sb3_dream.model_files import ModelPath
from sb3_dream.nn.collectives import Agreement
from sb3_dream.random_streams import RandomStream, global_state, set_global_state
from sb3_dream.replay import SequenceReplayBuffer
from sb3_dream.saved_algorithm import SavedAlgorithm
from sb3_dream.stored_settings import told

Observations = np.ndarray | dict[str, np.ndarray]


@dataclass
class Playing:
    """Where the agent is in its environments.

    :param observations: the current ones, one for each environment
    :param original_observations: the same before ``VecNormalize``
    :param episode_starts: (n_envs,) whether they are first ones
    :param memory: (n_envs, M) the world model's memory before them
    :param environments: see :func:`~sb3_dream.env_snapshots.take_snapshot`
    """

    observations: Observations
    original_observations: Observations | None
    episode_starts: np.ndarray
    memory: np.ndarray
    environments: str


@dataclass
class Pause:
    """Where a run stood when it was saved, beyond parameters, optimisers, counters and replay.

    :param training_stream: see :class:`~sb3_dream.random_streams.RandomStream`
    :param global_streams: see :func:`~sb3_dream.random_streams.global_state`
    :param normalizer: the moving statistics of ``VecNormalize``
    :param dreams: see :meth:`~sb3_dream.dreams.Dreams.get_state`
    :param playing: where the agent was, or None if the environments have to be reset
    """

    training_stream: dict[str, np.ndarray]
    global_streams: dict[str, Any]
    normalizer: dict[str, Any]
    dreams: dict[str, np.ndarray]
    playing: Playing | None


class ResumableAlgorithm(SavedAlgorithm):
    """An off-policy algorithm that learns from sequences with a recurrent policy, and resumes exactly."""

    replay_buffer: SequenceReplayBuffer
    replay_buffer_class: type[SequenceReplayBuffer] | None
    _stream: RandomStream
    _dreams: Dreams

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memory: th.Tensor | None = None  # (n_envs, M) before the current observations
        self._mid_step = False  # between an action and the storing of its consequences
        self._pause: Pause | None = None  # of the file that this was loaded from
        self._rank = 0  # of the process whose random streams these are
        self._any_rank_stops = Agreement()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_memory", "_mid_step", "_stream", "_dreams", "_any_rank_stops"]

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        :param seed: of Python, NumPy, PyTorch, the spaces, the environments and training's own stream; None for
            training to draw its own from PyTorch's global stream
        """
        super().set_random_seed(seed)
        if seed is None:
            seed = int(th.randint(2**31, ()))
        self._stream = RandomStream(self.device, seed)

    # -------------------------------------------------------------------- files

    def save(self, path: ModelPath, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """See :meth:`SavedAlgorithm.save`."""
        before = self._pause
        self._pause = before or self._take_pause()
        try:
            super().save(path, exclude, include)
        finally:
            self._pause = before

    # ------------------------------------------------------------- environments

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        :param env: environments to go on in; their number may be another
        :param force_reset: reset them before training
        """
        env = self._wrap_env(env, self.verbose)
        check_for_correct_spaces(env, self.observation_space, self.action_space)
        if env.num_envs != self.n_envs:
            self.replay_buffer.resize_envs(env.num_envs)
            self.n_envs = env.num_envs
            force_reset = True
        super().set_env(env, force_reset)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """
        See the base class; a step in which a callback says stop is stored like any other.

        :raises RuntimeError: if the process of an environment died
        """
        try:
            rollout = super().collect_rollouts(env, callback, *args, **kwargs)
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(
                f"an environment's process died, or its connection broke, at step {self.num_timesteps} ({error!r}): "
                "was it killed, or out of memory? What was learned can be saved, to go on with new environments"
            ) from error
        if not rollout.continue_training:
            step = callback.locals
            self._update_info_buffer(step["infos"], step["dones"])
            self._episode_num += int(np.sum(step["dones"]))
            self._store_transition(
                *(step[k] for k in ("replay_buffer", "buffer_actions", "new_obs", "rewards", "dones", "infos"))
            )
        return rollout._replace(continue_training=not self._any_rank_stops(not rollout.continue_training))

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError("no environment to learn in: pass one to load(), or call set_env()")
        require_masks(self.env, self.policy.mask_size)
        total_timesteps = start_together(self, total_timesteps)
        pause, self._pause = self._pause, None
        if self._mid_step:  # an exception ended the last learn(): nobody knows what the environments did since
            self._last_obs = None
            self._mid_step = False
        if isinstance(self.action_noise, VectorizedActionNoise) and self.action_noise.n_envs != self.n_envs:
            self.action_noise = self.action_noise.base_noise
        reset = reset_num_timesteps or self._last_obs is None
        noise = deepcopy(self.action_noise)  # which the base class begins anew
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        require_finite_step(self._last_obs, np.zeros(self.n_envs), [], self.num_timesteps)
        resumed = pause is not None and not reset_num_timesteps and self._try_to_go_on(pause)
        if not resumed and (reset or self._memory is None):
            self.replay_buffer.truncate_last_trajectory()
            self._memory = self.policy.world_model.initial_memory(self.n_envs)
        if resumed or not reset:
            self.action_noise = noise
        return result

    # -------------------------------------------------------------------- pause

    def _take_pause(self) -> Pause | None:
        if self.env is None or self.num_timesteps == 0:
            return None
        playing = None
        if self._last_obs is not None and self._memory is not None and not self._mid_step:
            environments = take_snapshot(self.env)
            if environments is not None:
                assert self._last_episode_starts is not None
                playing = Playing(
                    self._last_obs,
                    self._last_original_obs,
                    self._last_episode_starts,
                    self._memory.cpu().numpy(),
                    environments,
                )
        statistics = ("obs_rms", "ret_rms")
        known = {} if self._vec_normalize_env is None else vars(self._vec_normalize_env)
        normalizer = {name: known[name] for name in statistics if name in known}
        return Pause(self._stream.get_state(), global_state(self.device), normalizer, self._dreams.get_state(), playing)

    def _try_to_go_on(self, pause: Pause) -> bool:
        try:
            return self._go_on(pause)
        except Exception as error:  # whatever the file of another version, or an edited one, may lead to
            raise ValueError(
                f"these environments, or this version, cannot go on from where the saved run stood: {told(error)}. "
                "learn() with reset_num_timesteps=True begins a new run"
            ) from error

    def _go_on(self, pause: Pause) -> bool:
        """
        :param pause: of the saved run
        :return: whether the environments go on in the middle of their episodes
        """
        assert self.env is not None
        playing = pause.playing
        resumed = playing is not None and restore_snapshot(self.env, playing.environments)
        if resumed:
            assert playing is not None
            self._last_obs, self._last_original_obs = playing.observations, playing.original_observations
            self._last_episode_starts = playing.episode_starts
            self._memory = th.as_tensor(playing.memory, device=self.device)
            expected = self.policy.world_model.initial_memory(self.n_envs).shape
            if self._memory.shape != expected or np.shape(playing.episode_starts) != (self.n_envs,):
                raise ValueError(f"its memory is of shape {tuple(self._memory.shape)}, not {tuple(expected)}")
            self.policy.obs_to_tensor(playing.observations)  # or it says what they should be
        normalizer = self._vec_normalize_env
        if normalizer is not None and pause.normalizer:
            vars(normalizer).update(pause.normalizer)
            if not resumed:
                assert self._last_original_obs is not None
                self._last_obs = normalizer.normalize_obs(self._last_original_obs)
        self._dreams.set_state(pause.dreams, self.device)
        self._stream.set_state(pause.training_stream)
        set_global_state(pause.global_streams, self.device)
        return resumed
