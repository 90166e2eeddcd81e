"""What DREAM asks of environments: finding them by name, their action masks and their observation's layout."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

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
    from importlib.metadata import entry_points

    for entry_point in entry_points(group="gymnasium.envs"):
        announced = entry_point.load()
        if callable(announced):
            announced()
    return env_id in gym.registry


def resolve_arguments(
    policy: Any, env: Any, aliases: dict[str, type[BasePolicy]], verbose: int = 0
) -> tuple[str | type[BasePolicy], Any]:
    """Sort out ``DREAM(env)`` and ``DREAM("MlpPolicy", env)``.

    :param policy: policy name or class; or an environment or its id when ``env`` is None
    :param env: environment, id, or None
    :param aliases: the policy names
    :param verbose: SB3's verbosity
    :return: the policy and the environment, made if it was an id
    :raises ValueError: when a name is neither a policy nor an environment
    """
    is_policy = policy in aliases if isinstance(policy, str) else isinstance(policy, type)
    if env is None and not is_policy:
        env, policy = policy, None
    elif not is_policy:
        raise ValueError(f"unknown policy {policy!r}: expected one of {', '.join(aliases)}, or a policy class")
    if isinstance(env, str):
        if not ensure_registered(env):
            raise ValueError(f"{env!r} is neither a policy ({', '.join(aliases)}) nor a registered environment id")
        env = maybe_make_env(env, verbose)
    if policy is None:
        if not hasattr(env, "observation_space"):
            raise ValueError(f"expected a policy, an environment or an environment id, not {env!r}")
        space = env.observation_space
        images = is_image_space(space)
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy" if images else "MlpPolicy"
    return policy, env


def observation_layout(env: VecEnv | None) -> dict[str, Any] | None:
    """
    :param env: the training environments
    :return: what they say of their flat observation, or None
    """
    if env is None or not env.has_attr(LAYOUT):
        return None
    return env.get_attr(LAYOUT)[0]


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


def action_masks(env: VecEnv) -> np.ndarray:
    """
    :return: (n_envs, K) bool
    """
    return np.stack(env.env_method(MASKS)).astype(bool).reshape(env.num_envs, -1)
