"""DreamerV3's recurrent state-space model (Hafner et al. 2023, "World model learning" and Appendix B).

The memory ``h_t`` is deterministic. The percept ``z_t`` is a vector of categoricals: with an observation in sight it
is drawn from the posterior ``q(z_t | h_t, o_t)``, in imagination from the prior ``p(z_t | h_t)``. Everything else,
the observation included, is read from both: right for images, for dictionaries, and wherever an observation
alone is no state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_dream.nn.distributions import (
    TwoHot,
    categorical_entropy,
    categorical_kl,
    log_unimix,
    sample_categorical,
    unimix_probabilities,
)
from sb3_dream.nn.grid import Layout
from sb3_dream.nn.layers import Chain, LayerNorm, Linear
from sb3_dream.nn.mlp import mlp, zero_init
from sb3_dream.nn.precision import products_in_bfloat16
from sb3_dream.nn.recurrence import BlockGRU
from sb3_dream.spaces import VECTOR, ActionSpec, Observation, ObservationSpec
from sb3_dream.world_models.base import Observed, Outcome, Sequences, State, WorldModel, allowed_actions, masked_mean
from sb3_dream.world_models.decoders import ObservationDecoder, straight_through
from sb3_dream.world_models.encoders import ObservationEncoder
from sb3_dream.world_models.rssm_scan import ScanWeights, scan


class RSSMWorldModel(WorldModel):
    """
    In evaluation mode (``model.eval()``) the most probable latents are perceived instead of sampled ones, so that the
    same past always gives the same state. Imagination samples in both modes.

    :param observation_spec: vectors, images or both
    :param action_spec: what the actions are
    :param mask_size: number of action-mask bits, or None
    :param memory: size of the deterministic memory
    :param blocks: parts of the memory with recurrent weights of their own; 1 for a dense GRU
    :param groups: number of categoricals in the percept
    :param classes: classes of each categorical
    :param hidden: width of the layers between memory and percept
    :param width: width of the perceptrons: encoder, decoder and heads
    :param depth: hidden layers of the encoder's and the decoder's perceptron; the heads have one
    :param channels: of the first convolution over images
    :param reward_bins: bins of the two-hot reward head
    :param unimix: share of the uniform distribution in every categorical
    :param free_nats: KL divergence below which nothing pushes any more
    :param dynamics_weight: weight of the loss that moves the prior to the posterior
    :param representation_weight: weight of the loss that moves the posterior to the prior
    :param bfloat16: multiply matrices in bfloat16 in imagination; what is observed is learned in float32
    """

    def __init__(
        self,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        mask_size: int | None = None,
        *,
        memory: int = 512,
        blocks: int = 8,
        groups: int = 16,
        classes: int = 16,
        hidden: int = 128,
        width: int = 128,
        depth: int = 2,
        channels: int = 16,
        reward_bins: int = 63,
        unimix: float = 0.01,
        free_nats: float = 1.0,
        dynamics_weight: float = 1.0,
        representation_weight: float = 0.1,
        bfloat16: bool = False,
    ) -> None:
        super().__init__(observation_spec, action_spec, mask_size)
        if not 0 <= unimix < 1:
            raise ValueError(f"unimix is a share, at least 0 and below 1, not {unimix}")
        self.memory_size, self.in_bfloat16 = memory, bfloat16
        self.groups, self.classes, self.unimix, self.free_nats = groups, classes, unimix, free_nats
        self.dynamics_weight, self.representation_weight = dynamics_weight, representation_weight
        latent = groups * classes
        self.feature_layout = Layout(memory + latent)

        self.encoder = ObservationEncoder(observation_spec, width, depth, channels)
        self.decoder = ObservationDecoder(memory + latent, observation_spec, width, depth, channels)
        # the posterior's and the recurrence's first layers, one for each input: those of observations and actions then
        # take all time steps in one product, outside the scan
        self.posterior_observation = Linear(self.encoder.out_size, hidden)
        self.posterior_memory = Linear(memory, hidden, bias=False)
        self.posterior = Chain(LayerNorm(hidden), nn.SiLU(), Linear(hidden, latent))
        self.step_action = Linear(action_spec.vector_size, hidden)
        self.step_memory = Linear(memory, hidden, bias=False)
        self.step_percept = Linear(latent, hidden, bias=False)
        self.step_norm = LayerNorm(hidden)
        self.gru = BlockGRU(hidden, memory, blocks)
        self.prior = mlp(memory, hidden, 2, latent)
        self.reward_bins = TwoHot(reward_bins)
        self.reward_head = mlp(memory + latent, width, 1, reward_bins)
        zero_init(self.reward_head)
        self.continue_head = mlp(memory + latent, width, 1, 1)
        self.mask_head = None if mask_size is None else mlp(memory + latent, width, 1, mask_size)

    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        seen = self.posterior_observation(self.encoder(observation))
        return State(memory, self._percept(self._posterior(memory, seen), sample=self.training))

    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        return self._advance(state.memory, state.percept, self.step_action(action))

    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        return State(memory, self._percept(self.prior(memory).float(), sample=True))

    def step(self, state: State, action: th.Tensor) -> State:
        with products_in_bfloat16(self.in_bfloat16, action.device):
            return super().step(state, action)

    def features(self, state: State) -> th.Tensor:
        return th.cat((state.memory, state.percept), -1)

    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        features = self.features(state)
        with products_in_bfloat16(self.in_bfloat16, features.device):
            reward, continues = self.reward_head(features), self.continue_head(features)
        return Outcome(self.reward_bins.decode(reward.float()), th.sigmoid(continues.float().squeeze(-1)))

    def reconstruct(self, state: State) -> Observation:
        return self.decoder(self.features(state))

    def action_mask(self, state: State) -> th.Tensor | None:
        if self.mask_head is None:
            return None
        return allowed_actions(self.mask_head(self.features(state)), self.action_spec.choices)

    def observe(self, sequences: Sequences) -> Observed:
        observation = {key: value.flatten(0, 1) for key, value in sequences.observation.items()}  # (B * T, ...)
        shape = sequences.reward.shape
        memory, percept, logits = self._scan(self.encoder(observation).unflatten(0, shape), sequences)
        posterior = self._log_probs(logits)  # (B * T, G, K)
        prior = self._log_probs(self.prior(memory.flatten(0, 1)))
        features = th.cat((memory.flatten(0, 1), percept.flatten(0, 1)), -1)  # (B * T, F)
        reward, terminated, valid = (x.flatten() for x in (sequences.reward, sequences.terminated, sequences.valid))
        reward_logits = self.reward_head(features)
        continue_logits = self.continue_head(features).squeeze(-1)
        continue_loss = F.binary_cross_entropy_with_logits(continue_logits, 1 - terminated, reduction="none")
        kl = kl_losses(posterior, prior, self.free_nats)
        losses = {
            "observation" if key == VECTOR else f"observation_{key}": masked_mean(loss, valid)
            for key, loss in self.decoder.losses(features, observation).items()
        }
        losses["reward"] = masked_mean(self.reward_bins.loss(reward_logits, reward), valid)
        losses["continue"] = masked_mean(continue_loss, valid)
        losses["dynamics"] = self.dynamics_weight * masked_mean(kl.dynamics, valid)
        losses["representation"] = self.representation_weight * masked_mean(kl.representation, valid)
        if self.mask_head is not None and sequences.mask is not None:
            mask_loss = F.binary_cross_entropy_with_logits(
                self.mask_head(features), sequences.mask.flatten(0, 1), reduction="none"
            )
            losses["mask"] = masked_mean(mask_loss.sum(-1), valid * (1 - terminated))
        with th.no_grad():
            error = (self.reward_bins.decode(reward_logits) - reward).abs()
            metrics = {
                "kl": masked_mean(kl.divergence, valid),
                "prior_entropy": masked_mean(categorical_entropy(prior).sum(-1), valid),
                "posterior_entropy": masked_mean(categorical_entropy(posterior).sum(-1), valid),
                "reward_error": masked_mean(error, valid),
            }
        return Observed(memory, percept, losses, metrics)

    def _scan(self, encoded: th.Tensor, sequences: Sequences) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param encoded: (B, T, E) encoded observations
        :return: memories (B, T, M), percepts (B, T, P) and the posteriors' logits (B * T, P)
        """
        projected = th.cat((self.posterior_observation(encoded), self.step_action(sequences.action)), -1)
        uniform = th.rand(*encoded.shape[1::-1], self.groups, device=encoded.device)
        posterior = dict(self.posterior.named_parameters())
        weights = ScanWeights(
            th.cat((self.posterior_memory.weight, self.step_memory.weight)),
            posterior["0.weight"],
            posterior["0.bias"],
            posterior["2.weight"],
            posterior["2.bias"],
            self.step_percept.weight,
            self.step_norm.weight,
            self.step_norm.bias,
            self.gru.from_input.weight,
            self.gru.from_input.bias + self.gru.from_memory.bias.flatten(),
            self.gru.from_memory.weight,
            self.gru.norm.weight,
            self.gru.norm.bias,
            self.gru.gates.weight,
            self.gru.gates.bias,
        )
        scanned = scan(projected.transpose(0, 1), sequences.memory, uniform, self.unimix, weights)
        memory, percept, logits = (x.transpose(0, 1) for x in scanned)
        return memory, percept, logits.flatten(0, 1)

    def _advance(self, memory: th.Tensor, percept: th.Tensor, acted: th.Tensor) -> th.Tensor:
        """The next memory (N, M); ``acted`` (N, hidden) is the projected action."""
        joined = self.step_percept(percept) + self.step_memory(memory) + acted
        return self.gru(F.silu(self.step_norm(joined)), memory)

    def _posterior(self, memory: th.Tensor, seen: th.Tensor) -> th.Tensor:
        """Logits (N, P); ``seen`` (N, hidden) is the projected encoding of the observation."""
        return self.posterior(self.posterior_memory(memory) + seen)

    def _log_probs(self, logits: th.Tensor) -> th.Tensor:
        """(N, P) logits to log-probabilities (N, G, K)."""
        return log_unimix(logits.unflatten(-1, (self.groups, self.classes)), self.unimix)

    def _percept(self, logits: th.Tensor, sample: bool) -> th.Tensor:
        """
        :param logits: (N, P)
        :param sample: draw, or take the most probable classes
        :return: (N, P) one-hot vectors with straight-through gradients
        """
        grouped = logits.unflatten(-1, (self.groups, self.classes))
        if not (sample or grouped.requires_grad):
            index = grouped.argmax(-1, keepdim=True)
            return th.zeros_like(grouped).scatter_(-1, index, 1.0).flatten(1)
        probabilities = unimix_probabilities(grouped, self.unimix)
        known = probabilities.detach()
        index = sample_categorical(known) if sample else known.argmax(-1, keepdim=True)
        return straight_through(th.zeros_like(grouped).scatter_(-1, index, 1.0), probabilities).flatten(1)


class KLLosses(NamedTuple):
    """
    :param dynamics: (...) nats, with gradients to the prior only
    :param representation: (...) nats, with gradients to the posterior only
    :param divergence: (...) nats, detached, before the free ones are taken out
    """

    dynamics: th.Tensor
    representation: th.Tensor
    divergence: th.Tensor


def kl_losses(posterior: th.Tensor, prior: th.Tensor, free_nats: float) -> KLLosses:
    """Balanced KL divergence with free nats (DreamerV3, eq. 5).

    :param posterior: (..., G, K) log-probabilities
    :param prior: (..., G, K) log-probabilities
    :param free_nats: divergence, summed over the groups, below which the losses are constant
    """
    dynamics = categorical_kl(posterior.detach(), prior).sum(-1)
    representation = categorical_kl(posterior, prior.detach()).sum(-1)
    return KLLosses(dynamics.clamp(min=free_nats), representation.clamp(min=free_nats), dynamics.detach())
