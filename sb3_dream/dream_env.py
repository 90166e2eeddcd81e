"""``DreamEnv``: a learned world model as a Gymnasium environment, to play, to plan or to train in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_wrapper

from sb3_dream.model_files import load_policy
from sb3_dream.observations import Raw, to_frames, to_raw
from sb3_dream.policies import DreamPolicy
from sb3_dream.random_streams import RandomStream
from sb3_dream.replay import SequenceReplayBuffer
from sb3_dream.spaces import IMAGE, Observation
from sb3_dream.world_models.base import State

_EPISODES = 100
_PIXELS = 320


class DreamState(NamedTuple):
    """Where a dream is; see :meth:`DreamEnv.get_state`.

    :param state: the world model's state
    :param steps: since the beginning of the dream
    :param generator: state of the environment's NumPy generator
    :param stream: state of its PyTorch random numbers
    """

    state: State | None
    steps: int
    generator: Mapping[str, Any]
    stream: dict[str, NDArray[Any]]


class DreamEnv(gym.Env[Any, Any]):
    """
    Every step is imagined. An episode ends with the probability that the model gives to it. ``action_masks()`` exists
    where the model has learned masks, and says what it believes to be allowed. Seeded like any environment.

    A dream starts from one of ``start_observations``, as the first of an episode; or from a random place of one of
    the newest episodes in ``replay``, with what the agent remembered there.

    :param model: a trained DREAM, its policy, or a file that ``DREAM.save`` wrote
    :param start_observations: observations as the environment gives them, N of them side by side (a dictionary of
        such arrays for a Dict space; images with their channels first)
    :param replay: where to take starts from otherwise; that of ``model`` when None
    :param horizon: steps after which a dream is truncated; None for never
    :param render_mode: None, or ``"rgb_array"`` for a picture of the observation
    :raises ValueError: if there is nothing to start from, or the observations are not of the model's space
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in gym.Env)

    def __init__(
        self,
        model: Any,
        start_observations: Raw | None = None,
        replay: SequenceReplayBuffer | None = None,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is None or 'rgb_array', not {render_mode!r}")
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon is a number of steps, at least 1, or None, not {horizon!r}")
        self.policy = _policy(model)
        self.observation_space = self.policy.observation_space
        self.action_space = self.policy.action_space
        self.horizon, self.render_mode = horizon, render_mode
        replay = replay or getattr(model, "replay_buffer", None)
        if start_observations is None and (replay is None or replay.n_rows == 0):
            raise ValueError("a dream needs a start: give start_observations, or a replay buffer that is not empty")
        self._starts = None if start_observations is None else self._checked(start_observations)
        self._replay = replay
        if self.policy.mask_size is not None:
            self.action_masks = self._action_masks
        self._state: State | None = None
        self._stream = RandomStream(self.policy.device, 0)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        :param seed: of the starts and of all that happens in the dream
        :param options: not used
        :return: the observation that the dream starts from, and an empty dictionary
        """
        super().reset(seed=seed)
        if seed is not None or self._state is None:
            self._stream = RandomStream(self.policy.device, int(self.np_random.integers(2**31)))
        self._steps = 0
        observation, memory = self._draw_start()
        with self._dreaming(), th.no_grad():
            self._state = self.policy.world_model.perceive(memory, observation)
        return self._row(observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """
        :param action: of the action space
        :return: what the model imagines; ``info["continues"]`` is the probability that the episode went on
        :raises ValueError: for an action outside of the action space
        :raises ResetNeeded: before the first reset
        """
        if not self.action_space.contains(action):
            raise ValueError(f"{action} is no action of {self.action_space}")
        state, encoded, model = self._now(), self._encode(action), self.policy.world_model
        with self._dreaming(), th.no_grad():
            arrived = model.step(state, encoded)
            outcome = model.outcome(state, encoded, arrived)
            observation = self._row(model.reconstruct(arrived))
        self._state, self._steps = arrived, self._steps + 1
        continues = float(outcome.continues)
        terminated = bool(self.np_random.random() >= continues)
        truncated = self.horizon is not None and self._steps >= self.horizon
        return observation, float(outcome.reward), terminated, truncated, {"continues": continues}

    def _action_masks(self) -> NDArray[np.bool_]:
        """
        :return: (K,) bool, the actions that the model believes to be allowed now
        """
        with th.no_grad():
            mask = self.policy.world_model.action_mask(self._now())
        assert mask is not None
        return mask[0].cpu().numpy()

    def get_state(self) -> DreamState:
        """
        :return: where the dream is, for :meth:`set_state`: after it, the same actions have the same consequences
        """
        return DreamState(self._state, self._steps, self.np_random.bit_generator.state, self._stream.get_state())

    def set_state(self, state: DreamState) -> None:
        """
        :param state: what :meth:`get_state` returned
        """
        self._state, self._steps = state.state, state.steps
        self.np_random.bit_generator.state = state.generator
        self._stream.set_state(state.stream)

    def render(self) -> NDArray[np.uint8] | None:
        """
        :return: (rows, columns, 3) a picture of the observation: its image, its grid, or a strip with its values
        """
        if self.render_mode is None:
            gym.logger.warn("DreamEnv was made without a render_mode: nothing is rendered")
            return None
        with th.no_grad():
            observation = self.policy.world_model.reconstruct(self._now())
        frame = to_frames(self.policy.observation_spec, observation)[0]
        frame = frame[None] if frame.ndim == 1 else frame
        if not self.policy.observation_spec.image_shapes:
            low, high = min(0.0, float(frame.min())), max(1.0, float(frame.max()))
            frame = (frame - low) / (high - low)
        zoom = max(1, _PIXELS // max(frame.shape[:2]))
        pixels = np.rint(255 * np.clip(frame, 0, 1)).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)

    # ------------------------------------------------------------------ inside

    def _now(self) -> State:
        if self._state is None:
            raise ResetNeeded("call reset() before the first step")
        return self._state

    def _dreaming(self) -> Any:
        self.policy.set_training_mode(False)
        return self._stream.use()

    def _encode(self, action: Any) -> th.Tensor:
        space = self.action_space
        if isinstance(space, spaces.Box):
            stored = self.policy.scale_action(action)
        else:
            stored = np.asarray(action) - getattr(space, "start", 0)
        return self.policy.action_spec.encode(th.as_tensor(stored, device=self.policy.device).reshape(1, -1))

    def _row(self, observation: Observation) -> Any:
        """As the environment gives it; ``observation`` is encoded, each tensor (1, ...)."""
        raw = to_raw(self.policy.observation_spec, observation)
        return {key: part[0] for key, part in raw.items()} if isinstance(raw, dict) else raw[0]

    def _draw_start(self) -> tuple[Observation, th.Tensor]:
        """An encoded observation, each tensor (1, ...), and the memory before it, (1, M)."""
        if self._starts is not None:
            index = int(self.np_random.integers(len(next(iter(self._starts.values())))))
            rows = {key: part[index : index + 1] for key, part in self._starts.items()}
            raw = rows if isinstance(self.observation_space, spaces.Dict) else rows[IMAGE]
            tensors, _ = self.policy.obs_to_tensor(raw)
            return self.policy.encode(tensors), self.policy.world_model.initial_memory(1)
        assert self._replay is not None
        episodes = self._replay.newest_episodes(_EPISODES)
        if not episodes:
            raise ValueError("the replay buffer holds no whole episode to start from")
        ring, first, length = episodes[int(self.np_random.integers(len(episodes)))]
        place = first + int(self.np_random.integers(length - 1))
        row = self.policy.encode_sequences(self._replay.read_rows(ring, place, 1))  # (1, 1, ...)
        device = self.policy.device
        return {key: part[0].to(device) for key, part in row.observation.items()}, row.memory.to(device)

    def _checked(self, observations: Raw) -> dict[str, NDArray[Any]]:
        given = observations if isinstance(observations, dict) else {IMAGE: observations}
        parts = {key: np.asarray(part) for key, part in given.items()}
        known = self.policy.observation_spec.parts
        if parts.keys() != known.keys() or isinstance(observations, dict) != isinstance(
            self.observation_space, spaces.Dict
        ):
            raise ValueError(
                f"start_observations must be an array, or for a Dict space one for each key, {list(known)}"
            )
        counts = {len(part) if part.ndim else 0 for part in parts.values()}
        if len(counts) != 1 or counts == {0}:
            raise ValueError("start_observations hold N observations side by side, at least one")
        for index in range(counts.pop()):
            row = {key: part[index] for key, part in parts.items()}
            for key, space in known.items():
                if not space.contains(row[key]):
                    raise ValueError(f"start observation {index} is not of {space}: {row[key]}")
        return parts


def _policy(model: Any) -> DreamPolicy:
    if isinstance(model, (str, os.PathLike)):
        return load_policy(model)
    policy = getattr(model, "policy", model)
    if not isinstance(policy, DreamPolicy):
        raise TypeError(f"expected a DREAM, a DreamPolicy or a path to a saved DREAM, not {model!r}")
    env = None if policy is model else model.get_env()
    normalizer = None if env is None else unwrap_vec_wrapper(env, VecNormalize)
    if normalizer is not None and normalizer.norm_obs:
        raise ValueError("this model learned from observations normalised by VecNormalize: it dreams of those alone")
    return policy
