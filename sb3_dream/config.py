"""``DREAMConfig``: everything that DREAM's constructor takes, as one typed object that can be written to a file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import LinearSchedule

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.config_values import as_number, checked, plain, unknown_names
from sb3_dream.dream import DREAM
from sb3_dream.network_arguments import check_network_arguments
from sb3_dream.world_models import WORLD_MODELS, WorldModel

Rate = float | str
"""A number, or ``"lin_3e-4"`` for one that falls linearly to 0 over the training, as in RL Zoo."""

SCHEDULES = ("learning_rate", "actor_learning_rate", "critic_learning_rate", "novelty_coef")
"""Arguments of DREAM that may be schedules of that form."""

ACTION_MODES = {"direct": 8, "placement": 800}
"""Numbers of actions of a game's two interfaces: one key at a time, or one placement of a piece."""

_WIDTHS = {
    "recurrent": {"300k": 56, "1m": 128, "3m": 256, "12m": 544},
    "rssm": {"300k": 36, "1m": 72, "3m": 128, "12m": 256},
}
_POLICY_ARGUMENTS = (
    "world_model",
    "world_model_kwargs",
    "actor_critic_kwargs",
    "observation_layout",
    "optimizer_kwargs",
)
_DREAM = {name: parameter.default for name, parameter in inspect.signature(DREAM).parameters.items()}
"""DREAM's own defaults, which have no second place here."""


@dataclass
class DREAMConfig:
    """
    A configuration of DREAM. Assigning an unknown name, or a value of a wrong type, raises a ValueError at once.

    ``DREAM.from_config(config, env)`` makes the algorithm. Where a default is not given here it is DREAM's own, and the
    meaning is explained there. Objects that no file can hold (``action_noise``, ``replay_buffer_class``,
    schedules other than linear ones) are passed to ``from_config`` beside the config.

    :param n_actions: number of actions that the environment must have; None for any
    :param observation_size: number of values that its flattened observation must have; None for any
    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"`` or ``"MultiInputPolicy"``; None for the one that fits
        the environment
    :param world_model: ``"recurrent"``, ``"rssm"``, ``"compact"`` or a :class:`WorldModel` subclass, which cannot be
        written to a file; None for the policy's own choice
    :param world_model_kwargs: the world model's own arguments
    :param actor_critic_kwargs: arguments of :class:`~sb3_dream.actor_critic.ActorCritic`
    :param observation_layout: see :mod:`sb3_dream.spaces`; None for what the environment says
    :param optimizer_kwargs: arguments of :class:`~sb3_dream.nn.muon.MuonAdam`; None for the policy's own
    """

    n_actions: int | None = None
    observation_size: int | None = None

    policy: str | None = None
    world_model: str | type[WorldModel] | None = None
    world_model_kwargs: dict[str, Any] = field(default_factory=dict)
    actor_critic_kwargs: dict[str, Any] = field(default_factory=dict)
    observation_layout: dict[str, Any] | None = None
    optimizer_kwargs: dict[str, Any] | None = None

    learning_rate: Rate = _DREAM["learning_rate"]
    actor_learning_rate: Rate | None = _DREAM["actor_learning_rate"]
    critic_learning_rate: Rate | None = _DREAM["critic_learning_rate"]
    buffer_size: int = _DREAM["buffer_size"]
    learning_starts: int = _DREAM["learning_starts"]
    batch_size: int = _DREAM["batch_size"]
    sequence_length: int = _DREAM["sequence_length"]
    reward_fraction: float = _DREAM["reward_fraction"]
    terminal_fraction: float = _DREAM["terminal_fraction"]
    reward_batch_size: int = _DREAM["reward_batch_size"]
    rare_rewards: bool = _DREAM["rare_rewards"]
    train_ratio: float | None = _DREAM["train_ratio"]
    train_freq: int | tuple[int, str] = _DREAM["train_freq"]
    gradient_steps: int = _DREAM["gradient_steps"]
    overlap_updates: bool = _DREAM["overlap_updates"]
    model_warmup: int = _DREAM["model_warmup"]
    policy_delay: int = _DREAM["policy_delay"]
    policy_delay_end: int = _DREAM["policy_delay_end"]
    imagination_horizon: int = _DREAM["imagination_horizon"]
    imagination_starts: int = _DREAM["imagination_starts"]
    dream_length: int = _DREAM["dream_length"]
    dream_length_end: int | None = _DREAM["dream_length_end"]
    initial_fraction: float = _DREAM["initial_fraction"]
    before_reward_fraction: float = _DREAM["before_reward_fraction"]
    plan_samples: int = _DREAM["plan_samples"]
    plan_horizon: int = _DREAM["plan_horizon"]
    gamma: float = _DREAM["gamma"]
    gamma_start: float = _DREAM["gamma_start"]
    gamma_rise: tuple[int, int] = _DREAM["gamma_rise"]
    gae_lambda: float = _DREAM["gae_lambda"]
    ent_coef: float = _DREAM["ent_coef"]
    novelty_coef: Rate = _DREAM["novelty_coef"]
    n_epochs: int = _DREAM["n_epochs"]
    n_minibatches: int = _DREAM["n_minibatches"]
    clip_range: float = _DREAM["clip_range"]
    normalize_advantage: bool = _DREAM["normalize_advantage"]
    actor_gradient: Literal["score", "dynamics"] = _DREAM["actor_gradient"]
    tau: float = _DREAM["tau"]
    target_update_interval: int = _DREAM["target_update_interval"]
    max_grad_norm: float = _DREAM["max_grad_norm"]
    epsilon_start: float = _DREAM["epsilon_start"]
    epsilon_end: float = _DREAM["epsilon_end"]
    epsilon_decay: int = _DREAM["epsilon_decay"]
    use_masking: bool | Literal["auto"] = _DREAM["use_masking"]
    replay_buffer_kwargs: dict[str, Any] | None = _DREAM["replay_buffer_kwargs"]
    stats_window_size: int = _DREAM["stats_window_size"]
    tensorboard_log: str | None = _DREAM["tensorboard_log"]
    verbose: int = _DREAM["verbose"]
    seed: int | None = _DREAM["seed"]
    device: str = _DREAM["device"]
    compile: bool = _DREAM["compile"]
    cuda_graphs: bool = _DREAM["cuda_graphs"]

    def __setattr__(self, name: str, value: Any) -> None:
        hints = _hints()
        if name not in hints:
            raise ValueError(unknown_names([name], hints, "DREAMConfig"))
        value = checked(name, value, hints[name])
        if name in SCHEDULES:
            _schedule(value)
        super().__setattr__(name, value)

    # ----------------------------------------------------------------- presets

    @classmethod
    def get_default_config(cls, action_mode: Literal["direct", "placement"] = "direct") -> DREAMConfig:
        """
        DREAM's own defaults, for an environment with as many actions as the mode has.

        :param action_mode: ``"direct"`` for 8 actions, ``"placement"`` for 800
        :raises ValueError: for another mode
        """
        if action_mode not in ACTION_MODES:
            raise ValueError(f"action_mode is one of {', '.join(map(repr, ACTION_MODES))}, not {action_mode!r}")
        return cls(n_actions=ACTION_MODES[action_mode])

    @classmethod
    def guide(
        cls,
        *,
        cell: Literal["gru", "lstm"] = "gru",
        size: Literal["small", "large"] = "small",
        target_update: Literal["hard", "soft"] = "hard",
    ) -> DREAMConfig:
        """
        Small plain networks and slow, simple training, for 212 observation values and 8 actions.

        The small world model has 65,478 parameters with a GRU (encoder 212-128-16, GRU 24-16, decoder 16-128-212,
        reward and continue heads 16-128-1), the small actor-critic 188,682 (a shared trunk 212-256-256-256, the actor's
        head, the critic's and the slow critic's). Masks are off: their head would be one more.

        :param cell: recurrent cell of the world model
        :param size: ``"large"`` for two recurrent layers of 400 units and a trunk of three layers of 800
        :param target_update: ``"hard"`` copies the critic into the slow critic every 1,000 updates, ``"soft"`` moves it
            by 2% at every update
        :raises ValueError: for another size or target update
        """
        if size not in ("small", "large"):
            raise ValueError(f"size is 'small' or 'large', not {size!r}")
        if target_update not in ("hard", "soft"):
            raise ValueError(f"target_update is 'hard' or 'soft', not {target_update!r}")
        memory, layers, width = (16, 1, 256) if size == "small" else (400, 2, 800)
        tau, interval = (1.0, 1000) if target_update == "hard" else (0.02, 1)
        return cls(
            n_actions=8,
            observation_size=212,
            world_model="compact",
            world_model_kwargs={"memory": memory, "layers": layers, "cell": cell},
            actor_critic_kwargs={"net_arch": (width, width, width), "share_trunk": True, "critic_bins": 1},
            learning_rate=1e-3,
            actor_learning_rate=3e-4,
            critic_learning_rate=1e-3,
            gamma=0.99,
            gamma_start=0.99,
            gae_lambda=0.95,
            buffer_size=50_000,
            sequence_length=20,
            batch_size=32,
            imagination_horizon=15,
            train_ratio=None,
            train_freq=4,
            gradient_steps=1,
            model_warmup=0,
            policy_delay=1,
            n_epochs=1,
            n_minibatches=1,
            tau=tau,
            target_update_interval=interval,
            use_masking=False,
        )

    @classmethod
    def preset(cls, name: str, world_model: Literal["recurrent", "rssm"] = "recurrent") -> DREAMConfig:
        """
        A size, named by its parameters; everything else is DREAM's default. As with DreamerV3's sizes (Hafner et al.
        2023), one width sets all others. World model and actor-critic, slow critic included, have
        together, with 212 observation values in no layout and 8 actions:

        ========== ============ ============
        name       recurrent    rssm
        ========== ============ ============
        ``300k``   0.28 million 0.28 million
        ``1m``     0.96 million 0.96 million
        ``3m``     3.05 million 2.99 million
        ``12m``    11.8 million 11.8 million
        ========== ============ ============

        ``guide`` is :meth:`guide`, with 0.25 million and a world model of its own.

        :param name: one of these names
        :param world_model: ``"recurrent"`` or ``"rssm"``
        :raises ValueError: for another name or world model
        """
        if name == "guide":
            return cls.guide()
        if world_model not in _WIDTHS:
            raise ValueError(f"presets exist for {' and '.join(map(repr, _WIDTHS))}, not for {world_model!r}")
        if name not in _WIDTHS[world_model]:
            known = ", ".join(map(repr, ("guide", *_WIDTHS[world_model])))
            raise ValueError(f"unknown preset {name!r}: expected one of {known}")
        width = _WIDTHS[world_model][name]
        kwargs: dict[str, Any] = {"width": width, "memory": width // 2}
        if world_model == "rssm":
            kwargs = {"width": width, "hidden": width, "memory": 8 * width, "groups": 32}
            kwargs |= {"classes": max(4, width // 16), "channels": max(4, width // 16)}
        actor_critic_kwargs = {"net_arch": (2 * width, 2 * width)}
        return cls(world_model=world_model, world_model_kwargs=kwargs, actor_critic_kwargs=actor_critic_kwargs)

    # ------------------------------------------------------------------- files

    def to_dict(self) -> dict[str, Any]:
        """
        :return: plain numbers, strings, lists and dictionaries
        :raises ValueError: for what has no such form, such as a world model's class
        """
        return {item.name: plain(item.name, getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DREAMConfig:
        """
        :param values: by field; what is left out is the default
        :raises ValueError: naming unknown keys and what is allowed, or values of a wrong type
        """
        unknown = [key for key in values if key not in _hints()]
        if unknown:
            raise ValueError(unknown_names(unknown, _hints(), "DREAMConfig"))
        config = cls(**values)
        config.check()
        return config

    def to_yaml(self, path: str | os.PathLike[str] | None = None) -> str:
        """
        :param path: a file to write; missing folders are made
        :return: its text
        """
        text = yaml.safe_dump(self.to_dict(), sort_keys=False)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> DREAMConfig:
        """
        :param path: a file as :meth:`to_yaml` writes it, or with fewer keys
        :raises ValueError: if it is no such file; the message names unknown keys and what is allowed
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} must hold a mapping from names to values, not {type(values).__name__}")
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    # --------------------------------------------------------------- algorithm

    def check(self) -> None:
        """
        :raises ValueError: where the parts do not fit together: arguments that the world model or the actor-critic do
            not have, or arguments for a world model that is not named
        """
        if self.world_model is None:
            if self.world_model_kwargs:
                raise ValueError("world_model_kwargs need a world_model: which one takes them depends on the policy")
        else:
            model = self.world_model
            if isinstance(model, str):
                if model not in WORLD_MODELS:
                    raise ValueError(unknown_names([model], WORLD_MODELS, "world_model"))
                model = WORLD_MODELS[model]
            check_network_arguments("world_model_kwargs", self.world_model_kwargs, model)
        check_network_arguments("actor_critic_kwargs", self.actor_critic_kwargs, ActorCritic)

    def make(self, env: GymEnv | str, algorithm: type[DREAM] = DREAM, **kwargs: Any) -> DREAM:
        """
        :param env: environment, vectorized or not, or its id
        :param algorithm: DREAM or a subclass
        :param kwargs: further arguments of the algorithm; they go before those of the config
        :return: the algorithm, not trained
        :raises ValueError: if the config does not fit together, or not to the environment
        """
        self.check()
        arguments = {item.name: getattr(self, item.name) for item in fields(self) if item.name in _DREAM}
        arguments |= {name: _schedule(arguments[name]) for name in SCHEDULES}
        given = {name: getattr(self, name) for name in _POLICY_ARGUMENTS}
        # an argument that is None would keep DREAM from asking the environment or the policy
        policy_kwargs = {name: value for name, value in given.items() if value is not None}
        arguments["policy_kwargs"] = {**policy_kwargs, **(kwargs.pop("policy_kwargs", None) or {})}
        arguments |= kwargs
        policy = arguments.pop("policy")
        model = algorithm(env, **arguments) if policy is None else algorithm(policy, env, **arguments)
        self._check_spaces(model.observation_space, model.action_space)
        return model

    def _check_spaces(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        if self.observation_size is not None:
            size = get_flattened_obs_dim(observation_space)
            if size != self.observation_size:
                raise ValueError(
                    f"the config is for {self.observation_size} observation values, the environment has {size}"
                )
        if self.n_actions is not None and action_space != spaces.Discrete(self.n_actions):
            raise ValueError(f"the config is for {self.n_actions} discrete actions, the environment has {action_space}")


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(DREAMConfig)


def _schedule(rate: Rate | None) -> float | LinearSchedule | None:
    """
    :return: what DREAM takes
    """
    if not isinstance(rate, str):
        return rate
    kind, _, start = rate.partition("_")
    is_number, start_rate = as_number(start, float)
    if kind != "lin" or not is_number:
        raise ValueError(f"expected a number or, to fall linearly to 0, like 'lin_3e-4', not {rate!r}")
    return LinearSchedule(start_rate, 0.0, 1.0)
