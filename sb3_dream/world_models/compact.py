"""A small deterministic world model: one recurrent code from which everything is read.

``h_t = RNN(h_{t-1}, [encoder(o_{t-1}), a_{t-1}])``; observation, reward and ending of step t are read from ``h_t``.
With the default sizes, 212 observation values and 8 actions it has 65,478 parameters.
"""

from __future__ import annotations

from typing import Literal

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.distributions import symlog
from sb3_dream.nn.layers import Chain, Linear
from sb3_dream.nn.moments import RunningMoments
from sb3_dream.nn.recurrence import RecurrentStack
from sb3_dream.spaces import VECTOR, ActionSpec, Observation, ObservationSpec
from sb3_dream.world_models.base import Observed, Outcome, Sequences, State, WorldModel, allowed_actions, masked_mean
from sb3_dream.world_models.decoders import VectorDistribution


class CompactWorldModel(WorldModel):
    """
    The actor and the critic see the observation itself, in imagination the most probable one. Rewards have a squared
    error, in units of their running root mean square where that is above 1: so the prediction is an unbiased mean,
    and large rewards do not drown the observation's loss.

    :param observation_spec: vectors only; images need the ``rssm`` world model
    :param action_spec: what the actions are
    :param mask_size: number of action-mask bits, or None
    :param width: width of the one hidden layer of the encoder, the decoder and each head
    :param code: size of the encoded observation
    :param memory: units of each recurrent layer
    :param layers: number of recurrent layers
    :param cell: ``"gru"`` or ``"lstm"``
    """

    def __init__(
        self,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        mask_size: int | None = None,
        *,
        width: int = 128,
        code: int = 16,
        memory: int = 16,
        layers: int = 1,
        cell: Literal["gru", "lstm"] = "gru",
    ) -> None:
        super().__init__(observation_spec, action_spec, mask_size)
        if observation_spec.image_shapes:
            raise ValueError("the 'compact' world model predicts vectors; for images take world_model='rssm'")
        size = observation_spec.vector_size
        self.feature_layout = observation_spec.layout
        self.continuous = any(segment.kind == "continuous" for segment in observation_spec.segments)
        self.distribution = VectorDistribution(observation_spec.segments)
        self.encoder = _two_layers(size, width, code)
        self.rnn = RecurrentStack(code + action_spec.vector_size, memory, layers, cell)
        self.memory_size = self.rnn.memory_size
        self.decoder = _two_layers(memory, width, size)
        self.reward_head = _two_layers(memory, width, 1)
        self.continue_head = _two_layers(memory, width, 1)
        self.mask_head = None if mask_size is None else _two_layers(memory + size, width, mask_size)
        self.reward_moments = RunningMoments(1)

    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        return State(memory, observation[VECTOR])

    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        return self.rnn(self._inputs(state.percept, action)[None], state.memory)[0]

    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        return State(memory, self.distribution.mode(self.decoder(self.rnn.output(memory))))

    def features(self, state: State) -> th.Tensor:
        return self._scale(state.percept)

    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        code = self.rnn.output(state.memory)
        reward = self.reward_head(code).squeeze(-1) * self._reward_scale()
        return Outcome(reward, th.sigmoid(self.continue_head(code).squeeze(-1)))

    def reconstruct(self, state: State) -> Observation:
        return {VECTOR: state.percept}

    def action_mask(self, state: State) -> th.Tensor | None:
        if self.mask_head is None:
            return None
        return allowed_actions(self._mask_logits(state.memory, state.percept), self.action_spec.choices)

    def observe(self, sequences: Sequences) -> Observed:
        observation = sequences.observation[VECTOR]  # (B, T, V)
        inputs = self._inputs(observation[:, :-1], sequences.action[:, :-1])
        following = self.rnn(inputs.transpose(0, 1), sequences.memory).transpose(0, 1)  # (B, T - 1, M)
        code = self.rnn.output(following).flatten(0, 1)
        # what the first row's memory predicts is not learned from: an older model left that memory behind
        valid, terminated, reward = (
            x[:, 1:].flatten() for x in (sequences.valid, sequences.terminated, sequences.reward)
        )
        if self.training:
            self.reward_moments.update(reward[:, None], valid)
        nats = self.distribution.loss(self.decoder(code), observation[:, 1:].flatten(0, 1))
        error = self.reward_head(code).squeeze(-1) - reward / self._reward_scale()
        continues = self.continue_head(code).squeeze(-1)
        continue_loss = F.binary_cross_entropy_with_logits(continues, 1 - terminated, reduction="none")
        losses = {
            "observation": masked_mean(nats, valid),
            "reward": masked_mean(error.square(), valid),
            "continue": masked_mean(continue_loss, valid),
        }
        memory = th.cat((sequences.memory[:, None], following), 1)
        if self.mask_head is not None and sequences.mask is not None:
            logits = self._mask_logits(memory, observation)
            mask_loss = F.binary_cross_entropy_with_logits(logits, sequences.mask, reduction="none").sum(-1)
            losses["mask"] = masked_mean(mask_loss, sequences.valid * (1 - sequences.terminated))
        metrics = {"reward_error": masked_mean(error.detach().abs() * self._reward_scale(), valid)}
        return Observed(memory, observation, losses, metrics)

    def _inputs(self, observation: th.Tensor, action: th.Tensor) -> th.Tensor:
        return th.cat((self.encoder(self._scale(observation)), action), -1)

    def _mask_logits(self, memory: th.Tensor, observation: th.Tensor) -> th.Tensor:
        assert self.mask_head is not None
        return self.mask_head(th.cat((self.rnn.output(memory), self._scale(observation)), -1))

    def _scale(self, observation: th.Tensor) -> th.Tensor:
        return symlog(observation) if self.continuous else observation

    def _reward_scale(self) -> th.Tensor:
        return self.reward_moments.rms.clamp(min=1.0)


def _two_layers(inputs: int, width: int, outputs: int) -> Chain:
    return Chain(Linear(inputs, width), nn.SiLU(), Linear(width, outputs))
