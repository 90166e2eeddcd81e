"""How fast actor and critic learn where the world model stands still: what their settings are worth, apart from it.

    python -m benchmarks.policy_alone MODEL.zip --set imagination_starts=512 n_epochs=1 n_minibatches=8
    python -m benchmarks.policy_alone MODEL.zip --set imagination_starts=256 n_epochs=4 n_minibatches=4

A saved DREAM plays Tetris for some steps, as it does while training, to have states to imagine from. Then its actor and
its critic go on learning in its world model, and play games before and after. Compare by CPU, not by updates.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.utils import set_random_seed

from benchmarks.loop_speed import setting
from benchmarks.planning import actions_of, with_error
from sb3_dream import DREAM
from sb3_dream.evaluation import Games, evaluate
from sb3_dream.runs import versions
from sb3_dream.world_models.base import Observed, Sequences
from tetris_gym import TetrisVecEnv


class PolicyAlone(DREAM):
    """DREAM whose world model only watches."""

    def _train_world_model(self, sequences: Sequences) -> Observed:
        with th.no_grad():
            return self.policy.world_model.observe(sequences)


def prepare(model: Path, steps: int, **arguments: Any) -> PolicyAlone:
    """
    :param model: a saved DREAM that learned Tetris
    :param steps: to play before anything is learned
    :param arguments: of DREAM, instead of the model's own
    :return: the agent, which has played
    """
    actions = actions_of(DREAM.load(model, device="cpu"))
    agent = PolicyAlone.load(model, TetrisVecEnv(8, actions), device="cpu", verbose=0, plan_samples=0, **arguments)
    agent.train_ratio, agent.gradient_steps = None, 0
    return agent.learn(steps, reset_num_timesteps=False)


def learn(agent: PolicyAlone, updates: int) -> float:
    """
    :param agent: from :func:`prepare`
    :param updates: of the actor and the critic
    :return: the seconds of CPU that they took, of all threads
    """
    agent.policy_delay = agent.target_update_interval = 1  # about as often for each other as while training
    agent._n_updates = max(agent._n_updates, agent.model_warmup)
    start = time.process_time()
    agent.train(updates, agent.batch_size)
    return time.process_time() - start


def play(agent: DREAM, games: int) -> dict[str, Games]:
    """
    :param agent: that plays
    :param games: how many
    :return: the games with the most likely actions, and with sampled ones
    """
    found = {}
    for name, deterministic in (("most likely", True), ("sampled", False)):
        set_random_seed(0)
        env = TetrisVecEnv(min(games, 100), actions_of(agent))
        env.seed(10_000)
        found[name] = evaluate(agent, env, games, deterministic)
    return found


def keep(agent: PolicyAlone, model: Path, path: Path) -> None:
    """
    :param agent: that has learned
    :param model: what it was made of, whose settings it gets back
    :param path: file to write
    """
    learned = DREAM.load(model, device="cpu")
    learned.set_parameters(agent.get_parameters(), device="cpu")
    learned.num_timesteps = agent.num_timesteps
    learned.save(path)


def told(games: Games) -> str:
    """
    :return: their means, with standard errors
    """
    return f"{with_error(games.counters['total_lines'])} lines, return {np.mean(games.returns):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--updates", type=int, nargs="+", default=[150], help="of actor and critic, after which to play (default: 150)"
    )
    parser.add_argument("--steps", type=int, default=16_000, help="to play before (default: %(default)s)")
    parser.add_argument("--games", type=int, default=400, help="to play each time (default: %(default)s)")
    parser.add_argument("--set", type=setting, nargs="+", default=[], metavar="NAME=VALUE", help="arguments of DREAM")
    parser.add_argument("--save", type=Path, help="file to save the agent to")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    known = parser.parse_args()
    th.set_num_threads(1)
    agent = prepare(known.model, known.steps, **dict(known.set))
    found: dict[str, Any] = {"model": known.model.name, "set": dict(known.set), "versions": versions(), "played": []}
    cpu, done = 0.0, 0
    for updates in (0, *sorted(known.updates)):
        cpu += learn(agent, updates - done)
        done = updates
        for name, games in play(agent, known.games).items():
            print(f"{updates} updates, {cpu:.0f} s of CPU, {name} actions: {told(games)}", flush=True)
            found["played"].append({"updates": updates, "cpu": cpu, "actions": name, **games.as_dict()})
    if known.save is not None:
        keep(agent, known.model, known.save)
    if known.json is not None:
        known.json.parent.mkdir(parents=True, exist_ok=True)
        known.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
