"""``benchmarks/learning.py``: results are kept one file a run, and tabulated."""

import json
from pathlib import Path

import pytest

from benchmarks import learning


def test_a_task_leaves_a_file_for_each_run_and_a_row_for_each_algorithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "RESULTS", tmp_path / "results")
    assert learning.run("tetris", steps=60, seeds=2, algos="random", folder=tmp_path / "runs") == 0
    assert learning.run("tetris", steps=70, seeds=1, algos="random", folder=tmp_path / "runs") == 0
    kept = sorted(path.name for path in (tmp_path / "results" / "tetris").iterdir())
    assert kept == ["random-60-0.json", "random-60-1.json", "random-70-0.json"]
    found = json.loads((tmp_path / "results" / "tetris" / "random-60-1.json").read_text())
    assert (found["env"], found["seed"], len(found["final"]["returns"])) == ("TetrisDirect-v0", 1, 100)
    assert {"torch", "gymnasium"} <= found["versions"].keys()
    rows = learning.table(learning.finished_runs()).splitlines()
    assert [row.split("|")[1:4] for row in rows[2:]] == [
        [" tetris ", " 60 ", " random "],
        [" tetris ", " 70 ", " random "],
    ]
    assert rows[2].count(",") == 2  # two seeds: two returns, two means of lines
