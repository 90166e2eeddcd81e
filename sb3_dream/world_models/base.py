"""The interface of a world model.

A world model turns what the agent perceives into a state, and a state and an action into the next state.
A state has two parts. ``memory`` is what the past left behind; it is known before anything new is seen, and it is
all that replay has to store to start in the middle of an episode. ``percept`` is what is perceived now: an
observation, or a latent, taken from the environment or imagined.

A new world model is one new file: subclass :class:`WorldModel`, and pass the class as
``policy_kwargs=dict(world_model=YourModel)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch as th
from torch import nn

from sb3_dream.nn.grid import Layout
from sb3_dream.spaces import ActionSpec, Observation, ObservationSpec


class State(NamedTuple):
    """
    :param memory: (N, M) what the past left behind
    :param percept: (N, P) what is perceived, or imagined, now
    """

    memory: th.Tensor
    percept: th.Tensor


class RareRewards(NamedTuple):
    """How much oftener than they occur steps with a reward are learned from, see :meth:`WorldModel.observe_rewarded`.

    :param share: () such further steps for each other one
    :param log_odds: () by how much the logit of there being a reward is raised by them
    """

    share: th.Tensor
    log_odds: th.Tensor


class Sequences(NamedTuple):
    """Replayed pieces of episodes; a row's reward and ending are those on arrival at its observation.

    :param observation: encoded, each tensor (B, T, ...)
    :param action: (B, T, A) encoded actions taken after the observation
    :param reward: (B, T)
    :param terminated: (B, T) float, 1 where the observation is the last of an episode that ended
    :param valid: (B, T) float, 0 on padding behind an episode's end
    :param memory: (B, M) the memory stored with the first row
    :param mask: (B, T, K) float action masks, or None
    :param rare: where whether there is a reward is learned from further steps that have one, too; else None
    """

    observation: Observation
    action: th.Tensor
    reward: th.Tensor
    terminated: th.Tensor
    valid: th.Tensor
    memory: th.Tensor
    mask: th.Tensor | None
    rare: RareRewards | None = None


class Observed(NamedTuple):
    """
    :param memory: (B, T, M) the memory before each observation, fresh from this model
    :param percept: (B, T, P)
    :param losses: scalar tensors to minimise, already weighted; their sum is the model's loss
    :param metrics: detached scalar tensors to log
    """

    memory: th.Tensor
    percept: th.Tensor
    losses: dict[str, th.Tensor]
    metrics: dict[str, th.Tensor]


class Outcome(NamedTuple):
    """What a step is predicted to bring.

    :param reward: (N,) expected reward on arrival
    :param continues: (N,) probability that the episode goes on
    """

    reward: th.Tensor
    continues: th.Tensor


class WorldModel(nn.Module, ABC):
    """Base class; the constructor's keyword arguments beyond these are the model's own.

    :meth:`DREAM.predict` calls it in PyTorch's inference mode: what a model keeps from one call to the next it has to
    copy before it learns from it.

    :param observation_spec: what the observations are
    :param action_spec: what the actions are
    :param mask_size: number of action-mask bits, or None where the environment has no masks
    """

    formerly: ClassVar[dict[str, Any]] = {}
    """Arguments that model files of older versions lack, and what was done then."""

    memory_size: int
    feature_layout: Layout
    """What the actor sees: the first of the values that :meth:`features` returns."""
    critic_layout: Layout | None = None
    """What the critic sees: all those values; None where that is the same."""

    def __init__(self, observation_spec: ObservationSpec, action_spec: ActionSpec, mask_size: int | None) -> None:
        super().__init__()
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.mask_size = mask_size

    def parameter_groups(self) -> list[dict[str, Any]]:
        """
        :return: the parameters in groups, as optimisers take them, with the options that they need
        """
        return [{"params": list(self.parameters())}]

    def initial_memory(self, batch: int) -> th.Tensor:
        """
        :return: (batch, M) the memory before anything was perceived
        """
        return th.zeros(batch, self.memory_size, device=next(self.parameters()).device)

    @abstractmethod
    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        """
        :param memory: (N, M)
        :param observation: encoded, each tensor (N, ...)
        :return: the state in which the agent acts
        """

    @abstractmethod
    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        """
        :param action: (N, A) encoded
        :return: (N, M) the memory after acting, before the next observation
        """

    @abstractmethod
    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        """
        :param memory: (N, M) from :meth:`remember`
        :param state: the state before
        :param action: (N, A) encoded
        :return: a sampled next state, differentiable through continuous percepts
        """

    def step(self, state: State, action: th.Tensor) -> State:
        """
        :param action: (N, A) encoded
        :return: the next state by imagination
        """
        return self.imagine(self.remember(state, action), state, action)

    def advance(self, state: State, action: th.Tensor) -> tuple[State, Outcome]:
        """
        :param action: (N, A) encoded
        :return: the next state by imagination, and what the step brings; a model that needs something for both may
            compute it once
        """
        following = self.step(state, action)
        return following, self.outcome(state, action, following)

    @abstractmethod
    def features(self, state: State) -> th.Tensor:
        """
        :return: (N, F) what the actor and the critic see, laid out as ``critic_layout`` says
        """

    @abstractmethod
    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        """
        :param previous: the state before the step
        :param action: (N, A) encoded
        :param state: the state after it
        """

    @abstractmethod
    def reconstruct(self, state: State) -> Observation:
        """
        :return: the encoded observation that the state stands for, each tensor (N, ...)
        """

    @abstractmethod
    def action_mask(self, state: State) -> th.Tensor | None:
        """
        :return: (N, K) bool, the actions believed to be allowed, see :func:`allowed_actions`; None without masks
        """

    @abstractmethod
    def observe(self, sequences: Sequences) -> Observed:
        """One pass over replayed sequences: states and losses."""

    @property
    def practises_rewards(self) -> bool:
        """Whether there is an :meth:`observe_rewarded` of its own."""
        return type(self).observe_rewarded is not WorldModel.observe_rewarded

    def observe_rewarded(self, sequences: Sequences) -> dict[str, th.Tensor]:
        """Further practice on steps that brought a reward, where those are rare.

        These are no fair sample of what happens: only what is conditional on there being a reward may learn from them,
        and with ``sequences.rare`` the probability of one, as long as :meth:`observe` is told of it, too.

        :param sequences: short ones, all with a reward on arrival at their last row
        :return: scalar losses to add to those of :meth:`observe`; none by default
        """
        return {}


def allowed_actions(logits: th.Tensor, choices: tuple[int, ...]) -> th.Tensor:
    """
    :param logits: (N, K) of the belief that each choice is allowed
    :param choices: number of choices of each component of an action; they sum to K
    :return: (N, K) bool; whatever the belief, at least one choice of each component
    """
    parts = logits.split(choices, -1)
    return th.cat([(part > 0) | (part == part.amax(-1, keepdim=True)) for part in parts], -1)


def masked_mean(x: th.Tensor, weight: th.Tensor) -> th.Tensor:
    """
    :param x: (...)
    :param weight: (...) 0 or 1
    :return: scalar mean of ``x`` where ``weight`` is 1; 0 where it never is
    """
    return (x * weight).sum() / weight.sum().clamp(min=1.0)
