"""``benchmarks/results_page.py``: every run that is there is on the page, with a figure where there are curves."""

import json
from pathlib import Path

import pytest

from benchmarks import ablations, learning, planning, quick_fixed, results_page, wall_clock


def test_the_page_shows_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    games = {"returns": [1.0, 2.0], "counters": {"total_lines": [0.0, 3.0], "pieces_placed": [10.0, 20.0]}}
    run = {"steps": 60, "seed": 0, "seconds": 5.0, "final": games, "points": []}
    points = [{"steps": 60, "seconds": 5.0, "games": games}]
    kept = {
        "cartpole/random-60-0.json": run | {"task": "cartpole", "algo": "random"},
        "tetris/dream-60-0.json": run | {"task": "tetris", "algo": "dream", "points": points},
        "tetris/ppo-70-0.json": run | {"task": "tetris", "algo": "ppo", "steps": 70},
        "tetris/random-60-0.json": run | {"task": "tetris", "algo": "random"},
        "planning/columns-60-0-16-12.json": games
        | {"actor": "columns", "steps": 60, "seed": 0, "samples": 16, "horizon": 12, "milliseconds_an_action": 4.0},
        "wall_clock/ppo-0-0.json": games
        | {"run": "ppo", "steps": 90, "seed": 0, "samples": 0, "training_seconds": 9.0, "points": points},
        "ablations/no-masks-1.json": games | {"variant": "no masks", "seconds": 7.0},
        "quick_fixed/fixed-0.json": {"run": "fixed", "seed": 0, "updates": 12, "points": points},
    }
    for name, found in kept.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(found))
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    monkeypatch.setattr(planning, "RESULTS", tmp_path / "planning")
    monkeypatch.setattr(wall_clock, "RESULTS", tmp_path / "wall_clock")
    monkeypatch.setattr(ablations, "RESULTS", tmp_path / "ablations")
    monkeypatch.setattr(quick_fixed, "RESULTS", tmp_path / "quick_fixed")
    text = results_page.write_page(tmp_path / "docs").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## TetrisDirect-v0, 60 steps",
        "## TetrisDirect-v0, 70 steps",
        "## CartPole-v1, 60 steps",
        "## Planning on Tetris",
        "## TetrisDirect-v0 in the same time",
        "## Ablations",
        "## As much from each update",
    ]
    assert (
        text.count("| tetris | 60 | ") == 2
        and "| columns | 60 | 0 | 16 | 12 | 2 | 1.50 ± 1.06 | 3 | 15.0 | 1.5 | 4.0 |" in text
    )
    assert "| ppo | 90 | 9 | most likely | 1.50 ± 1.06 | 1.5 |" in text
    assert "| no masks | `use_masking:False` | 1.5 | 2 | 7 |" in text
    assert "| `fixed` | 60 | 12 | 2 | 5 |" in text
    figures = {path.name for path in (tmp_path / "docs" / "images" / "results").iterdir()}
    assert figures == {
        "tetris-60.png",
        "wall_clock.png",
        "quick_fixed.png",
    }  # nothing was measured on the way to the others
    assert all(text.count(f"](images/results/{figure})") == 1 for figure in figures)
