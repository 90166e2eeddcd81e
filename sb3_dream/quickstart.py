"""``quickstart``: the main job of a newcomer. Trains DREAM, measures it beside a random player, draws, films, and says
how to go on. Stopped, it goes on where it was; finished, it shows what it found."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_dream import zoo
from sb3_dream.callbacks import TrainingMonitor
from sb3_dream.cli import DEFAULT_ALGO as ALGO
from sb3_dream.cli import DEFAULT_ENV, PROGRAM, headless, short_error, to_type
from sb3_dream.errors import CommandError
from sb3_dream.evaluation import GAMES_SEED, Games, RandomPlayer, evaluate
from sb3_dream.experiment import newest_model
from sb3_dream.history import TrainingHistory
from sb3_dream.player import Player
from sb3_dream.plots import plot_training_progress
from sb3_dream.runs import Run, evaluation_env, versions
from sb3_dream.stopping import StopSignal
from tetris_gym.recording import record

LINES = "total_lines"
PIECES = "pieces_placed"
MAX_FRAMES = 300
#: Steps of the comparison that is suggested: a matter of minutes with DREAM's usual values.
COMPARED = 10_000
FRAMES_A_SECOND = {DEFAULT_ENV: 15, "TetrisPlacement-v0": 5}


def main(arguments: list[str]) -> int:
    """
    ``quickstart``.

    :param arguments: of the command
    :return: the exit status
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} quickstart", description=__doc__, allow_abbrev=False)
    parser.error = partial(short_error, parser)  # type: ignore[method-assign, assignment]
    parser.add_argument(
        "--env", default=DEFAULT_ENV, choices=FRAMES_A_SECOND, help="what to play (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="environment steps to train (default: for about ten minutes)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument("--games", type=int, default=20, help="games to measure (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), help="folder (default: %(default)s)")
    known = parser.parse_args(arguments)

    zoo.register()
    config = zoo.quick_config_file(known.env)
    steps = int(zoo.read_entry(config, known.env)["n_timesteps"]) if known.steps is None else known.steps
    for name, value, least in (("steps", steps, 1), ("seed", known.seed, 0), ("games", known.games, 1)):
        if value < least:
            raise CommandError(f"--{name} must be at least {least}, got {value}")
    run = Run(known.output, ALGO, known.env, steps, known.seed, config)
    result = run.result()
    if result.get("steps", 0) >= steps:
        print(f"Found a finished run of {result['steps']:,} steps in {run.folder}.")
    else:
        with StopSignal() as stop:
            _train(run, stop)
            if stop.received:
                print("Stopped; what was learned is saved. To go on: the same command again.")
                return 130
        result = _measure(run, known.games)
        _draw(run)
        run.keep(result)  # last: what is found is whole
    _tell(run, result)
    return 0


def _train(run: Run, stop: StopSignal) -> None:
    is_new = newest_model(run.folder, run.name) is None
    begun = "Training" if is_new else "Going on with"
    print(f"{begun} DREAM on {run.env_id} for {run.steps:,} steps; Ctrl-C stops and saves.", flush=True)
    if is_new:
        print("After some random play the bar stands still for a minute: the world model learns from it.", flush=True)
    monitor = TrainingMonitor(counters=(LINES, PIECES), save_path=_history_file(run))
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "log.txt").open("a") as log:
        run.train(stop, lambda experiment: [monitor], log, progress=True, keep_buffer=True)


def _measure(run: Run, games: int) -> dict[str, Any]:
    """Play the same games with the agent and with a random player; without planning, which would take minutes."""
    print(f"Playing {games} games each: DREAM, and a random player", flush=True)
    model = run.load(plan_samples=0)
    env = evaluation_env(run, min(games, 10), GAMES_SEED)
    players = {
        "DREAM, most likely action": (model, True),
        "DREAM, sampled actions": (model, False),
        "random player": (RandomPlayer(env.action_space, run.seed), True),
    }
    found: dict[str, Any] = {}
    for name, (player, deterministic) in players.items():
        env.seed(GAMES_SEED)
        found[name] = _summary(evaluate(player, env, games, deterministic))
    env.close()
    return {"steps": run.steps, "games": games, "players": found, "versions": versions()}


def _summary(games: Games) -> dict[str, float]:
    return {
        "lines": float(np.mean(games.counters[LINES])),
        "best": float(np.max(games.counters[LINES])),
        "pieces": float(np.mean(games.counters[PIECES])),
        "return": float(np.mean(games.returns)),
    }


def _draw(run: Run) -> None:
    history = TrainingHistory.load(_history_file(run))
    plot_training_progress(history, _figure_file(run), title=f"DREAM on {run.env_id}")
    record(_frames(run), _film_file(run), fps=FRAMES_A_SECOND[run.env_id])


def _frames(run: Run) -> Iterator[np.ndarray]:
    """One game of the agent."""
    env = gym.make(run.env_id, render_mode="rgb_array")
    try:
        player = Player(run.load(), env)
        observation, _ = env.reset(seed=GAMES_SEED)
        yield _picture(env)
        for _ in range(MAX_FRAMES):
            observation, _, terminated, truncated, _ = env.step(player(observation))
            yield _picture(env)
            if terminated or truncated:
                return
    finally:
        env.close()


def _picture(env: gym.Env) -> np.ndarray:
    return np.asarray(env.render())


def _history_file(run: Run) -> Path:
    return run.folder / "history.jsonl"


def _figure_file(run: Run) -> Path:
    return run.folder / "progress.png"


def _film_file(run: Run) -> Path:
    return run.folder / "agent.gif"


def _tell(run: Run, result: dict[str, Any]) -> None:
    print(f"\n{'':<28}{'lines a game':>14}{'best game':>12}{'pieces':>9}{'return':>9}   ({result['games']} games)")
    for name, numbers in result["players"].items():
        print(
            f"{name:<28}{numbers['lines']:>14.2f}{numbers['best']:>12.0f}{numbers['pieces']:>9.1f}"
            f"{numbers['return']:>9.1f}"
        )
    watch, film = ("record-video", " --record game.gif") if headless() else ("enjoy", "")
    command = to_type()
    folder, env = run.folder.parent.parent, run.env_id
    other = next(each for each in FRAMES_A_SECOND if each != env)
    print(
        f"\nFigure  {_figure_file(run)}\nFilm    {_film_file(run)} (with planning)\n"
        f"Model   {run.model_file}\n\nTo go on:\n"
        f"  {command} {watch} --algo {ALGO} --env {env} -f {folder}\n"
        f"  {command} play --agent {run.model_file}{film}\n"
        f"  {command} quickstart --env {env} --steps {2 * run.steps} --seed {run.seed} --output {folder}"
        "   (goes on from here)\n"
        f"  {command} quickstart --env {other}\n"
        f"  {command} compare --env {env} --algos dream,ppo,random --steps {COMPARED} --seeds 1\n"
        f"  {command} train --algo {ALGO} --env CartPole-v1 -P"
    )
