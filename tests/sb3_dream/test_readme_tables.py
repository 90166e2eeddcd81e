"""``benchmarks/readme.py``: the README's tables are those of the results, and what is missing is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning, readme

README = Path(__file__).parents[2] / "README.md"


def keep(folder: Path, name: str, **found: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"steps": 60_000, "seed": int(name[-6])} | found))


def games(*lines: float) -> dict[str, Any]:
    counters = {"total_lines": list(lines), "pieces_placed": [10.0 + 5.0 * number for number in lines]}
    return {"returns": [2.0 * number for number in lines], "counters": counters}


def test_the_readme_shows_the_results_as_they_are() -> None:
    text = README.read_text(encoding="utf-8")
    assert readme.fill(text) == text, "run: python -m benchmarks.results_page"
    assert [found["name"] for found in readme.TABLE.finditer(text)] == [*readme.TETRIS, "others"]


def test_rows_of_tetris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    keep(tmp_path, "a/ppo-60-1.json", final=games(1.0, 2.0), seconds=90.0)
    keep(tmp_path, "a/ppo-60-0.json", final=games(0.0, 1.0), seconds=100.0)
    keep(tmp_path, "b/dream-0.json", **games(2.0, 4.0), seconds=5.0, training_seconds=7_140.0)
    keep(tmp_path, "b/played-3.json", **games(3.0, 3.0), seconds=5.0)
    ppo = readme.tetris_row(readme.Row("PPO", "a/ppo-60-*"))
    assert ppo == ["PPO", "60,000", "95 s", "0, 1", "15.0", "0.50, 1.50", ""]
    dream = readme.tetris_row(readme.Row("DREAM", "b/dream-*", "b/played-*"))
    assert dream == ["DREAM", "60,000", "119 min", "0", "25.0", "**3.00 ± 0.71**", "**3.00 ± 0.00**"]
    told = readme.tetris_row(readme.Row("DREAM", "b/played-*", training="an hour"))
    assert told[2:5] == ["an hour", "3", "25.0"]


def test_rows_of_other_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    dream, random = ({"task": "cartpole", "algo": algo, "steps": 5_000} for algo in ("dream", "random"))
    keep(tmp_path, "cartpole/dream-5000-0.json", **dream, final=games(100.0, 150.0), seconds=200.0)
    keep(tmp_path, "cartpole/dream-5000-1.json", **dream, final=games(50.0, 100.0), seconds=400.0)
    keep(tmp_path, "cartpole/random-5000-0.json", **random, final=games(3.0, 4.0), seconds=0.01)
    keep(tmp_path, "cartpole/random-60-0.json", **random | {"steps": 60}, final=games(9.0), seconds=0.01)  # not shown
    row = ["`CartPole-v1`", "5,000", "**200**", "2", "5.0 min", "random 7.00"]
    assert readme.other_row("cartpole", learning.finished_runs()) == row
    with pytest.raises(ValueError, match="no results of DREAM on pendulum after 8000 steps"):
        readme.other_row("pendulum", learning.finished_runs())


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no table 'tetris': expected others, placements, steps"):
        readme.fill("<!-- table tetris -->\n<!-- end -->")
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match=r"no results planning/placement-sight-100000-\*-0-12.json in"):
        readme.fill("<!-- table placements -->\n<!-- end -->")
