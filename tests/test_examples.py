"""Every example runs, in a short form, and prints what it promises."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

SHORT_FORMS = {
    "action_masks": (["--steps", "520"], r"trained: .* of the games won; [\d.]+% allowed moves"),
    "curriculum": (["--steps", "220"], r"stage 0, difficulty=1\n(.*\n)*\d+% of the locks opened"),
    "custom_environment": (["--steps", "520"], r"untrained: \d+% .*\ntrained:   \d+% right turns after 520 steps"),
    "deployment": (["--steps", "520"], r"\d+ pieces, \d+ lines, [\d.]+ ms an action"),
    "images": (["--steps", "520"], r"what happened:\n(.*\n)*what the world model dreamt.*\n(.*\n){6}"),
    "own_world_model": (["--steps", "520"], r"The pole stayed up(.*\n)*.*\n   1 .*\n   5 .*\n  10 .*\n  15 "),
    "quick_start": (["--steps", "300"], r"The pole stayed up for \d+ steps before the training and for \d+ after it"),
    "resuming": (["--steps", "200"], r"200 steps, then saved(.*\n)*.*400 steps, the second half resumed"),
    "tuning": (["--steps", "520", "--trials", "2"], r"best: the pole stays up for \d+ steps with\n  learning_rate = "),
}


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHORT_FORMS)


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, promised = SHORT_FORMS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.search(promised, printed), printed
    if name == "resuming":
        same, tensors = re.search(r"(\d+) of (\d+) tensors", printed).groups()  # type: ignore[union-attr]
        assert same == tensors
