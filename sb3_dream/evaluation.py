"""Playing whole episodes with a model, with action masks where both the model and the environment know them."""

import inspect
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

#: Of the games on which everyone is measured: the same for all, and not those of the training.
GAMES_SEED = 1_000_000
MASK_METHOD = "action_masks"
#: Keys that wrappers add to ``info`` and that are no counters of the environment's own.
WRAPPER_KEYS = frozenset({"episode", "terminal_observation", "TimeLimit.truncated"})


class WithMasks:
    """
    A model whose ``predict`` asks an environment which actions are possible.

    Stable-Baselines3's ``evaluate_policy`` and RL Zoo's loops call ``predict`` without masks, and what
    sb3-contrib has instead drops the recurrent state. Everything but ``predict`` is the model's own.

    :param model: a model whose ``predict`` takes ``action_masks``
    :param env: the environments that are stepped with what ``predict`` returns
    """

    def __init__(self, model: Any, env: VecEnv) -> None:
        self._model = model
        self._env = env

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Like the model's own ``predict``, with the masks of the environments' present states."""
        masks = np.stack(self._env.env_method(MASK_METHOD))
        return self._model.predict(observation, state, episode_start, deterministic, action_masks=masks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def takes_masks(model: Any) -> bool:
    """:return: whether the model's ``predict`` takes ``action_masks``"""
    return MASK_METHOD in inspect.signature(model.predict).parameters


def with_masks(model: Any, env: VecEnv) -> Any:
    """
    :param model: a model, or anything with a ``predict``
    :param env: the environments that it is about to play in
    :return: the model, given masks if it takes them and the environments have them
    """
    return WithMasks(model, env) if takes_masks(model) and env.has_attr(MASK_METHOD) else model


class MaskedEvalCallback(EvalCallback):
    """Stable-Baselines3's ``EvalCallback``, giving the model the masks of the evaluation environment."""

    def _on_step(self) -> bool:
        model = self.model
        self.model = with_masks(model, self.eval_env)
        try:
            return super()._on_step()
        finally:
            self.model = model


class RandomPlayer:
    """
    The baseline: every action equally likely, no masks.

    :param action_space: where the actions come from
    :param seed: of the player's own generator
    """

    def __init__(self, action_space: spaces.Space, seed: int) -> None:
        self.action_space = action_space
        self.action_space.seed(seed)

    def predict(
        self,
        observation: Any,
        state: None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """One random action for each environment; the observation only tells how many there are."""
        batch = next(iter(observation.values())) if isinstance(observation, dict) else observation
        return np.stack([self.action_space.sample() for _ in range(len(batch))]), None


@dataclass
class Games:
    """What a player did in some episodes; an entry of each list is an episode."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    #: The numbers in the last ``info`` of each episode, such as the lines cleared in a game.
    counters: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """:return: the same as plain lists and dictionaries, for JSON"""
        return asdict(self)


def evaluate(player: Any, env: VecEnv, episodes: int, deterministic: bool = True) -> Games:
    """
    Play whole episodes.

    :param player: a model, or anything with its ``predict``
    :param env: where to play; the rewards are those of its ``Monitor`` where it has one
    :param episodes: how many, shared out evenly among the environments
    :param deterministic: take the most likely action instead of sampling
    :return: what came of it
    """
    games = Games()

    def note_end(local: dict[str, Any], _: dict[str, Any]) -> None:
        if local["done"]:
            for key, value in local["info"].items():
                if key not in WRAPPER_KEYS and isinstance(value, bool | int | float | np.bool_ | np.number):
                    games.counters.setdefault(key, []).append(float(value))

    returns, lengths = evaluate_policy(
        with_masks(player, env),
        env,
        n_eval_episodes=episodes,
        deterministic=deterministic,
        callback=note_end,
        return_episode_rewards=True,
        warn=False,
    )
    assert isinstance(returns, list) and isinstance(lengths, list)
    games.returns, games.lengths = [float(value) for value in returns], [int(value) for value in lengths]
    return games
