"""The command line: RL Zoo's commands with our algorithms, environments and hyperparameters, and what the zoo lacks."""

import argparse
import importlib
import io
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from sb3_dream.errors import CommandError, one_line

PROGRAM = "python -m sb3_dream"
TRACEBACK_FLAG = "--traceback"
DEFAULT_ALGO = "dream"
DEFAULT_ENV = "TetrisDirect-v0"

BOTH_PYGAMES = (
    "pygame and pygame-ce are both installed, and overwrite each other's files: "
    "pip uninstall -y pygame pygame-ce && pip install pygame-ce"
)

#: Name of a command -> the module and the function that run it, and what it does. Imported late: RL Zoo takes seconds.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("sb3_dream.zoo_commands:train", "train an agent (RL Zoo's flags, and --resume FOLDER)"),
    "enjoy": ("sb3_dream.zoo_commands:enjoy", "watch a trained agent (RL Zoo's flags)"),
    "record-video": ("sb3_dream.zoo_commands:record_video", "film a trained agent (RL Zoo's flags)"),
    "tune": ("sb3_dream.zoo_commands:tune", "search for hyperparameters; resumable, and machines may share a search"),
    "plot": ("sb3_dream.zoo_commands:plot", "plot what was logged: plot train|all|file (RL Zoo's flags)"),
    "compare": ("sb3_dream.compare:main", "train several algorithms with several seeds and write a report"),
    "play": ("sb3_dream.play:main", "play Tetris with the keyboard, or watch --agent model.zip"),
    "quickstart": ("sb3_dream.quickstart:main", "train DREAM on Tetris for about ten minutes and show what it learned"),
}


def main(arguments: list[str] | None = None) -> int:
    """
    Run a command, and turn what can go wrong into one line.

    :param arguments: the command and its arguments; those of the process by default
    :return: the exit status: 0, 1 for a failure, 2 for a wrong argument, 130 for a command that was stopped
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file is in order, and can be followed
    show_traceback = TRACEBACK_FLAG in arguments
    arguments = [argument for argument in arguments if argument != TRACEBACK_FLAG]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from sb3_dream._version import __version__

        print(f"sb3-dream {__version__}")
        return 0
    if both_pygames():
        print(f"sb3-dream: warning: {BOTH_PYGAMES}", file=sys.stderr)
    try:
        return command(arguments[0])(arguments[1:])
    except CommandError as error:
        return _report(error, str(error), error.status, show_traceback)
    except OSError as error:
        return _report(error, one_line(error), 1, show_traceback)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def usage() -> str:
    """:return: what ``--help`` prints"""
    lines = "\n".join(f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND [ARGUMENTS]\n\ncommands:\n{lines}\n\n"
        f"{PROGRAM} COMMAND --help tells a command's arguments; {TRACEBACK_FLAG} shows where an error came from.\n"
        f"For example: {PROGRAM} train --algo dream --env TetrisDirect-v0 -P"
    )


def command(name: str) -> Callable[[list[str]], int]:
    """
    :param name: of a command
    :return: the function that runs it
    :raises CommandError: if there is no such command
    """
    if name not in COMMANDS:
        raise CommandError(f"unknown command '{name}'; known: {', '.join(COMMANDS)}")
    module, function = COMMANDS[name][0].split(":")
    return getattr(importlib.import_module(module), function)


def to_type() -> str:
    """:return: what begins a command to copy: with this Python, whether its environment is active or not"""
    python, found = Path(sys.executable), shutil.which("python")
    if found is not None and Path(found).parent == python.parent:
        return PROGRAM
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f"{shlex.quote(str(shown))} -m sb3_dream"


def both_pygames() -> bool:
    """:return: whether both distributions that are imported as ``pygame`` are installed"""
    try:
        return bool(metadata.version("pygame") and metadata.version("pygame-ce"))
    except metadata.PackageNotFoundError:
        return False


def headless() -> bool:
    """:return: whether there is no screen to open a window on"""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens)


def short_error(parser: argparse.ArgumentParser, message: str) -> None:
    """
    What stands in for ``ArgumentParser.error``: one line instead of the usage of fifty flags.

    :raises CommandError: always
    """
    raise CommandError(f"{message} ({PROGRAM} COMMAND --help tells the arguments)")


def _report(error: BaseException, message: str, status: int, show_traceback: bool) -> int:
    if show_traceback:
        traceback.print_exception(error)
    print(f"sb3-dream: error: {message}", file=sys.stderr)
    return status
