"""Action masks: a game with forbidden moves. One method is all that an environment needs: ``action_masks()``.

DREAM never plays a forbidden move, and its world model learns which moves are forbidden, because it needs to know in
its imagination. So in the end it can do without being told.

Run ``python examples/action_masks.py``.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_dream import DREAM

STICKS = 12


class TakeAway(gym.Env):
    """Take 1, 2 or 3 sticks, but not as many as the opponent just did. Who cannot move has lost.

    The opponent moves at random. A forbidden move is an error.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.MultiDiscrete([STICKS + 1, 4])  # sticks left, sticks taken last
        self.action_space = spaces.Discrete(3)

    def action_masks(self) -> np.ndarray:
        """(3,) bool, which moves are allowed now."""
        take = np.arange(1, 4)
        return (take <= self.sticks) & (take != self.last)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.sticks, self.last = STICKS, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._take(action)
        if not self.action_masks().any():
            return self._observe(), 1.0, True, False, {}
        self._take(self.np_random.choice(np.flatnonzero(self.action_masks())))
        lost = not self.action_masks().any()
        return self._observe(), -float(lost), lost, False, {}

    def _take(self, action: int) -> None:
        if not self.action_masks()[action]:
            raise ValueError(f"with {self.sticks} sticks left it is forbidden to take {action + 1} after {self.last}")
        self.last = int(action) + 1
        self.sticks -= self.last

    def _observe(self) -> np.ndarray:
        return np.array((self.sticks, self.last))


def play(model: DREAM, games: int = 200) -> str:
    """Play with the masks, and count how often the model would have made an allowed move without being told them."""
    env, wins, moves, known = TakeAway(), 0, 0, 0
    env.reset(seed=1)
    for _ in range(games):
        (observation, _), state, over, reward = env.reset(), None, False, 0.0
        while not over:
            mask = env.action_masks()
            untold, _ = model.predict(observation, state, deterministic=True)
            action, state = model.predict(observation, state, deterministic=True, action_masks=mask)
            observation, reward, over, _, _ = env.step(action)
            moves, known = moves + 1, known + int(mask[untold])
        wins += reward > 0
    return f"{wins / games:.0%} of the games won; {known / moves:.1%} allowed moves without being told the masks"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps to train for")
    steps = parser.parse_args().steps

    model = DREAM(
        TakeAway(),
        learning_starts=500,
        model_warmup=50,
        sequence_length=8,
        imagination_horizon=6,
        policy_kwargs={"world_model_kwargs": {"width": 32, "depth": 2, "memory": 16}},
        device="cpu",
        seed=0,
    )
    print("untrained:", play(model))
    model.learn(steps)
    print("trained:  ", play(model))
