"""What DREAM asks of environments: finding them by name, action masks, the observation's layout, finite numbers."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import namespace
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_wrapper

from sb3_dream.spaces import ActionSpec

MASKS = "action_masks"
LAYOUT = "observation_layout"


def ensure_registered(env_id: str) -> bool:
    """
    :param env_id: Gymnasium id, ``module:id`` included
    :return: whether the id is known, after loading the packages that announce environments if need be
    """
    if ":" in env_id or env_id in gym.registry:
        return True
    # Gymnasium 1.x no longer loads the entry points of the group "gymnasium.envs" by itself
    for entry_point in entry_points(group="gymnasium.envs"):
        with nullcontext() if entry_point.name == "__root__" else namespace(entry_point.name):
            try:
                announced = entry_point.load()
                if callable(announced):
                    announced()
            except Exception as error:  # somebody else's package must not stand in the way
                warnings.warn(f"the environments of {entry_point.value} cannot be loaded: {error!r}", stacklevel=2)
    return env_id in gym.registry


def observation_layout(env: VecEnv | None) -> dict[str, Any] | None:
    """
    :param env: the training environments
    :return: what they say of their flat observation, or None
    """
    if env is None or not env.has_attr(LAYOUT):
        return None
    layout = env.get_attr(LAYOUT)[0]
    normalizer = unwrap_vec_wrapper(env, VecNormalize)
    if layout is not None and normalizer is not None and normalizer.norm_obs:
        return {key: value for key, value in layout.items() if key == "grids"}  # what is normalised is binary no more
    return layout


def action_mask_size(env: VecEnv | None, use_masking: bool | str, action_space: spaces.Space) -> int | None:
    """
    :param env: the training environments
    :param use_masking: True, False, or ``"auto"`` for wherever the environment has ``action_masks()``
    :param action_space: the environments' action space
    :return: number of mask bits, or None without masks
    :raises ValueError: when masks are demanded and there are none
    """
    if use_masking not in (True, False, "auto"):
        raise ValueError(f"use_masking is True, False or 'auto', not {use_masking!r}")
    if env is None or use_masking is False or isinstance(action_space, spaces.Box):
        if use_masking is True and env is not None:
            raise ValueError("use_masking=True needs discrete actions")
        return None
    if not env.has_attr(MASKS):
        if use_masking is True:
            raise ValueError("use_masking=True, but the environment has no method action_masks()")
        return None
    return sum(ActionSpec(action_space).choices)


def require_masks(env: VecEnv, mask_size: int | None) -> None:
    """
    :param env: the training environments
    :param mask_size: number of mask bits that the model has learned with, or None
    :raises ValueError: if it has, and the environments have none
    """
    if mask_size is not None and not env.has_attr(MASKS):
        raise ValueError("the model learns with action masks, but these environments have no method action_masks()")


def action_masks(env: VecEnv, spec: ActionSpec) -> np.ndarray:
    """
    :param spec: what the actions are
    :return: (n_envs, K) bool
    :raises ValueError: if they have another size, or if nothing is allowed
    """
    masks = np.stack(env.env_method(MASKS)).astype(bool).reshape(env.num_envs, -1)
    if masks.shape[1] != sum(spec.choices):
        raise ValueError(f"action_masks() has {masks.shape[1]} entries for {sum(spec.choices)} choices of {spec.space}")
    allowed = np.logical_or.reduceat(masks, np.cumsum((0, *spec.choices[:-1])), axis=1).all(1)
    if not allowed.all():
        raise ValueError(f"action_masks() of environment {int(np.argmin(allowed))} allows no action at all")
    return masks


def require_finite_step(
    observations: np.ndarray | dict[str, np.ndarray] | None, rewards: np.ndarray, infos: list[dict[str, Any]], step: int
) -> None:
    """
    :param observations: what the environments returned, (n_envs, ...)
    :param rewards: (n_envs,)
    :param infos: with the last observations of the episodes that ended
    :param step: environment steps so far
    :raises ValueError: if anything is NaN or infinite, before it reaches the replay buffer
    """
    values = [("reward", None, rewards), *_parts(None, observations)]
    for i, info in enumerate(infos):
        if "terminal_observation" in info:
            last = info["terminal_observation"]
            values += _parts(i, np.nan if last is None else last)
    for name, env_index, value in values:
        if np.issubdtype(np.asarray(value).dtype, np.floating) and not np.isfinite(value).all():
            index = int(np.argwhere(~np.isfinite(value))[0][0]) if env_index is None else env_index
            raise ValueError(f"environment {index} returned NaN or infinity in its {name} at step {step}")


def _parts(env_index: int | None, observation: Any) -> list[tuple[str, int | None, Any]]:
    if isinstance(observation, dict):
        return [(f"observation[{key!r}]", env_index, part) for key, part in observation.items()]
    return [("observation", env_index, observation)]
