"""``quickstart``, in a short form: what it leaves behind, and that it is run again without doing anything twice."""

import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from sb3_dream import quickstart
from sb3_dream.callbacks import TrainingMonitor
from sb3_dream.cli import main
from sb3_dream.history import TrainingHistory

#: More than the first of 16 games takes.
STEPS = 960
RUN = Path("runs/quickstart/dream/TetrisDirect-v0_1")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "MAX_FRAMES", 10)


def start(steps: int, *more: str) -> int:
    return main(["quickstart", "--steps", str(steps), "--games", "2", *more])


def test_it_is_found_when_finished_and_made_longer_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(64) == 0
    printed = capsys.readouterr().out
    assert "Training DREAM on TetrisDirect-v0 for 64 steps" in printed
    for player in ("DREAM, most likely action", "DREAM, sampled actions", "random player"):
        assert player in printed
    for name in ("TetrisDirect-v0.zip", "progress.png", "agent.gif"):
        assert str(RUN / name) in printed
        assert (RUN / name).is_file()
    with Image.open(RUN / "agent.gif") as film:
        assert film.n_frames > 1
    numbers = printed[printed.index("lines a game") : printed.index("To go on")]

    assert start(64) == 0
    again = capsys.readouterr().out
    assert "Found a finished run of 64 steps" in again
    assert numbers in again

    assert start(96) == 0
    longer = capsys.readouterr().out
    assert "Going on with DREAM" in longer
    assert quickstart.Run(Path("runs/quickstart"), "dream", "TetrisDirect-v0", 96, 0).load().num_timesteps == 96


def test_with_placements(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(60, "--env", "TetrisPlacement-v0") == 0
    assert "quickstart --env TetrisPlacement-v0 --steps 120" in capsys.readouterr().out
    assert Path("runs/quickstart/dream/TetrisPlacement-v0_1/agent.gif").is_file()


def test_stopped_it_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    step = TrainingMonitor._on_step

    def stop_after_a_game(self: TrainingMonitor) -> bool:
        going_on = step(self)
        if self.episodes:
            os.kill(os.getpid(), signal.SIGINT)
        return going_on

    with monkeypatch.context() as patch:
        patch.setattr(TrainingMonitor, "_on_step", stop_after_a_game)
        assert start(STEPS) == 130
    assert "the same command again" in capsys.readouterr().out
    assert not (RUN / "result.json").exists()
    game = TrainingHistory.load(RUN / "history.jsonl").episodes
    assert game
    assert start(STEPS) == 0
    assert "Going on with DREAM" in capsys.readouterr().out
    assert TrainingHistory.load(RUN / "history.jsonl").episodes[: len(game)] == game
