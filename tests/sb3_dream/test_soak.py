"""A short soak; ``python -m benchmarks.soak`` is the long one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch as th

from benchmarks.soak import Sample, main, not_finite, problems, train
from sb3_dream.checkpoints import checkpoints
from tests.sb3_dream.tiny import Walk, tiny


def test_nothing_grows(tmp_path: Path) -> None:
    model, samples = train(14_400, tmp_path, samples=16)
    assert model._n_updates > 500 and len(samples) >= 14
    assert problems(samples) == []
    assert len(checkpoints(tmp_path / "checkpoints")) == 2


def test_growth_would_be_found() -> None:
    flat = [Sample(i, i, 100.0, 7, 1.0, []) for i in range(20)]
    assert problems(flat) == []
    leaking = [Sample(i, i, 100.0 + i, 7 + i // 5, 1.0, []) for i in range(20)]
    assert [problem.split()[0] for problem in problems(leaking)] == ["memory", "open"]
    assert problems([*flat, Sample(20, 20, 100.0, 7, 1.0, ["a"])]) == ["not finite: a"]
    model = tiny(Walk())
    assert not_finite(model) == []
    with th.no_grad():
        next(model.policy.parameters()).fill_(float("nan"))
    assert len(not_finite(model)) == 1


def test_the_engine_plays_as_the_reference_and_the_figures_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "--steps", "4000", "--results", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "engine-4000.json").read_text())
    assert [part["steps"] for part in found["games"]] == [4_000, 1_000, 1_000]
    assert found["command"] == "python -m benchmarks.soak engine --steps 4000" and found["machine"]["torch"]
    assert "engine: 6,000 steps" in capsys.readouterr().out


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["engin"])
    assert "invalid choice: 'engin'" in capsys.readouterr().err
