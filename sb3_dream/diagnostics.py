"""Whether the dream is true: a world model's predictions against episodes that really happened."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch as th
from numpy.typing import NDArray

from sb3_dream.observations import to_frames
from sb3_dream.policies import DreamPolicy
from sb3_dream.random_streams import RandomStream
from sb3_dream.replay_samples import SequenceSamples
from sb3_dream.spaces import VECTOR, Observation, ObservationSpec
from sb3_dream.world_models.base import State


class _Seen(NamedTuple):
    """Real sequences as the agent perceives them.

    :param observation: encoded, each tensor (B, T, ...)
    :param action: (B, T, A) encoded
    :param memory: (B, T, M) before each observation
    :param percept: (B, T, P)
    """

    observation: Observation
    action: th.Tensor
    memory: th.Tensor
    percept: th.Tensor


def model_error(
    policy: DreamPolicy, samples: SequenceSamples, horizon: int = 15, context: int = 5, max_starts: int = 256
) -> dict[str, float]:
    """
    How wrong the world model's imagination is, one step ahead and ``horizon`` steps ahead, with the actions that were
    really taken. Imagination is sampled, as it is when the policy learns from it, so what cannot be foreseen counts
    as an error, too. Nothing of the policy or of any random stream is changed.

    Of observations that are all bits or choices, an error is the number of wrong ones in a frame; of others, the mean
    absolute difference in units of each value's standard deviation over the samples (of the whole image's, for images).

    :param policy: its world model is measured
    :param samples: sequences, best of episodes that the model did not learn from
    :param horizon: steps ahead
    :param context: rows at the beginning of a sequence that warm the memory up: what is judged comes after them
    :param max_starts: most rollouts of ``horizon`` steps, taken evenly from all there could be
    :return: ``"model_error"``, one step ahead; ``"model_error_<horizon>"``; of the reward imagined one step ahead,
        ``"reward_error"``, the mean absolute error, ``"reward_explained_variance"``, on the steps whose reward is not
        0 (1 is perfect; 0, or less, is no better than their mean), and ``"reward_explained_variance_alive"``, on
        those of them that do not end an episode, whose last reward often outweighs all others. NaN where the samples
        have nothing to measure it on
    :raises ValueError: for a horizon or a context below 1
    """
    if horizon < 1 or context < 1:
        raise ValueError(f"horizon and context are at least 1 step, got {horizon} and {context}")
    policy.set_training_mode(False)
    with RandomStream(policy.device, 0).use(), th.no_grad():
        seen = _perceive(policy, samples)
        error = _Error(policy.observation_spec, seen.observation, samples.valid)
        return {**_one_step(policy, samples, seen, error, context), f"model_error_{horizon}": _many_steps(
            policy, samples, seen, error, context, horizon, max_starts
        )}  # fmt: skip


def open_loop(
    policy: DreamPolicy, samples: SequenceSamples, context: int = 5, horizon: int = 15, index: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    One sequence, and what the world model makes of it: for :func:`sb3_dream.plots.plot_open_loop`.

    :param policy: its world model is shown
    :param samples: sequences
    :param context: rows that the model sees; of these it shows its reconstruction
    :param horizon: most steps that it imagines from there, with the actions that were really taken
    :param index: which of the sequences
    :return: truth and prediction, (T, ...) pictures as :func:`sb3_dream.observations.to_frames` makes them, T being
        ``context + horizon``, or less where the sequence ends before
    :raises ValueError: if the sequence is too short to imagine anything after the context
    """
    length = min(int(samples.valid[index].sum()), context + horizon)
    if context < 1 or length <= context:
        raise ValueError(f"expected a context of at least 1 row and a sequence that is longer, got {context}, {length}")
    policy.set_training_mode(False)
    model, spec = policy.world_model, policy.observation_spec
    with RandomStream(policy.device, 0).use(), th.no_grad():
        seen = _perceive(policy, _one(samples, index, length))
        states = [State(seen.memory[:, t], seen.percept[:, t]) for t in range(context)]
        for t in range(context, length):
            states.append(model.step(states[-1], seen.action[:, t - 1]))
        predicted = [to_frames(spec, model.reconstruct(state)) for state in states]
        truth = to_frames(spec, {key: value[0] for key, value in seen.observation.items()})
    return truth.astype(np.float32), np.concatenate(predicted).astype(np.float32)


def _one(samples: SequenceSamples, index: int, length: int) -> SequenceSamples:
    """The first rows of one sequence, as a batch of its own; ``rows`` and ``masks`` are left as they are."""
    rows = slice(index, index + 1), slice(0, length)
    observations = samples.observations
    return samples._replace(
        observations={k: v[rows] for k, v in observations.items()}
        if isinstance(observations, dict)
        else observations[rows],
        actions=samples.actions[rows],
        valid=samples.valid[rows],
        memory=samples.memory[index : index + 1],
    )


def _perceive(policy: DreamPolicy, samples: SequenceSamples) -> _Seen:
    """Follow the sequences as the agent would: unlike ``WorldModel.observe``, this updates nothing."""
    model, sequences = policy.world_model, policy.encode_sequences(samples)
    observation = {key: value.to(policy.device) for key, value in sequences.observation.items()}
    action, memory = sequences.action.to(policy.device), sequences.memory.to(policy.device)
    states = []
    for t in range(action.shape[1]):
        states.append(model.perceive(memory, {key: value[:, t] for key, value in observation.items()}))
        memory = model.remember(states[-1], action[:, t])
    memories, percepts = (th.stack(parts, 1) for parts in zip(*states, strict=True))
    return _Seen(observation, action, memories, percepts)


def _one_step(
    policy: DreamPolicy, samples: SequenceSamples, seen: _Seen, error: _Error, context: int
) -> dict[str, float]:
    valid, reward, terminated = (x.to(policy.device) for x in (samples.valid, samples.rewards, samples.terminated))
    rows, arrivals = valid[:, context:].nonzero(as_tuple=True)
    arrivals = arrivals + context
    reward, terminated = reward[rows, arrivals], terminated[rows, arrivals]
    if len(rows) == 0:
        names = ("model_error", "reward_error", "reward_explained_variance", "reward_explained_variance_alive")
        return dict.fromkeys(names, math.nan)
    before = State(seen.memory[rows, arrivals - 1], seen.percept[rows, arrivals - 1])
    action = seen.action[rows, arrivals - 1]
    arrived = policy.world_model.step(before, action)
    expected = policy.world_model.outcome(before, action, arrived).reward
    truth = {key: value[rows, arrivals] for key, value in seen.observation.items()}
    paid = reward != 0
    return {
        "model_error": error(policy.world_model.reconstruct(arrived), truth),
        "reward_error": float((expected - reward).abs().mean()),
        "reward_explained_variance": _explained_variance(expected[paid], reward[paid]),
        "reward_explained_variance_alive": _explained_variance(
            expected[paid & ~terminated], reward[paid & ~terminated]
        ),
    }


def _many_steps(
    policy: DreamPolicy,
    samples: SequenceSamples,
    seen: _Seen,
    error: _Error,
    context: int,
    horizon: int,
    max_starts: int,
) -> float:
    model, valid = policy.world_model, samples.valid.to(policy.device)
    rows, starts = valid[:, context - 1 + horizon :].nonzero(as_tuple=True)
    if len(rows) == 0:
        return math.nan
    chosen = th.linspace(0, len(rows) - 1, min(len(rows), max_starts), device=rows.device).round().long()
    rows, starts = rows[chosen], starts[chosen] + context - 1
    state = State(seen.memory[rows, starts], seen.percept[rows, starts])
    for step in range(horizon):
        state = model.step(state, seen.action[rows, starts + step])
    return error(
        model.reconstruct(state), {key: value[rows, starts + horizon] for key, value in seen.observation.items()}
    )


def _explained_variance(expected: th.Tensor, truth: th.Tensor) -> float:
    """NaN where the truth does not vary."""
    if len(truth) < 2 or bool((truth == truth[0]).all()):  # the variance of equal numbers is rounded above 0
        return math.nan
    return float(1 - (truth - expected).var() / truth.var())


class _Error:
    """How far predicted observations are from the truth, in the unit that :func:`model_error` speaks of.

    :param spec: what the observations are
    :param observation: encoded, each tensor (B, T, ...): they set the scale
    :param valid: (B, T) bool, which of them are real
    """

    def __init__(self, spec: ObservationSpec, observation: Observation, valid: th.Tensor) -> None:
        self.spec = spec
        self.counts = not spec.image_shapes and all(segment.kind != "continuous" for segment in spec.segments)
        real = {key: value[valid.to(value.device)] for key, value in observation.items()}
        self.deviation = {
            key: value.std(0, correction=0) if key == VECTOR else value.std(correction=0) for key, value in real.items()
        }

    def __call__(self, predicted: Observation, truth: Observation) -> float:
        """
        :param predicted: encoded, each tensor (N, ...)
        :param truth: the same
        :return: the mean over the N frames
        """
        if self.counts:
            return float(self._wrong(predicted[VECTOR], truth[VECTOR]).mean())
        parts = []
        for key, deviation in self.deviation.items():
            difference = (predicted[key] - truth[key]).abs()
            if key == VECTOR:
                difference, deviation = difference[:, deviation > 0], deviation[deviation > 0]
            if deviation.numel():
                parts.append((difference / deviation.clamp(min=1e-6)).mean())
        return float(th.stack(parts).mean()) if parts else math.nan

    def _wrong(self, predicted: th.Tensor, truth: th.Tensor) -> th.Tensor:
        """(N,) number of wrong bits and choices."""
        different = predicted.round() != truth
        wrong = th.zeros(len(truth), device=truth.device)
        for segment in self.spec.segments:
            part = different[:, segment.slice]
            wrong = wrong + (part.any(-1) if segment.kind == "onehot" else part.sum(-1))
        return wrong
