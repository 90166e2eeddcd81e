"""What DREAM's constructor accepts: the environment in place of a policy, and hyperparameters within their bounds."""

from __future__ import annotations

import difflib
import math
import os
from numbers import Integral, Real
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space

from sb3_dream.environments import ensure_registered
from sb3_dream.replay import SequenceReplayBuffer

_MANY = 2**53  # beyond, floating-point numbers skip some
_COUNTS = {  # name: smallest and largest value
    "buffer_size": (2, _MANY),
    "learning_starts": (0, _MANY),
    "batch_size": (1, 10**6),
    "sequence_length": (2, 10**6),
    "reward_batch_size": (0, 10**6),
    "gradient_steps": (-1, 10**6),
    "model_warmup": (0, _MANY),
    "policy_delay": (1, _MANY),
    "policy_delay_end": (1, _MANY),
    "imagination_horizon": (1, 10**6),
    "imagination_starts": (1, 10**6),
    "dream_length": (1, _MANY),
    "plan_samples": (0, 10**6),
    "plan_horizon": (1, 10**6),
    "n_epochs": (1, 10**6),
    "n_minibatches": (1, 10**6),
    "target_update_interval": (1, _MANY),
    "epsilon_decay": (1, _MANY),
    "_stats_window_size": (1, 10**9),
}
_SHARES = (
    "reward_fraction",
    "terminal_fraction",
    "initial_fraction",
    "before_reward_fraction",
    "gamma",
    "gamma_start",
    "gae_lambda",
    "tau",
    "epsilon_start",
    "epsilon_end",
)
_RATES = ("learning_rate", "actor_learning_rate", "critic_learning_rate")
_GRADIENTS = ("score", "dynamics")
_OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict)


def resolve_environment(
    policy: Any, env: Any, aliases: dict[str, type[BasePolicy]], verbose: int = 0
) -> tuple[str | type[BasePolicy], Any]:
    """Sort out ``DREAM(env)`` and ``DREAM("MlpPolicy", env)``.

    :param policy: policy name or class; or an environment or its id when ``env`` is None
    :param env: environment, id, or None
    :param aliases: the policy names
    :param verbose: SB3's verbosity
    :return: the policy and the environment, made if it was an id
    :raises ValueError: when a name is neither a policy nor an environment, or the verbosity is no number
    """
    if not _is_whole(verbose):
        raise ValueError(f"verbose must be 0, 1 or 2, not {verbose!r}")
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
    space = getattr(env, "observation_space", None)
    if isinstance(space, spaces.Dict) and any(isinstance(part, (spaces.Dict, spaces.Tuple)) for part in space.values()):
        raise ValueError(
            f"nested observation spaces are not supported: {space}. Expected Box, Discrete, MultiDiscrete, MultiBinary "
            "or a flat Dict of them; gymnasium.wrappers.FlattenObservation makes one vector of all"
        )
    if isinstance(space, spaces.Space) and not isinstance(space, _OBSERVATIONS):
        raise ValueError(
            f"observations out of {space} are not supported. Expected Box, Discrete, MultiDiscrete, MultiBinary or a "
            "flat Dict of them"
        )
    if policy is None:
        if space is None:
            raise ValueError(f"expected a policy, an environment or an environment id, not {env!r}")
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
            raise ValueError(f"{name.lstrip('_')} must be {expected}, not {getattr(model, name)!r}")

    for name, (least, most) in _COUNTS.items():
        value = getattr(model, name)
        whole = _is_number(value) and float(value).is_integer()
        require(whole and value >= least, name, f"a whole number, at least {least}")
        require(value <= most, name, f"a whole number, at most {most}")
        setattr(model, name, int(value))  # 1e5 is a number of steps too
    for name in _SHARES:
        value = getattr(model, name)
        require(_is_number(value) and 0 <= value <= 1, name, "between 0 and 1")
    for name in _RATES:
        rate = getattr(model, name)
        optional = rate is None and name != "learning_rate"
        valid = optional or callable(rate) or (_is_number(rate) and 0 <= rate < 1e3)
        require(valid, name, "a number of at least 0, below 1000, or a schedule")
    require(_is_number(model.max_grad_norm) and model.max_grad_norm > 0, "max_grad_norm", "above 0")
    clip = model.clip_range
    require(callable(clip) or (_is_number(clip) and clip > 0), "clip_range", "above 0, or a schedule")
    ratio = model.train_ratio
    require(ratio is None or (_is_number(ratio) and 0 < ratio < 1e9), "train_ratio", "above 0, below 1e9, or None")
    require(not (ratio is None and model.overlap_updates), "overlap_updates", "False where train_ratio is None")
    end = model.dream_length_end
    require(end is None or (_is_whole(end) and end >= 1), "dream_length_end", "a whole number, at least 1, or None")
    require(_is_number(model.ent_coef) and 0 <= model.ent_coef < 1e9, "ent_coef", "at least 0, below 1e9")
    novelty = model.novelty_coef
    valid = callable(novelty) or (_is_number(novelty) and 0 <= novelty < 1e9)
    require(valid, "novelty_coef", "at least 0, below 1e9, or a schedule")
    for name in ("rare_rewards", "overlap_updates", "normalize_advantage", "compile", "cuda_graphs"):
        require(isinstance(getattr(model, name), bool), name, "True or False")
    require(model.actor_gradient in _GRADIENTS, "actor_gradient", f"one of {', '.join(map(repr, _GRADIENTS))}")
    kind = model.replay_buffer_class
    valid = isinstance(kind, type) and issubclass(kind, SequenceReplayBuffer)
    require(valid, "replay_buffer_class", "SequenceReplayBuffer, a subclass of it, or None")
    seed = model.seed
    require(seed is None or (_is_whole(seed) and 0 <= seed < 2**32), "seed", "a whole number, below 2**32, or None")

    folder = model.tensorboard_log
    require(folder is None or isinstance(folder, (str, os.PathLike)), "tensorboard_log", "a folder, or None")
    model.tensorboard_log = None if folder is None else os.fspath(folder)  # which a model file can hold

    rise = model.gamma_rise
    valid = isinstance(rise, (tuple, list)) and len(rise) == 2 and all(map(_is_whole, rise)) and 0 <= rise[0] < rise[1]
    require(valid, "gamma_rise", "two whole numbers of steps, the second one larger, like (0, 10000)")
    model.gamma_rise = tuple(rise)

    is_pair = isinstance(model.train_freq, tuple) and len(model.train_freq) == 2
    frequency, unit = model.train_freq if is_pair else (model.train_freq, "step")
    unit = getattr(unit, "value", unit)  # of a model that was saved, it is an enum's
    valid = _is_whole(frequency) and frequency >= 1 and unit in ("step", "episode")
    require(valid, "train_freq", "a number of steps, at least 1, or like (2, 'episode')")
    if unit == "episode" and getattr(model, "n_envs", 1) > 1:
        require(False, "train_freq", f"in steps where there are several environments ({model.n_envs})")

    continuous = isinstance(getattr(model, "action_space", None), spaces.Box)
    if model.actor_gradient == "dynamics":
        require(continuous, "actor_gradient", f"'score' for actions out of {model.action_space}")
        require(not model.cuda_graphs, "cuda_graphs", "False with actor_gradient='dynamics'")
    if model.action_noise is not None and not continuous:
        raise ValueError("action_noise needs a Box of actions; for other actions there are ent_coef and epsilon_start")
    noise = model.action_noise
    require(noise is None or isinstance(noise, ActionNoise), "action_noise", "an ActionNoise, or None")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
