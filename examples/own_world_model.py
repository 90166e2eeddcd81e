"""A world model of one's own: one class, handed over as ``policy_kwargs=dict(world_model=...)``.

This one is about the simplest there is: for continuous observations that are a full state, a perceptron predicts the
change that an action brings. It needs no memory. Actor, critic, replay and everything else are DREAM's.

Run ``python examples/own_world_model.py``.
"""

import argparse

import gymnasium as gym
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy
from torch.nn import functional as F

from sb3_dream import DREAM, Observed, Outcome, Sequences, State, WorldModel
from sb3_dream.dream_env import DreamEnv
from sb3_dream.nn.grid import Layout
from sb3_dream.nn.mlp import mlp
from sb3_dream.nn.moments import RunningMoments
from sb3_dream.spaces import VECTOR, ActionSpec, Observation, ObservationSpec
from sb3_dream.world_models.base import masked_mean


class OneStepModel(WorldModel):
    """``o' = o + f(o, a)``, with a squared error.

    :param observation_spec: what the observations are: one continuous vector
    :param action_spec: what the actions are
    :param mask_size: None: this model does not learn action masks
    :param width: of the hidden layers
    """

    def __init__(
        self, observation_spec: ObservationSpec, action_spec: ActionSpec, mask_size: int | None, *, width: int = 64
    ) -> None:
        super().__init__(observation_spec, action_spec, mask_size)
        size = observation_spec.vector_size
        self.memory_size = 0
        self.feature_layout = Layout(size)
        self.values, self.changes = RunningMoments(size), RunningMoments(size)
        self.dynamics = mlp(size + action_spec.vector_size, width, 2, outputs=size)
        self.consequences = mlp(2 * size + action_spec.vector_size, width, 2, outputs=2)  # reward, continue

    # What imagination uses. A percept is an observation; the memory of a model without one is empty.

    def perceive(self, memory: th.Tensor, observation: Observation) -> State:
        return State(memory, observation[VECTOR])

    def remember(self, state: State, action: th.Tensor) -> th.Tensor:
        return state.memory

    def imagine(self, memory: th.Tensor, state: State, action: th.Tensor) -> State:
        return State(memory, state.percept + self.changes.rms * self._change(state.percept, action))

    def features(self, state: State) -> th.Tensor:
        return self.values.normalize(state.percept)

    def outcome(self, previous: State, action: th.Tensor, state: State) -> Outcome:
        reward, continues = self._outcome(previous.percept, action, state.percept)
        return Outcome(reward, th.sigmoid(continues))

    def reconstruct(self, state: State) -> Observation:
        return {VECTOR: state.percept}

    def action_mask(self, state: State) -> None:
        return None

    # What training uses: the losses on replayed sequences.

    def observe(self, sequences: Sequences) -> Observed:
        observation = sequences.observation[VECTOR]  # (B, T, V)
        old, new = observation[:, :-1], observation[:, 1:]
        action, valid = sequences.action[:, :-1], sequences.valid[:, 1:]
        self.values.update(observation.flatten(0, 1), sequences.valid.flatten())
        self.changes.update((new - old).flatten(0, 1), valid.flatten())

        error = self._change(old, action) - (new - old) / self.changes.rms
        reward, continues = self._outcome(old, action, new)
        alive = 1 - sequences.terminated[:, 1:]
        losses = {
            "observation": masked_mean(error.square().mean(-1), valid),
            "reward": masked_mean((reward - sequences.reward[:, 1:]).square(), valid),
            "continue": masked_mean(F.binary_cross_entropy_with_logits(continues, alive, reduction="none"), valid),
        }
        return Observed(observation[..., :0], observation, losses, metrics={})

    def _change(self, observation: th.Tensor, action: th.Tensor) -> th.Tensor:
        return self.dynamics(th.cat((self.values.normalize(observation), action), -1))

    def _outcome(self, old: th.Tensor, action: th.Tensor, new: th.Tensor) -> tuple[th.Tensor, ...]:
        before, after = self.values.normalize(old), self.values.normalize(new)
        return self.consequences(th.cat((before, after, action), -1)).unbind(-1)


def compare_dream_with_reality(model: DREAM, steps: int = 15) -> None:
    """Push right and left in turns, and imagine the same from the same first observation on."""
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=7)
    dream = DreamEnv(model, start_observations=observation[None])
    dream.reset(seed=7)
    print("\nstep   pole's angle, real   imagined")
    for step in range(1, steps + 1):
        (real, *_), (imagined, *_) = env.step(step % 2), dream.step(step % 2)
        if step in (1, 5, 10, 15):
            print(f"{step:4}   {real[2]:18.3f}   {imagined[2]:8.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    model = DREAM(
        "CartPole-v1",
        learning_starts=500,
        model_warmup=100,
        policy_kwargs={"world_model": OneStepModel},
        device="cpu",
        seed=0,
    )
    before, _ = evaluate_policy(model, model.get_env())
    model.learn(steps)
    after, _ = evaluate_policy(model, model.get_env())
    print(f"The pole stayed up for {before:.0f} steps before the training and for {after:.0f} after it.")
    compare_dream_with_reality(model)
