"""The command line: what it answers to mistakes, and that RL Zoo's commands work through it."""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from sb3_dream import zoo_commands
from sb3_dream.cli import COMMANDS, command, main, to_type

TRAIN = ["train", "--algo", "a2c", "--env", "CartPole-v1", "-n", "20", "--eval-freq", "-1", "--verbose", "0"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(variable, raising=False)


def test_every_command_can_be_imported() -> None:
    for name in COMMANDS:
        assert callable(command(name))


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", ["train", "enjoy", "record-video", "tune", "compare", "play", "quickstart"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([name, "--help"])
    except SystemExit as stop:
        status = stop.code
    assert not status
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "unknown command 'trian'"),
        (["train", "--algo", "dreem"], "did you mean 'dream'"),
        (["train", "--env", "TetrisDirekt-v0"], "did you mean 'TetrisDirect-v0'"),
        ([*TRAIN, "--env-kwargs", "colour:red"], "colour"),
        ([*TRAIN, "-params", "lerning_rate:1"], "no hyperparameter 'lerning_rate' (did you mean 'learning_rate'?)"),
        ([*TRAIN, "-params", "learning_rate"], "takes key:value"),
        ([*TRAIN, "-conf", "nowhere.yml"], "nowhere.yml"),
        ([*TRAIN, "-conf", "broken.yml"], "broken.yml"),
        ([*TRAIN, "-conf", "other.yml"], "not found for a2c-CartPole-v1"),
        ([*TRAIN, "-i", "nowhere.zip"], "no model file nowhere.zip"),
        ([*TRAIN, "-i", "broken.zip"], "broken.zip is not a model file"),
        ([*TRAIN, "--gym-packages", "no_such_package"], "no_such_package"),
        ([*TRAIN, "--fast"], "unrecognized arguments: --fast"),
        ([*TRAIN, "-n", "0"], "at least 1"),
        ([*TRAIN, "-n", "-5"], "at least 1"),
        ([*TRAIN, "--seed", "99999999999"], "below 2**32"),
        (
            [*TRAIN, "--storage", "no.log", "--study-name", "s", "--trial-id", "9"],
            "no trial 9 of a study 's'",
        ),
        (["tune", *TRAIN[1:], "--storage", "broken.yml"], "cannot open --storage broken.yml"),
        (["tune", *TRAIN[1:], "--storage", "broken.log"], "cannot open --storage broken.log"),
        ([*TRAIN, "--algo", "dqn", "--env", "Pendulum-v1"], "only supports (Discrete,) as action spaces"),
        ([*TRAIN, "--algo", "ppo_mask"], "ppo_mask needs action masks"),
        (["train", "--resume", "nowhere"], "no folder nowhere"),
        (["train", "--resume", "."], "not the folder of a run"),
        (["enjoy", "--algo", "a2c", "--env", "CartPole-v1"], "no screen"),
        (["enjoy", "--algo", "a2c", "--env", "CartPole-v1", "--no-render"], "logs/a2c"),
        (["plot"], "plot what"),
        (["play"], "no screen"),
        (["play", "--agent", "broken.zip", "--record", "a.gif"], "broken.zip is not a model file"),
        (["compare", "--algos", "ppo,dreem"], "did you mean 'dream'"),
        (["compare", "--seeds", "0"], "--seeds must be at least 1"),
        (["compare", "--steps", "many"], "invalid int value"),
        (["quickstart", "--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    Path("broken.yml").write_text("CartPole-v1: [")
    Path("broken.log").write_text("no\njournal\n")
    Path("other.yml").write_text("Acrobot-v1: {n_timesteps: 1, policy: MlpPolicy}")
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("sb3-dream: error: ")
    assert error.count("\n") == 1
    assert not list(Path().glob("logs/*/*")), "a run that never began leaves no folder that enjoy would look into"


def test_commands_to_copy_name_the_python_that_has_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tmp_path / ".venv" / "bin"
    ours.mkdir(parents=True)
    (ours / "python").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(ours / "python3.11"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert to_type() == ".venv/bin/python3.11 -m sb3_dream"
    monkeypatch.setenv("PATH", str(ours))
    assert to_type() == "python -m sb3_dream"


def test_two_pygames_are_warned_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    versions = {"pygame-ce": "2.5.8"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    assert main(["plot"]) == 2
    assert "warning" not in capsys.readouterr().err
    versions["pygame"] = "2.6.1"
    assert main(["plot"]) == 2
    assert "pip uninstall -y pygame pygame-ce" in capsys.readouterr().err


def test_train_then_enjoy_and_film(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRAIN) == 0
    assert Path("logs/a2c/CartPole-v1_1/CartPole-v1.zip").is_file()
    play = ["--algo", "a2c", "--env", "CartPole-v1", "--no-render"]
    assert main(["enjoy", *play, "-n", "501"]) == 0  # longer than any episode
    assert "Episode Reward" in capsys.readouterr().out
    assert main(["record-video", "--algo", "a2c", "--env", "CartPole-v1", "-n", "3"]) == 0
    assert list(Path("logs/a2c/CartPole-v1_1/videos").glob("*.mp4"))


def test_a_bare_word_is_a_string_for_the_environment() -> None:
    train = ["train", "--algo", "a2c", "--env", "TetrisDirect-v0", "-n", "80", "--eval-freq", "-1", "--verbose", "0"]
    assert main([*train, "--env-kwargs", "reward_mode:lines_only", "difficulty:2"]) == 0
    assert "reward_mode: lines_only" in Path("logs/a2c/TetrisDirect-v0_1/TetrisDirect-v0/args.yml").read_text()


def test_plot_writes_a_file_without_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "train", "--help"]) == 0
    assert not list(Path().iterdir())
    folder = Path("logs/a2c/CartPole-v1_1")
    folder.mkdir(parents=True)
    rows = "\n".join(f"{length}.0,{length},{length}.5" for length in range(10, 60))
    (folder / "0.monitor.csv").write_text('#{"t_start": 0.0, "env_id": "CartPole-v1"}\nr,l,t\n' + rows + "\n")
    plot = ["plot", "train", "-a", "a2c", "-e", "CartPole-v1", "--save", "curve.png"]
    assert main([*plot, "-w", "100"]) == 1
    assert "nothing to plot" in capsys.readouterr().err
    assert not Path("curve.png").exists()
    assert main([*plot, "-w", "10"]) == 0
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")


def test_maskable_ppo_is_evaluated_with_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_contrib import MaskablePPO

    seen: list[np.ndarray] = []
    predict = MaskablePPO.predict

    def watched(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        seen.append(action_masks)
        return predict(self, observation, state, episode_start, deterministic, action_masks)

    monkeypatch.setattr(MaskablePPO, "predict", watched)
    small = ["-params", "n_envs:2", "n_steps:8", "batch_size:16"]
    train = ["train", "--algo", "ppo_mask", "--env", "TetrisPlacement-v0", "-n", "16", "--eval-freq", "16", *small]
    assert main([*train, "--eval-episodes", "1", "--verbose", "0"]) == 0
    assert main(["enjoy", "--algo", "ppo_mask", "--env", "TetrisPlacement-v0", "--no-render", "-n", "5"]) == 0
    assert len(seen) > 5
    assert all(masks is not None and masks.shape == (1, 800) and not masks.all() for masks in seen)


def test_enjoy_shows_the_agent_of_the_checkout_until_there_is_an_own_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "-f", "shipped"]) == 0
    monkeypatch.setattr(zoo_commands, "PRETRAINED_FOLDER", Path("shipped"))
    play = ["enjoy", "--algo", "a2c", "--env", "CartPole-v1", "--no-render", "-n", "5"]
    assert main(play) == 0
    assert "this one comes from shipped" in capsys.readouterr().out
    assert main(TRAIN) == 0
    assert main(play) == 0
    assert "comes from" not in capsys.readouterr().out
