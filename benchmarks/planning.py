"""What planning brings and costs: one saved agent plays Tetris with several numbers of planned sequences.

``python benchmarks/planning.py MODEL.zip`` prints a row for each number, and writes one file each into
``benchmarks/results/planning/``, with every game, the versions and the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch as th
from stable_baselines3.common.utils import set_random_seed

from sb3_dream import DREAM
from sb3_dream.evaluation import evaluate
from sb3_dream.nn.grid import GridNet
from sb3_dream.runs import versions
from tetris_gym import TetrisVecEnv
from tetris_gym.rewards import REWARD_NAMES, RewardName
from tetris_gym.settings import Settings

RESULTS = Path(__file__).parent / "results" / "planning"
USUAL = {"actions": "direct", "rewards": "standard"}  # what names of files leave out
HEADER = "| actor | steps | seed | sequences | horizon | games | lines a game | most | pieces | return | ms an action |"
HEADER += "\n" + "|---" * 11 + "|"


def measure(
    model: Path,
    samples: int,
    horizon: int,
    games: int,
    n_envs: int,
    rewards: RewardName = "standard",
    trust: bool = False,
) -> dict[str, Any]:
    """
    :param model: a saved DREAM that learned Tetris, of primitive actions or of placements
    :param samples: planned sequences, 0 for the policy's most probable action
    :param horizon: steps of a sequence
    :param games: how many
    :param n_envs: how many at a time
    :param rewards: that it learned from
    :param trust: read pickled objects too, of which the file of a model with code of its own has some
    :return: what was asked for, the games, the time they took, and the versions and the machine
    """
    agent = DREAM.load(model, device="cpu", trust=trust, plan_samples=samples, plan_horizon=horizon)
    set_random_seed(0)
    env = TetrisVecEnv(n_envs, actions_of(agent), rewards)
    env.seed(10_000)
    start = time.perf_counter()
    played = evaluate(agent, env, games)
    return {
        "model": model.name,
        "actions": actions_of(agent),
        "rewards": rewards,
        "actor": kind_of_actor(agent),
        "steps": agent.num_timesteps,
        "seed": agent.seed,
        "samples": samples,
        "horizon": horizon,
        "seconds": time.perf_counter() - start,
        "milliseconds_an_action": 1e3 * seconds_an_action(agent),
        "versions": versions(),
        **played.as_dict(),
    }


def actions_of(agent: DREAM) -> Literal["direct", "placement"]:
    """
    :param agent: that learned Tetris
    :return: the mode of its actions
    """
    return "placement" if agent.action_space == Settings("placement").action_space else "direct"


def kind_of_actor(agent: DREAM) -> Literal["sight", "critic-sight", "columns", "perceptron"]:
    """
    :param agent: that learned Tetris
    :return: whether its actor treats all columns alike, and whether it, or the critic, is also told what is in them
    """
    if not any(isinstance(module, GridNet) for module in agent.policy.actor_critic.actor_trunk.modules()):
        return "perceptron"
    shared = getattr(agent.policy.world_model, "shared_sight", False)
    return "critic-sight" if shared == "critic" else "sight" if shared else "columns"


def seconds_an_action(agent: DREAM, actions: int = 50) -> float:
    """
    :param agent: that plays
    :param actions: how many to time
    :return: median time of an action where one game is played
    """
    env = TetrisVecEnv(1, actions_of(agent))
    observation, state, times = env.reset(), None, []
    for _ in range(actions):
        masks = np.stack(env.env_method("action_masks"))
        start = time.perf_counter()
        action, state = agent.predict(observation, state, action_masks=masks)
        times.append(time.perf_counter() - start)
        observation, _, dones, _ = env.step(action)
        state = None if dones[0] else state
    return float(np.median(times))


def with_error(values: list[float]) -> str:
    """
    :param values: of games, one each
    :return: their mean and its standard error
    """
    return f"{np.mean(values):.2f} ± {np.std(values) / np.sqrt(len(values)):.2f}"


def row(found: dict[str, Any]) -> str:
    """
    :param found: from :func:`measure`
    :return: a row of a Markdown table
    """
    lines, pieces = found["counters"]["total_lines"], found["counters"]["pieces_placed"]
    return (
        f"| {found['actor']} | {found['steps']:,} | {found['seed']} | {found['samples']} | {found['horizon']} | "
        f"{len(lines)} | "
        f"{with_error(lines)} | "
        f"{max(lines):.0f} | {np.mean(pieces):.1f} | {np.mean(found['returns']):.1f} | "
        f"{found['milliseconds_an_action']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[0, 16], help="default: %(default)s")
    parser.add_argument("--horizon", type=int, default=12, help="steps of a sequence (default: %(default)s)")
    parser.add_argument("--games", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--envs", type=int, default=20, help="games at a time (default: %(default)s)")
    parser.add_argument("--rewards", choices=REWARD_NAMES, default="standard", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the files (default: %(default)s)")
    known = parser.parse_args()
    th.set_num_threads(1)
    known.output.mkdir(parents=True, exist_ok=True)
    print(HEADER, flush=True)
    for samples in known.samples:
        found = measure(known.model, samples, known.horizon, known.games, known.envs, known.rewards)
        print(row(found), flush=True)
        modes = "".join(f"{found[key]}-" for key, usual in USUAL.items() if found[key] != usual)
        name = f"{modes}{found['actor']}-{found['steps']}-{found['seed']}-{samples}-{known.horizon}.json"
        (known.output / name).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
