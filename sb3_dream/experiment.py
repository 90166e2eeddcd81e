"""RL Zoo's experiment, with masks in evaluations, clear errors, and nothing lost when it is stopped."""

import argparse
import inspect
import json
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import optuna
from rl_zoo3 import exp_manager
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream.atomic_files import removed_at_once
from sb3_dream.checkpoints import MODEL, CheckpointCallback, checkpoints, newest_checkpoint
from sb3_dream.cli import to_type
from sb3_dream.config import SCHEDULES
from sb3_dream.errors import CommandError, one_line
from sb3_dream.evaluation import MASK_METHOD, MaskedEvalCallback
from sb3_dream.replaced import replaced
from sb3_dream.saved_algorithm import SavedAlgorithm
from sb3_dream.stopping import StopBetweenSteps, StopSignal
from sb3_dream.zoo import suggestion

ARGUMENTS_FILE = "arguments.json"
BUFFER_FILE = "replay_buffer.pkl"
CHECKPOINTS = "checkpoints"
SAVE_SECONDS = 60
KEPT_CHECKPOINTS = 2
#: Hyperparameters that RL Zoo turns into others before the algorithm is built.
_ZOO_KEYS = ("noise_type", "noise_std")
#: Those that, unlike "learning_rate", RL Zoo does not know: "lin_1e-3" stands for a linear schedule here too.
_MORE_SCHEDULES = {*SCHEDULES} - {"learning_rate"}


class MaskedTrialEvalCallback(TrialEvalCallback, MaskedEvalCallback):
    """The evaluation of a trial, with masks: the order of the bases puts them under the trial's report."""


class Experiment(ExperimentManager):
    """
    RL Zoo's experiment manager for our command line; ``rl_zoo3.train.train`` builds and drives it.

    :param args: all arguments of ``rl_zoo3.train``, as parsed
    :param algo: name of the algorithm
    :param env_id: Gymnasium's id
    :param log_folder: where the folders of runs are
    :param arguments: the command's own arguments, kept with the run so that it can be resumed
    :param stop: tells whether the user stopped the command
    :param run: the run's own folder; by default a new one in the log folder
    :param resume: whether to go on with the stopped run in that folder
    """

    def __init__(
        self,
        args: argparse.Namespace,
        algo: str,
        env_id: str,
        log_folder: str,
        *rest: Any,
        arguments: list[str],
        stop: StopSignal,
        run: Path | None = None,
        resume: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(args, algo, env_id, log_folder, *rest, **keywords)
        self._arguments = arguments
        self._stop = stop
        self._resume = resume
        self._failures: Counter[str] = Counter()
        if run is not None:
            self.save_path = str(run)
            self.params_path = f"{run}/{self.env_name}"

    # --- setting up ---

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        try:
            return super().setup_experiment()
        except CommandError:
            self._remove_empty_run()
            raise
        except (TypeError, ValueError, AssertionError, AttributeError, ImportError, KeyError) as error:
            self._remove_empty_run()
            reason = re.sub(
                r"<class '(?:\w+\.)*(\w+)'>", r"\1", one_line(error)
            )  # the lists of spaces that Stable-Baselines3 prints
            raise CommandError(f"cannot set up {self.algo} on {self.env_name}: {reason}") from error

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.trial_id == 0 and self.storage and self.study_name:  # RL Zoo takes number 0 for none
            trial = self.load_trial(self.storage, self.study_name, 0)
            self.custom_hyperparams = {**trial, **(self.custom_hyperparams or {})}
        hyperparams, saved = super().read_hyperparameters()
        if self._resume:
            kwargs = hyperparams.get("monitor_kwargs", {})
            kwargs = eval(kwargs) if isinstance(kwargs, str) else kwargs  # the file's own convention, as in RL Zoo
            hyperparams["monitor_kwargs"] = {**kwargs, "override_existing": False}
        return hyperparams, saved

    def load_trial(
        self, storage: str, study_name: str, trial_id: int | None = None, convert: bool = True
    ) -> dict[str, Any]:
        try:
            return super().load_trial(storage, study_name, trial_id, convert)
        except (KeyError, IndexError, ValueError) as error:
            which = "trial" if trial_id is None else f"trial {trial_id}"
            raise CommandError(f"there is no {which} of a study '{study_name}' in {storage}") from error

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        prepared = ExperimentManager._preprocess_schedules(hyperparams)
        for name in _MORE_SCHEDULES & prepared.keys():
            if prepared[name]:  # 0 stays: as a schedule it would not be told from one that is above 0
                rate = {"learning_rate": prepared[name]}
                prepared[name] = ExperimentManager._preprocess_schedules(rate)["learning_rate"]
        return prepared

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable | None, list[BaseCallback], Callable | None]:
        prepared = super()._preprocess_hyperparams(hyperparams)
        known = set(inspect.signature(ALGOS[self.algo]).parameters) | set(_ZOO_KEYS)
        unknown = sorted(set(prepared[0]) - known)
        if unknown:
            offered = sorted(name for name in known - {"env", "self"} if not name.startswith("_"))
            raise CommandError(
                f"{self.algo} has no hyperparameter '{unknown[0]}'{suggestion(unknown[0], offered)}, which "
                f"{self.config} or -params names; known: {', '.join(offered)}"
            )
        return prepared

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        try:
            env = super().create_envs(n_envs, eval_env, no_log)
        except (gym.error.Error, TypeError, ValueError, ImportError) as error:
            given = self.eval_env_kwargs if eval_env else self.env_kwargs
            with_what = f" with {given}" if given else ""
            raise CommandError(f"cannot create {self.env_name}{with_what}: {_what_is_missing(error)}") from error
        if issubclass(ALGOS[self.algo], MaskablePPO) and not env.has_attr(MASK_METHOD):
            raise CommandError(f"{self.algo} needs action masks, and {self.env_name} has no method {MASK_METHOD}()")
        return env

    def create_callbacks(self) -> None:
        has_checkpoints = issubclass(ALGOS[self.algo], SavedAlgorithm)
        steps = self.save_freq  # which RL Zoo divides
        with replaced(exp_manager, EvalCallback=MaskedEvalCallback):
            super().create_callbacks()
        if has_checkpoints and not self.optimize_hyperparameters:
            by_steps, by_time = (steps, None) if steps > 0 else (None, SAVE_SECONDS)
            folder = Path(self.save_path) / CHECKPOINTS
            self.callbacks.append(CheckpointCallback(folder, by_steps, by_time, KEPT_CHECKPOINTS, at_end=False))
        self.callbacks.append(StopBetweenSteps(self._stop))

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        checkpoint = Path(self.trained_agent).parent
        try:
            if checkpoint in checkpoints(checkpoint.parent):
                return self._load_checkpoint(checkpoint, hyperparams, env)
            return super()._load_pretrained_agent(hyperparams, env)
        except Exception as error:  # whatever unpickling a wrong file may raise
            raise CommandError(
                f"cannot load {self.trained_agent} as a {self.algo} model for {self.env_name}: {one_line(error)}"
            ) from error

    def _load_checkpoint(self, checkpoint: Path, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        """What RL Zoo does with a model and its replay buffer, for a checkpoint."""
        fixed = ("policy", "policy_kwargs")
        changed = {name: value for name, value in hyperparams.items() if name not in fixed}
        given = {"seed": self.seed, "tensorboard_log": self.tensorboard_log, "verbose": self.verbose}
        algorithm: Any = ALGOS[self.algo]
        return algorithm.load_checkpoint(checkpoint, env, self.device, **(given | changed))

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if not self._resume:
            super()._save_config(saved_hyperparams)
            seeded = self._arguments if "--seed" in self._arguments else [*self._arguments, "--seed", str(self.seed)]
            (Path(self.params_path) / ARGUMENTS_FILE).write_text(json.dumps(seeded))

    def _remove_empty_run(self) -> None:
        """RL Zoo's other commands look into the newest folder of a run, which must not be one without a model."""
        if not self._resume:
            shutil.rmtree(self.save_path, ignore_errors=True)

    # --- training ---

    def learn(self, model: BaseAlgorithm) -> None:
        if self._resume:
            left = self.n_timesteps - model.num_timesteps
            print(f"Going on after {model.num_timesteps} of {self.n_timesteps} steps")
            self.n_timesteps = max(left, 0)
            for callback in self.callbacks:
                if isinstance(callback, EvalCallback):
                    _continue_evaluations(callback, Path(self.save_path) / "evaluations.npz", model.num_timesteps)
        algorithm = type(model)
        go_on = partialmethod(algorithm.learn, reset_num_timesteps=not self._resume)
        try:
            with replaced(algorithm, learn=go_on), self._stop.patiently():
                super().learn(model)
        except Exception as error:
            self.save(model, with_buffer=True)
            print(f"Training failed; what was learned is kept. To go on: {self.resume_command}")
            if isinstance(error, OSError):
                raise CommandError(f"training stopped: {one_line(error)}", status=1) from error
            raise

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        self.save(model, with_buffer=self.save_replay_buffer or self._stop.received)
        print(f"Saved to {self.save_path}")
        if self._stop.received:
            print(f"Stopped after {model.num_timesteps} steps. To go on: {self.resume_command}")
        elif not self.save_replay_buffer:
            (Path(self.save_path) / BUFFER_FILE).unlink(missing_ok=True)  # of an earlier stop, now outdated
            removed_at_once(Path(self.save_path) / CHECKPOINTS)

    @property
    def resume_command(self) -> str:
        """:return: the command that goes on with this run"""
        return f"{to_type()} train --resume {shlex.quote(self.save_path)}"

    def save(self, model: BaseAlgorithm, with_buffer: bool) -> None:
        """
        Save into the run's folder; where that fails (a full disk), into a temporary folder rather than nowhere.

        :param model: the model, with the statistics of its ``VecNormalize`` where it has one
        :param with_buffer: whether to save its replay buffer too, where it has one
        :raises CommandError: if it could not be saved where it belongs
        """
        try:
            with self._stop.ignored():
                self._write(model, Path(self.save_path), with_buffer)
        except OSError as error:
            rescue = Path(tempfile.mkdtemp(prefix=f"{self.algo}-{self.env_name}-"))
            with self._stop.ignored():
                self._write(model, rescue, with_buffer)
            raise CommandError(
                f"cannot save into {self.save_path}: {one_line(error)}; the model is in {rescue}: "
                f"free some space, move its files into {self.save_path}, then go on with {self.resume_command}",
                status=1,
            ) from error

    def _write(self, model: BaseAlgorithm, target: Path, with_buffer: bool) -> None:
        """Write all files beside their places first, so that a failure leaves the last good ones whole."""
        if with_buffer and isinstance(model, SavedAlgorithm):
            model.save_checkpoint(target / CHECKPOINTS, KEPT_CHECKPOINTS)
            with_buffer = False
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=target) as folder:
            aside = Path(folder)
            model.save(aside / f"{self.env_name}.zip")
            if with_buffer and isinstance(model, OffPolicyAlgorithm):
                model.save_replay_buffer(aside / BUFFER_FILE)
            normalizer = model.get_vec_normalize_env()
            if normalizer is not None:
                (aside / self.env_name).mkdir()
                normalizer.save(str(aside / self.env_name / "vecnormalize.pkl"))
            for written in [path for path in aside.rglob("*") if path.is_file()]:
                place = target / written.relative_to(aside)
                place.parent.mkdir(exist_ok=True)
                written.replace(place)

    # --- searching for hyperparameters ---

    def objective(self, trial: optuna.Trial) -> float:
        try:
            return super().objective(trial)
        except optuna.TrialPruned as pruned:
            if pruned.__cause__ is not None:  # RL Zoo calls a trial that raised an error pruned, too
                reason = one_line(pruned.__cause__)
                trial.set_user_attr("error", reason)
                self._failures[reason] += 1
                print(f"Trial {trial.number} FAILED, although it is listed as pruned: {reason}")
            raise

    def hyperparameters_optimization(self) -> None:
        with replaced(exp_manager, TrialEvalCallback=MaskedTrialEvalCallback):
            try:
                super().hyperparameters_optimization()
            except ValueError as error:  # optuna has no best trial while none is complete
                if not self._stop.received:
                    failures = self._failure_report()
                    raise CommandError(f"no trial was completed: {one_line(error)}{failures}", 1) from error
            finally:
                self._remove_empty_run()
        if self._failures:
            print(f"Of these, {self._failures.total()} ended in an error, not by the pruner:{self._failure_report()}")

    def _failure_report(self) -> str:
        return "".join(f"\n  {count} x {reason}" for reason, count in self._failures.most_common())


def _what_is_missing(error: Exception) -> str:
    """:return: what an environment said, but for Gymnasium's advice to install an extra that brings a second pygame"""
    if isinstance(error, gym.error.DependencyNotInstalled) and "box2d" in str(error).lower():
        return "it needs Box2D: pip install box2d"
    return one_line(error)


def newest_model(run: Path, name: str) -> Path | None:
    """
    :param run: the folder of a run
    :param name: of its environment, without slashes
    :return: the model to go on with: that of the newest checkpoint, else the newest that was saved without replay
    """
    with suppress(FileNotFoundError):
        return newest_checkpoint(run / CHECKPOINTS) / MODEL
    models = [*run.glob(f"{name}.zip"), *run.glob("rl_model_*_steps.zip")]
    return max(models, key=lambda path: path.stat().st_mtime, default=None)


def _continue_evaluations(callback: EvalCallback, path: Path, steps: int) -> None:
    """
    Give a callback the evaluations that an earlier part of the run wrote, so that it appends to them; but for those
    after the steps at which it goes on, which will be made again.
    """
    if not path.is_file():
        return
    with np.load(path) as log:
        kept = log["timesteps"] <= steps
        if not kept.any():
            return
        callback.evaluations_timesteps = log["timesteps"][kept].tolist()
        callback.evaluations_results = log["results"][kept].tolist()
        callback.evaluations_length = log["ep_lengths"][kept].tolist()
        if "successes" in log:
            callback.evaluations_successes = log["successes"][kept].tolist()
    callback.best_mean_reward = float(np.max(np.mean(callback.evaluations_results, axis=1)))
