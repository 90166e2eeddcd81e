"""What DREAM's constructor accepts: the environment in place of a policy, and hyperparameters within their bounds."""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space

from sb3_dream.environments import ensure_registered

_COUNTS = {  # name: smallest value
    "buffer_size": 2,
    "learning_starts": 0,
    "batch_size": 1,
    "sequence_length": 2,
    "reward_batch_size": 0,
    "model_warmup": 0,
    "policy_delay": 1,
    "imagination_horizon": 1,
    "imagination_starts": 1,
    "n_epochs": 1,
    "n_minibatches": 1,
    "target_update_interval": 1,
    "epsilon_decay": 1,
}
_SHARES = ("reward_fraction", "gamma", "gae_lambda", "tau", "epsilon_start", "epsilon_end")
_POSITIVE = ("train_ratio", "clip_range", "max_grad_norm")
_GRADIENTS = ("score", "dynamics")


def resolve_environment(
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
            close = difflib.get_close_matches(env, [*aliases, *gym.registry], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(aliases)
            raise ValueError(f"{env!r} is neither a policy ({known}) nor a registered environment id{hint}")
        env = maybe_make_env(env, verbose)
    if policy is None:
        if not hasattr(env, "observation_space"):
            raise ValueError(f"expected a policy, an environment or an environment id, not {env!r}")
        space = env.observation_space
        images = is_image_space(space)
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy" if images else "MlpPolicy"
    return policy, env


def check_hyperparameters(model: Any) -> None:
    """
    :param model: a ``DREAM`` with all its hyperparameters as attributes
    :raises ValueError: for the first one that is out of bounds, with what is allowed
    """

    def require(holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {expected}, not {getattr(model, name)!r}")

    for name, least in _COUNTS.items():
        value = getattr(model, name)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        require(whole and value >= least, name, f"a whole number, at least {least}")
        setattr(model, name, int(value))  # 1e5 is a number of steps too
    for name in _SHARES:
        require(0 <= getattr(model, name) <= 1, name, "between 0 and 1")
    for name in _POSITIVE:
        require(getattr(model, name) is None or getattr(model, name) > 0, name, "above 0")
    require(model.ent_coef >= 0, "ent_coef", "at least 0")
    require(model.actor_gradient in _GRADIENTS, "actor_gradient", f"one of {', '.join(map(repr, _GRADIENTS))}")

    continuous = isinstance(getattr(model, "action_space", None), spaces.Box)
    if model.actor_gradient == "dynamics":
        require(continuous, "actor_gradient", f"'score' for actions out of {model.action_space}")
    if model.action_noise is not None and not continuous:
        raise ValueError("action_noise needs a Box of actions; for other actions there are ent_coef and epsilon_start")
