"""The environment and the reference, step by step beside each other.

``python -m tests.tetris_gym.side_by_side --mode direct --steps 1000000`` compares for as long as you like.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import gymnasium as gym
import numpy as np

from tests.tetris_gym.games import ENV_IDS, copy_into
from tests.tetris_gym.players import MaskedPlayer, Player, RandomPlayer, Spinner, Stacker, random_rows
from tests.tetris_gym.reference import Board, ReferenceTetris

PLAYERS: tuple[type[Player], ...] = (RandomPlayer, MaskedPlayer, Stacker, Spinner)


@dataclass
class Comparison:
    """
    What has been compared.

    :param steps: number of steps
    :param events: what happened on them, so that one can see that the games were worth comparing
    """

    steps: int = 0
    events: Counter[str] = field(default_factory=Counter)

    def add(self, info: dict[str, Any], terminated: bool, truncated: bool) -> None:
        """Count a step."""
        self.steps += 1
        self.events[f"{info['lines_cleared']} lines"] += 1
        self.events["pieces"] += info["piece_placed"]
        self.events["unreachable placements"] += info.get("invalid_action", False)
        self.events["ends of a game"] += terminated
        self.events["truncations"] += truncated
        self.events["highest level"] = max(self.events["highest level"], info["level"])

    def __add__(self, other: Comparison) -> Comparison:
        events = self.events + other.events
        events["highest level"] = max(self.events["highest level"], other.events["highest level"])
        return Comparison(self.steps + other.steps, events)


def assert_same_info(info: dict[str, Any], expected: dict[str, Any]) -> None:
    """Exactly the same keys, types and values."""
    assert info.keys() == expected.keys(), f"info has the keys {sorted(info)}, expected {sorted(expected)}"
    for key, value in expected.items():
        assert type(info[key]) is type(value), f"info[{key!r}] is {info[key]!r}, expected {value!r}"
        assert np.array_equal(info[key], value), f"info[{key!r}] is {info[key]!r}, expected {value!r}"


def compare(mode: str, player: Player, steps: int, seed: int, hand_built: bool, **kwargs: Any) -> Comparison:
    """
    Play one environment beside the reference, episode after episode.

    :param mode: "direct" or "placement"
    :param player: who chooses the actions
    :param steps: number of steps
    :param seed: seed of the first reset; later resets go on with the generator
    :param hand_built: put a random stack into the field after every reset
    :param kwargs: keyword arguments of the environment
    :raises AssertionError: at the first difference
    """
    limit = kwargs.pop("max_episode_steps", 10_000)
    env = gym.make(ENV_IDS[mode], max_episode_steps=limit, **kwargs)
    reference = ReferenceTetris(mode, max_episode_steps=limit, **kwargs)
    masks = env.get_wrapper_attr("action_masks")
    comparison = Comparison()
    done, next_seed = True, iter([seed])
    for _ in range(steps):
        if done:
            episode_seed = next(next_seed, None)
            observation, info = env.reset(seed=episode_seed)
            expected_observation, expected_info = reference.reset(seed=episode_seed)
            assert np.array_equal(observation, expected_observation)
            assert_same_info(info, expected_info)
            if hand_built:
                build(env, reference, player.rng)
        assert np.array_equal(masks(), reference.action_masks())
        action = player.action(reference)
        observation, reward, terminated, truncated, info = env.step(action)
        expected_observation, expected_reward, *expected_flags, expected_info = reference.step(action)
        assert np.array_equal(observation, expected_observation)
        assert observation.dtype == np.float32
        assert abs(reward - expected_reward) <= 1e-6, f"reward {reward}, expected {expected_reward}"
        assert [terminated, truncated] == expected_flags
        assert_same_info(info, expected_info)
        comparison.add(info, terminated, truncated)
        done = terminated or truncated
    env.close()
    return comparison


def build(env: gym.Env, reference: ReferenceTetris, rng: np.random.Generator) -> None:
    """Give both the same random stack and number of lines."""
    board = Board(random_rows(rng))
    if board.fits(reference.current, reference.pose):
        reference.board = board
        reference.statistics = board.statistics()
        reference.total_lines = int(rng.integers(60))
        reference.found_placements = None
        copy_into(env, reference)


def variations(mode: str, seed: int) -> Iterator[dict[str, Any]]:
    """Arguments of :func:`compare` without end: every player in turn, the rest drawn."""
    rng = np.random.default_rng(seed)
    for player in cycle(PLAYERS):
        yield {
            "mode": mode,
            "player": player(rng),
            "seed": int(rng.integers(2**31)),
            "hand_built": bool(rng.random() < 0.5),
            "difficulty": int(rng.integers(11)),
            "gravity_interval": [None, 1, 2, 3, 5, 20, 1000][int(rng.integers(7))],
            "reward_mode": str(rng.choice(["standard", "lines_only"])),
            "max_episode_steps": [10_000, 300, 57][int(rng.integers(3))],
        }


def compare_many(mode: str, steps: int, block: int, seed: int) -> Comparison:
    """Compare so many steps, with other arguments after each block."""
    total = Comparison()
    for arguments in islice(variations(mode, seed), -(-steps // block)):
        try:
            total += compare(steps=block, **arguments)
        except Exception as error:
            error.add_note(f"This happened with {arguments}.")
            raise
    return total


def main() -> None:
    """Compare as many steps as the command line asks for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--mode", choices=list(ENV_IDS), default="direct")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--block", type=int, default=1_000, help="steps with the same arguments")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.process_time()
    total = compare_many(**vars(arguments))
    seconds = time.process_time() - start
    print(f"{arguments.mode}: {total.steps} steps are the same, in {seconds:.0f} s: {dict(total.events)}")


if __name__ == "__main__":
    main()
