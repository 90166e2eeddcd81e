"""``compare``: several algorithms, several seeds, one report; stopped, it goes on where it was."""

import argparse
import hashlib
import json
import shlex
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream import zoo
from sb3_dream.cli import DEFAULT_ENV, PROGRAM, short_error
from sb3_dream.errors import CommandError, one_line
from sb3_dream.evaluation import GAMES_SEED, Games, RandomPlayer, evaluate
from sb3_dream.experiment import Experiment
from sb3_dream.planning import without_planning
from sb3_dream.report import write_report
from sb3_dream.runs import Run, scaled_as, versions
from sb3_dream.stopping import StopSignal

RANDOM = "random"
PARALLEL_GAMES = 10


@dataclass(frozen=True)
class Plan:
    """What is compared, and how it is measured."""

    env: str
    algos: tuple[str, ...]
    steps: int
    seeds: int
    points: int
    episodes: int
    final_episodes: int
    deterministic: bool
    planning: bool
    counters: tuple[str, ...]


class LearningCurve(BaseCallback):
    """
    Measures the model at even intervals of steps, keeps the results with the run, and times the training alone. What
    the algorithm logs goes to TensorBoard's files in the run's folder.

    :param run: whose curve it is
    :param plan: how to measure
    :param env: where the measured games are played
    """

    def __init__(self, run: Run, plan: Plan, env: VecEnv) -> None:
        super().__init__()
        self._run = run
        self._plan = plan
        self._env = env
        self.result = {"points": [], "seconds": 0.0, **run.result()}
        self._interval = max(run.steps // plan.points, 1)
        self._resumed = 0.0

    def _on_training_start(self) -> None:
        self.model.set_logger(configure(str(self._run.folder), ["tensorboard"]))
        self._resumed = time.perf_counter()

    def _on_step(self) -> bool:
        points = self.result["points"]
        due = self.num_timesteps // self._interval * self._interval
        if due > (points[-1]["steps"] if points else 0):
            self.pause()
            games = self.measure(self._plan.episodes)
            points.append({"steps": due, "seconds": self.result["seconds"], "games": games.as_dict()})
            mean = sum(games.returns) / len(games.returns)
            print(f"  {self.num_timesteps:>9} steps, {self.result['seconds']:7.0f} s: return {mean:.2f}", flush=True)
            self._resumed = time.perf_counter()
        return True

    def pause(self) -> None:
        """Stop the clock, and add what it shows to the seconds of training."""
        self.result["seconds"] += time.perf_counter() - self._resumed

    def measure(self, episodes: int) -> Games:
        """
        :param episodes: how many games
        :return: what the model did in them; every measurement plays the same games
        """
        self._env.seed(GAMES_SEED)
        env = scaled_as(self.model.get_vec_normalize_env(), self._env)
        with nullcontext() if self._plan.planning else without_planning(self.model):
            return evaluate(self.model, env, episodes, self._plan.deterministic)


def main(arguments: list[str]) -> int:
    """
    ``compare``.

    :param arguments: of the command
    :return: the exit status: 0 when all runs are in the report
    """
    zoo.register()
    parser = _parser()
    known = parser.parse_args(arguments)
    algos = tuple(known.algos.split(","))
    for algo in algos:
        if algo != RANDOM:
            zoo.check_algorithm(algo)
    zoo.check_environment(known.env, known.gym_packages)
    if known.num_threads > 0:
        th.set_num_threads(known.num_threads)
    for name in ("steps", "seeds", "points", "episodes", "final_episodes"):
        if getattr(known, name) < 1:
            raise CommandError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(known, name)}")
    plan = Plan(
        known.env,
        algos,
        known.steps,
        known.seeds,
        known.points,
        known.episodes,
        known.final_episodes,
        not known.stochastic,
        not known.no_planning,
        tuple(known.counters.split(",")),
    )
    failed = 0
    with StopSignal() as stop:
        for seed in range(plan.seeds):
            for algo in plan.algos:
                run = plan_run(plan, algo, seed, known.output)
                try:
                    complete_run(run, plan, stop)
                except KeyboardInterrupt:  # before training or while measuring: the run's last state stands
                    stop.received = True
                except Exception as error:  # whatever one algorithm raises, the others are still compared
                    failed += 1
                    reason = one_line(error)
                    run.keep({**run.result(), "error": reason})
                    print(f"  FAILED: {reason}")
                if stop.received:
                    print("Stopped; the same command goes on from here.")
                    return 130
    page = write_report(known.output, plan, _results(plan, known.output), _command(arguments))
    print(f"Wrote {page}")
    return 1 if failed else 0


def plan_run(plan: Plan, algo: str, seed: int, output: Path) -> Run:
    """
    Where a run's folder is: a digest of all that it depends on is in its path, so that no run is taken for another.

    :param plan: the comparison
    :param algo: an algorithm, or "random"
    :param seed: the run's seed
    :param output: the folder of all comparisons
    :return: the run, finished, stopped or not begun
    """
    settings = [] if algo == RANDOM else zoo.read_entry(zoo.config_file(algo, plan.env), plan.env)
    measuring = {key: value for key, value in asdict(plan).items() if key not in ("algos", "seeds", "counters")}
    text = json.dumps([settings, measuring], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Run(output / "runs" / f"{plan.steps}-{digest}", algo, plan.env, plan.steps, seed)


def complete_run(run: Run, plan: Plan, stop: StopSignal) -> None:
    """
    Train and measure, unless that was done before.

    :param run: which one
    :param plan: how to measure
    :param stop: tells whether the user stopped it; then what was learned is saved, and the next call goes on
    """
    found = run.result()
    print(f"{run.algo} on {run.env_id}, seed {run.seed}: {'found' if 'final' in found else run.folder}", flush=True)
    if "final" in found:
        return
    env = make_vec_env(run.env_id, min(plan.final_episodes, PARALLEL_GAMES), seed=GAMES_SEED)
    try:
        if run.algo == RANDOM:
            player = RandomPlayer(env.action_space, run.seed)
            games = evaluate(player, env, plan.final_episodes)
            run.keep({"points": [], "seconds": 0.0, "final": games.as_dict(), "versions": versions()})
            return
        curves: list[LearningCurve] = []

        def callbacks(experiment: Experiment) -> list[BaseCallback]:
            curves.append(LearningCurve(run, plan, env))
            return list(curves)

        run.folder.mkdir(parents=True, exist_ok=True)
        try:
            with (run.folder / "log.txt").open("a") as log:
                run.train(stop, callbacks, log)
        finally:
            for curve in curves:
                curve.pause()
                run.keep(curve.result)
        if not stop.received:
            curve.result.pop("error", None)
            run.keep({**curve.result, "final": curve.measure(plan.final_episodes).as_dict(), "versions": versions()})
    finally:
        env.close()


def _results(plan: Plan, output: Path) -> dict[str, list[dict[str, Any]]]:
    runs = {algo: [plan_run(plan, algo, seed, output) for seed in range(plan.seeds)] for algo in plan.algos}
    return {algo: [{"folder": str(run.folder), **run.result()} for run in of_algo] for algo, of_algo in runs.items()}


def _command(arguments: list[str]) -> str:
    return f"{PROGRAM} compare {shlex.join(arguments)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} compare", description=__doc__, allow_abbrev=False)
    parser.error = partial(short_error, parser)  # type: ignore[method-assign, assignment]
    add = parser.add_argument
    add("--env", default=DEFAULT_ENV, help="environment id (default: %(default)s)")
    add("--algos", default="dream,ppo,dqn,random", help="algorithms, with commas; random is one (default: %(default)s)")
    add("--steps", type=int, default=200_000, help="environment steps of each run (default: %(default)s)")
    add("--seeds", type=int, default=3, help="runs of each algorithm, seeds 0, 1, ... (default: %(default)s)")
    add("--points", type=int, default=20, help="points of each learning curve (default: %(default)s)")
    add("--episodes", type=int, default=10, help="games at each point (default: %(default)s)")
    add("--final-episodes", type=int, default=100, help="games at the end of each run (default: %(default)s)")
    add("--stochastic", action="store_true", help="sample the actions of measured games, not the most likely ones")
    add("--no-planning", action="store_true", help="measure DREAM's policy alone, where its settings say plan_samples")
    add("--counters", default="total_lines,pieces_placed", help="numbers of the last info to report, where there are")
    add("--output", type=Path, default=Path("runs/compare"), help="folder of runs and report (default: %(default)s)")
    add("--num-threads", type=int, default=-1, help="threads of PyTorch; -1 leaves it the choice (default: -1)")
    add("--gym-packages", nargs="+", default=[], help="modules to import that register environments")
    return parser
