"""The commands that are RL Zoo's: train, enjoy, record-video, tune and plot."""

import argparse
import ast
import json
import re
import runpy
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import rl_zoo3.enjoy
import rl_zoo3.train
import rl_zoo3.utils
from huggingface_sb3 import EnvironmentName
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream import zoo
from sb3_dream.cli import DEFAULT_ALGO, DEFAULT_ENV, PROGRAM, headless, short_error, to_type
from sb3_dream.distributed import launched_ranks
from sb3_dream.errors import CommandError, one_line
from sb3_dream.evaluation import with_masks
from sb3_dream.experiment import ARGUMENTS_FILE, Experiment, newest_model
from sb3_dream.nn.collectives import world_size
from sb3_dream.ranked_experiment import RankedExperiment
from sb3_dream.replaced import replaced
from sb3_dream.stopping import StopSignal

DEFAULT_FOLDER = "logs"
STUDY_FOLDER = "studies"
#: The agents that come with a checkout.
PRETRAINED_FOLDER = Path(__file__).parents[1] / "examples" / "pretrained"
HELP_FLAGS = ("-h", "--help")


def train(arguments: list[str]) -> int:
    """
    ``train``: RL Zoo's, with our defaults, and ``--resume FOLDER``. Under ``torchrun``, one training on all ranks.

    :param arguments: of the command
    :return: the exit status
    """
    known, _ = _parser("resume").parse_known_args(arguments)
    with launched_ranks():
        return _train(arguments) if known.resume is None else _resume(known.resume, arguments)


def enjoy(arguments: list[str]) -> int:
    """
    ``enjoy``: RL Zoo's, with masks, on the runs of ``train``, or on an agent that came with the checkout.

    :param arguments: of the command
    :return: the exit status
    """
    if headless() and "--no-render" not in arguments and not _wants_help(arguments):
        raise CommandError("there is no screen to show the agent on: add --no-render, or film it with record-video")
    with _playing(rl_zoo3.enjoy, arguments) as complete, _zoo_arguments("enjoy", complete):
        rl_zoo3.enjoy.enjoy()
    return 0


def record_video(arguments: list[str]) -> int:
    """
    ``record-video``: RL Zoo's, with masks, on the runs of ``train``.

    :param arguments: of the command
    :return: the exit status
    """
    with _playing(rl_zoo3.utils, arguments) as complete, _zoo_arguments("record-video", complete):
        runpy.run_module("rl_zoo3.record_video", run_name="__main__")  # the zoo has no function for it
    return 0


def tune(arguments: list[str]) -> int:
    """
    ``tune``: RL Zoo's search, in a journal file that a stopped search goes on with and that several machines may share.

    :param arguments: of the command
    :return: the exit status
    """
    known, _ = _parser("storage", "study-name").parse_known_args(arguments)
    storage = known.storage or f"{known.folder or DEFAULT_FOLDER}/{STUDY_FOLDER}/{known.algo}_{known.env}.log"
    study = known.study_name or f"{known.algo}_{known.env}"
    complete = ["-optimize", "--no-optim-plots", *arguments]
    if known.storage is None:
        complete += ["--storage", storage]
    if known.study_name is None:
        complete += ["--study-name", study]
    status = _train(complete)
    print(
        f"The search is in {storage}: the same command goes on with it, here or on other machines that see the file.\n"
        f"To train with trial N: {to_type()} train --algo {known.algo} --env {known.env} "
        f"--storage {storage} --study-name {study} --trial-id N"
    )
    return status


def plot(arguments: list[str]) -> int:
    """
    ``plot train|all|file``: RL Zoo's figures, in a window or, with ``--save FILE`` or without a screen, in a file.

    :param arguments: of the command
    :return: the exit status
    """
    kinds: dict[str, str] = {"train": "plot_train", "all": "all_plots", "file": "plot_from_file"}
    if not arguments or arguments[0] not in kinds:
        if arguments and arguments[0] in HELP_FLAGS:
            print(f"usage: {PROGRAM} plot {'|'.join(kinds)} [--save FILE] [RL Zoo's flags for that plot]")
            return 0
        raise CommandError(f"plot what? One of: {', '.join(kinds)}")
    kind, *rest = arguments
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--save", type=Path)
    known, rest = parser.parse_known_args(rest)
    if kind == "train" and not _wants_help(rest):
        needed = (("-a", "--algo", DEFAULT_ALGO), ("-e", "--env", DEFAULT_ENV), ("-f", "--exp-folder", DEFAULT_FOLDER))
        for short, long, value in needed:
            if short not in rest and long not in rest:
                rest += [short, value]
    if known.save is None and headless():
        known.save = Path(f"{kind}.png")
    if known.save is not None:
        matplotlib.use("Agg")
    import rl_zoo3.plots
    from matplotlib import pyplot

    with _zoo_arguments(f"plot {kind}", rest), warnings.catch_warnings(action="ignore", category=UserWarning):
        getattr(rl_zoo3.plots, kinds[kind])()
    if _wants_help(rest):
        return 0
    if kind == "train" and not pyplot.gca().has_data():
        raise CommandError("nothing to plot: no run has as many episodes as a point averages over, 100 or -w", status=1)
    if known.save is not None:
        pyplot.savefig(known.save, bbox_inches="tight")
        print(f"Wrote {known.save}")
    return 0


def _train(arguments: list[str], resume: Path | None = None) -> int:
    """Check what RL Zoo would answer with a traceback, then train with its own function."""
    zoo.register()
    known, _ = _parser("conf", "model", "numbers", "storage").parse_known_args(arguments)
    complete = list(arguments)
    if not _wants_help(arguments):
        zoo.check_algorithm(known.algo)
        zoo.check_environment(known.env, known.gym_packages)
        complete = _with_defaults(arguments, known)
        if known.steps == 0 or known.steps < -1:
            raise CommandError(
                f"-n takes a number of steps, at least 1 (or -1: as the hyperparameters say), got {known.steps}"
            )
        if known.seed >= 2**32:
            raise CommandError(f"--seed must be below 2**32, got {known.seed}")
        if known.conf is None:
            complete += ["-conf", str(zoo.config_file(known.algo, known.env))]
        elif known.conf.endswith((".yml", ".yaml")):
            path = zoo.find_config(known.conf)
            zoo.read_config(path)
            complete += ["-conf", str(path)]  # the last one counts
        if known.model is not None:
            check_model_file(Path(known.model))
        if known.storage is not None:
            zoo.check_storage(known.storage)
    with StopSignal() as stop:
        kind = Experiment if world_size() == 1 else RankedExperiment
        experiment = partial(kind, arguments=complete, stop=stop, run=resume, resume=resume is not None)
        start = [] if resume is None else ["-i", str(model_in(resume, known.env))]
        with (
            replaced(rl_zoo3.train, ExperimentManager=experiment, StoreDict=StoreDict),
            _zoo_arguments("train", complete + start),
        ):
            rl_zoo3.train.train()
    return 130 if stop.received else 0


def _resume(folder: Path, arguments: list[str]) -> int:
    """Go on with a run that was stopped, in its own folder, up to the steps that were asked for at first."""
    if len(arguments) != 2 and not (len(arguments) == 1 and arguments[0].startswith("--resume=")):
        raise CommandError("--resume FOLDER goes on with a run as it was started, and takes no other arguments")
    if not folder.is_dir():
        raise CommandError(f"there is no folder {folder}")
    found = sorted(folder.glob(f"*/{ARGUMENTS_FILE}"))
    if not found:
        raise CommandError(f"{folder} is not the folder of a run that this command line started")
    return _train(json.loads(found[0].read_text()), resume=folder)


def model_in(run: Path, env_id: str) -> Path:
    """
    :param run: the folder of a run
    :param env_id: its environment
    :return: the model to go on with
    :raises CommandError: if there is neither
    """
    model = newest_model(run, EnvironmentName(env_id))  # the id without slashes
    if model is None:
        raise CommandError(f"{run} holds no model and no checkpoint to go on with")
    return model


def check_model_file(path: Path) -> None:
    """
    :param path: a model as ``model.save`` writes it
    :raises CommandError: if it is not there, or damaged, or something else
    """
    if not path.is_file():
        raise CommandError(f"there is no model file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if "data" not in archive.namelist():
                raise CommandError(f"{path} is a zip file, but not a model of Stable-Baselines3")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise CommandError(f"{path} is not a model file, or a damaged one: {one_line(error)}") from error
    if damaged is not None:
        raise CommandError(f"{path} is damaged: its part '{damaged}' does not match its checksum")


def load_model(algo: str, path: Path) -> BaseAlgorithm:
    """
    :param algo: a known algorithm
    :param path: a model that it saved
    :return: the model
    :raises CommandError: if the file is something else
    """
    return _load(ALGOS[algo], path)


def _load(algorithm: Any, path: Path, **keywords: Any) -> BaseAlgorithm:
    check_model_file(path)
    try:
        return algorithm.load(path, **keywords)
    except Exception as error:  # whatever unpickling a wrong file may raise
        raise CommandError(f"cannot load {path} as a {algorithm.__name__} model: {one_line(error)}") from error


class StoreDict(argparse.Action):
    """
    RL Zoo's ``key:value`` arguments, with values in Python's notation; a bare word is a string, and no code is run
    for plain values.
    """

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        pairs = {}
        for argument in values:
            key, colon, text = argument.partition(":")
            if not colon:
                raise CommandError(f"{option} takes key:value, not '{argument}'")
            pairs[key] = _value(text, option)
        setattr(namespace, self.dest, pairs)


def _value(text: str, option: str | None) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        if re.fullmatch(r"[\w.\-]+", text):
            return text
    try:
        # The zoo's own convention for what is no plain value, such as "dict(net_arch=[64])".
        return eval(text, vars(rl_zoo3.utils))
    except Exception as error:
        raise CommandError(f"cannot read the value '{text}' given with {option}: {one_line(error)}") from error


class _Loader:
    """
    Stands in for an algorithm in RL Zoo's loops: loads its model and gives it the masks of the environment made last.

    :param algorithm: the class to load with
    :param envs: the environments made so far
    """

    def __init__(self, algorithm: Any, envs: list[VecEnv]) -> None:
        self._algorithm = algorithm
        self._envs = envs

    def load(self, path: str, **keywords: Any) -> Any:
        """Like the algorithm's own ``load``."""
        return with_masks(_load(self._algorithm, Path(path), **keywords), self._envs[-1])


@contextmanager
def _playing(module: Any, arguments: list[str]) -> Iterator[list[str]]:
    """
    Prepare one of RL Zoo's loops that play with a trained agent.

    :param module: where the loop looks up ``ALGOS`` and ``create_test_env``
    :param arguments: of the command
    :return: the arguments with our defaults
    """
    zoo.register()
    complete = list(arguments)
    if not _wants_help(arguments):
        known, _ = _parser().parse_known_args(arguments)
        zoo.check_algorithm(known.algo)
        zoo.check_environment(known.env, known.gym_packages)
        complete = _with_defaults(arguments, known)
        if known.folder is None:
            complete += ["-f", str(_agents_folder(known.algo, known.env))]
    envs: list[VecEnv] = []
    create: Callable[..., VecEnv] = rl_zoo3.utils.create_test_env

    def create_test_env(*args: Any, **keywords: Any) -> VecEnv:
        envs.append(create(*args, **keywords))
        return envs[-1]

    loaders = {name: _Loader(algorithm, envs) for name, algorithm in ALGOS.items()}
    with replaced(module, create_test_env=create_test_env, ALGOS=loaders, StoreDict=StoreDict):
        try:
            yield complete
        except (AssertionError, ValueError) as error:  # RL Zoo's way to say that there is no such run
            raise CommandError(str(error), status=1) from error


def _agents_folder(algo: str, env_id: str) -> Path:
    """Where to look for an agent: among our own runs or, while there is none of this kind, in the checkout."""
    runs = f"{algo}/{EnvironmentName(env_id)}_*/"
    own = Path(DEFAULT_FOLDER)
    if any(own.glob(runs)) or not any(PRETRAINED_FOLDER.glob(runs)):
        return own
    print(f"There is no agent in {own}: this one comes from {PRETRAINED_FOLDER}")
    return PRETRAINED_FOLDER


@contextmanager
def _zoo_arguments(command: str, arguments: list[str]) -> Iterator[None]:
    """RL Zoo's functions read ``sys.argv``, and end the process on ``--help``."""
    with (
        replaced(sys, argv=[f"{PROGRAM} {command}", *arguments]),
        replaced(argparse.ArgumentParser, error=short_error),
    ):
        try:
            yield
        except SystemExit as stop:
            if stop.code:
                raise


def _parser(*options: str) -> argparse.ArgumentParser:
    """:return: a parser for the arguments of RL Zoo that we look at before it does"""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = partial(short_error, parser)  # type: ignore[method-assign, assignment]
    parser.add_argument("--algo", default=DEFAULT_ALGO)
    parser.add_argument("--env", default=DEFAULT_ENV)
    parser.add_argument("--gym-packages", nargs="+", default=[])
    parser.add_argument("-f", "--folder", "--log-folder", dest="folder")
    if "conf" in options:
        parser.add_argument("-conf", "--conf-file", dest="conf")
    if "model" in options:
        parser.add_argument("-i", "--trained-agent", dest="model")
    if "numbers" in options:
        parser.add_argument("-n", "--n-timesteps", dest="steps", type=int, default=-1)
        parser.add_argument("--seed", type=int, default=-1)
    if "resume" in options:
        parser.add_argument("--resume", type=Path)
    if "storage" in options:
        parser.add_argument("--storage")
    if "study-name" in options:
        parser.add_argument("--study-name")
    return parser


def _with_defaults(arguments: list[str], known: argparse.Namespace) -> list[str]:
    given = {argument.split("=")[0] for argument in arguments}
    defaults = [] if "--algo" in given else ["--algo", known.algo]
    return arguments + defaults + ([] if "--env" in given else ["--env", known.env])


def _wants_help(arguments: list[str]) -> bool:
    return any(flag in arguments for flag in HELP_FLAGS)
