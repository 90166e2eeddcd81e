"""What environments, workers and users do wrong: one clear error, and nothing that was learned is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_dream.checkpoints import CheckpointCallback, checkpoints
from sb3_dream.dream import DREAM
from tests.sb3_dream.resume_cases import CASES, finish
from tests.sb3_dream.tiny import SavedWalk, assert_same, tiny

FAULTS: dict[str, tuple[str, str]] = {
    "raises": ("RuntimeError", "torn cable"),
    "NaN": ("ValueError", "environment 1 returned NaN or infinity in its observation at step 50"),
    "infinity": ("ValueError", "environment 1 returned NaN or infinity in its observation at step 50"),
    "reward NaN": ("ValueError", "environment 1 returned NaN or infinity in its reward at step 50"),
    "reward infinity": ("ValueError", "environment 1 returned NaN or infinity in its reward at step 50"),
    "shape": ("ValueError", r"shape"),
    "text": ("ValueError", "could not convert string to float"),
    "nothing": ("ValueError", "environment 1 returned NaN or infinity"),
    "NaN at the end": ("ValueError", "environment 1 returned NaN or infinity in its observation at step 50"),
    "nothing at the end": ("ValueError", "environment 1 returned NaN or infinity in its observation at step 50"),
    "reward text": ("ValueError", "could not convert string to float"),
}


class Faulty(SavedWalk):
    """Goes wrong once, in its 25th step."""

    def __init__(self, fault: str | None) -> None:
        super().__init__(slip=0.3)
        self.observation_space = spaces.Box(-1.0, 1.0, (5,), np.float32)
        self.fault, self.count = fault, 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        look, reward, terminated, truncated, info = super().step(action)
        self.count += 1
        if self.count != 25:
            return look, reward, terminated, truncated, info
        wrong: Any = look
        match self.fault:
            case "raises":
                raise RuntimeError("torn cable")
            case "NaN at the end" | "nothing at the end":
                return look * np.nan if self.fault.startswith("NaN") else None, reward, True, False, info
            case "NaN":
                wrong = look * np.nan
            case "infinity":
                wrong = look - np.inf
            case "shape":
                wrong = np.zeros(4, np.float32)
            case "text":
                wrong = np.array(["a"] * 5)
            case "nothing":
                wrong = None
            case "reward text":
                return look, "much", terminated, truncated, info
            case "reward NaN" | "reward infinity":
                reward = float(self.fault.split()[1])
        return wrong, reward, terminated, truncated, info


def faulty(fault: str | None) -> VecEnv:
    return DummyVecEnv([lambda: Monitor(Faulty(None)), lambda: Monitor(Faulty(fault))])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_environments(fault: str, tmp_path: Path) -> None:
    """The step before is the last one that is stored; the run goes on in environments that work."""
    model = tiny(faulty(fault))
    kind, message = FAULTS[fault]
    with pytest.raises((RuntimeError, ValueError), match=message) as raised:
        model.learn(80)
    assert raised.type.__name__ == kind
    stored = model.replay_buffer.sample_sequences(200, 4)
    assert np.isfinite(stored.observations.numpy()).all() and np.isfinite(stored.rewards.numpy()).all()  # type: ignore
    assert (model.replay_buffer._rings.heads >= 24).all()
    model.save_checkpoint(tmp_path)
    again = DREAM.load_checkpoint(tmp_path, faulty(None), device="cpu")
    assert again.replay_buffer.n_rows == model.replay_buffer.n_rows
    again.learn(80 - again.num_timesteps, reset_num_timesteps=False)
    assert again.num_timesteps == 80
    model.set_env(faulty(None))
    model.learn(20, reset_num_timesteps=False)


def test_a_first_observation_that_is_not_finite() -> None:
    class Lost(SavedWalk):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Box(-1.0, 1.0, (5,), np.float32)

        def _look(self) -> np.ndarray:
            return np.full(5, np.nan, np.float32)

    with pytest.raises(ValueError, match="environment 0 returned NaN or infinity in its observation at step 0"):
        tiny(Lost()).learn(10)


@pytest.mark.filterwarnings("ignore:the environments cannot be saved")
def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    class Kills(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 40:
                env.processes[1].kill()
                env.processes[1].join()
            return True

    env = SubprocVecEnv([lambda: Monitor(SavedWalk())] * 2)
    model = tiny(env)
    try:
        with pytest.raises(RuntimeError, match=r"an environment's process died.*at step 4[02]"):
            model.learn(80, callback=Kills())
        model.save_checkpoint(tmp_path)
    finally:
        env.processes[0].terminate()
    again = DREAM.load_checkpoint(tmp_path, DummyVecEnv([lambda: Monitor(SavedWalk())] * 2), device="cpu")
    again.learn(80 - again.num_timesteps, reset_num_timesteps=False)
    assert again.num_timesteps == 80


PROGRAM = """
import signal
import sys
from pathlib import Path
from sb3_dream.checkpoints import CheckpointCallback
from tests.sb3_dream.resume_cases import CASES
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background inherit it ignored
model = CASES["walk"].start()
callback = CheckpointCallback(Path(sys.argv[1]), save_freq=8, keep=2)
print("begun", flush=True)
model.learn(1_000_000, callback=callback)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_the_last_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        until = time.monotonic() + 60
        while len(checkpoints(tmp_path)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            process.wait(60)
        finally:
            process.kill()
        assert process.returncode != 0
    model = DREAM.load_checkpoint(tmp_path, device="cpu")
    assert model.num_timesteps >= 16


# Disks


class Disk(NamedTuple):
    """
    :param folder: for checkpoints
    :param fail: a block in which writing there fails
    :param error: what the operating system says then
    """

    folder: Path
    fail: Callable[[], AbstractContextManager[Any]]
    error: int


@contextmanager
def limited() -> Iterator[None]:
    """Files of this process may not grow beyond a few kilobytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """All but a few kilobytes of a disk are taken."""
    with (folder / "filling").open("wb", buffering=0) as file:
        free = os.statvfs(folder)
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - 3 * 4096)))
    try:
        yield
    finally:
        (folder / "filling").unlink()


@contextmanager
def somebody_else() -> Iterator[None]:
    """Not as root, who may write everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture(params=["size of files", "size of the disk", "rights"])
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """Disks on which the operating system itself refuses to write, after a while."""
    if os.name == "nt":
        pytest.skip("needs the means of POSIX")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if request.param == "size of files":
            yield Disk(folder, limited, errno.EFBIG)
        elif request.param == "rights":
            try:
                yield Disk(folder, somebody_else_without_rights(folder), errno.EACCES)
            finally:
                folder.chmod(0o755)
        else:
            mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", name]
            if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
                pytest.skip("only root can make a small disk")
            try:
                yield Disk(folder, lambda: filled(folder), errno.ENOSPC)
            finally:
                subprocess.run(["umount", "-l", name], check=True)


def somebody_else_without_rights(folder: Path) -> Callable[[], AbstractContextManager[Any]]:
    @contextmanager
    def fail() -> Iterator[None]:
        folder.chmod(0o555)
        try:
            with somebody_else():
                yield
        finally:
            folder.chmod(0o755)

    return fail


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_disks_that_refuse(disk: Disk) -> None:
    """The error says which file, the last checkpoint is as it was, and once there is room, saving works again."""
    model = CASES["walk"].start().learn(20)
    model.save_checkpoint(disk.folder)
    model.learn(20, reset_num_timesteps=False)
    before = contents(disk.folder)
    with disk.fail(), pytest.raises(OSError) as raised:
        model.learn(20, callback=CheckpointCallback(disk.folder, save_freq=10), reset_num_timesteps=False)
    assert raised.value.errno == disk.error
    assert before.items() <= contents(disk.folder).items()
    assert not list(disk.folder.glob(".writing-*"))
    assert DREAM.load_checkpoint(disk.folder, device="cpu").num_timesteps == 20
    reached = model.num_timesteps
    model.save_checkpoint(disk.folder, keep=1)
    again = DREAM.load_checkpoint(disk.folder, CASES["walk"].make(), device="cpu")
    assert again.num_timesteps == reached
    assert_same(finish(again.learn(9, reset_num_timesteps=False)), finish(model.learn(9, reset_num_timesteps=False)))


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file"):
        tiny(SavedWalk()).learn(20, callback=CheckpointCallback(tmp_path / "file" / "run", save_freq=10))
