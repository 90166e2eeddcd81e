"""Runs that are killed again and again, while they save too, and always end as the run that nobody killed.

As a program: ``python -m tests.sb3_dream.killed_runs FOLDER KILLS [CASE ...]``. It forks a process for each life of a
run, which goes on from the last checkpoint, saves one every few steps, and is killed: every other one after a random
time, the others right before one of the calls that write, flush, rename or remove a file.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch as th

from sb3_dream.checkpoints import CheckpointCallback, checkpoints
from sb3_dream.dream import DREAM
from tests.sb3_dream.resume_cases import CASES, finish
from tests.sb3_dream.tiny import assert_same

STEPS = 60


def die_while_saving(calls: int) -> None:
    """Kill this process right before it is to touch the disk for that many times."""
    left = calls

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return count

    for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    zipfile.ZipFile.writestr = counted(zipfile.ZipFile.writestr)  # type: ignore[method-assign]


def live(folder: Path, name: str) -> None:
    """Begin or go on, to the end."""
    case = CASES[name]
    if folder.is_dir() and checkpoints(folder):
        model = DREAM.load_checkpoint(folder, case.make(), device="cpu")
    else:
        model = case.start()
    callback = CheckpointCallback(folder, save_freq=2, keep=2)
    model.learn(STEPS - model.num_timesteps, callback=callback, reset_num_timesteps=model.num_timesteps == 0)
    th.save(finish(model), folder / "left.new")
    os.replace(folder / "left.new", folder / "left.pt")


def fork(folder: Path, name: str, calls: int | None = None) -> int:
    """:return: the id of a process that lives one life of the run, and dies at so many calls if it is told to"""
    process = os.fork()
    if process == 0:
        status = 1
        if calls is not None:
            die_while_saving(calls)
        try:
            live(folder, name)
            status = 0
        finally:
            os._exit(status)
    return process


def ended(process: int, seconds: float) -> bool:
    """Wait for a process, and kill it when the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            assert status in (0, signal.SIGKILL), f"a life ended with status {status}"
            return status == 0
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == 0


def main(root: Path, kills: int, names: list[str]) -> str:
    """
    :param root: an empty folder
    :param kills: how often to kill
    :param names: of the cases, which take turns
    :return: what happened
    """
    expected, seconds = {}, {}
    for name in names:
        folder = root / f"{name} whole"
        began = time.monotonic()
        assert ended(fork(folder, name), 1_000)
        seconds[name] = time.monotonic() - began
        expected[name] = th.load(folder / "left.pt")
    rng = random.Random(int(os.environ.get("KILL_SEED", "0")))
    killed = saving = ends = turn = 0
    while killed < kills or ends < len(names):
        name, folder = names[turn % len(names)], root / "run"
        by_call, by_time = killed < kills and killed % 2 == 0, killed < kills and killed % 2 == 1
        process = fork(folder, name, rng.randrange(250) if by_call else None)
        if not ended(process, rng.uniform(0.1, 0.8) * seconds[name] if by_time else 1_000):
            killed += 1
            saving += by_call or bool(folder.is_dir() and list(folder.glob(".writing-*")))
        elif (folder / "left.pt").is_file():
            assert_same(th.load(folder / "left.pt"), expected[name])
            assert len(checkpoints(folder)) <= 2 and not list(folder.glob(".writing-*"))
            shutil.rmtree(folder)
            ends, turn = ends + 1, turn + 1
    return f"{killed} killed, {saving} of them while saving; {ends} ends, all the same"


if __name__ == "__main__":
    th.set_num_threads(1)
    print(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or list(CASES)))
