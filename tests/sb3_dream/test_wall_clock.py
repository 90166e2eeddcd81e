"""``benchmarks/wall_clock.py``: what is trained is played as told, and every run that was measured has a row."""

import json
from pathlib import Path

import pytest

from benchmarks import wall_clock
from sb3_dream import zoo

zoo.register()


@pytest.mark.parametrize(("algo", "told"), [("a2c", "-n 80"), ("dream", "-conf quick/dream.yml -n 64")])
def test_an_algorithm_is_measured_and_tabulated(
    algo: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = wall_clock.measure(algo, told, 3, tmp_path / "agents", games=2)
    monkeypatch.setattr(wall_clock, "RESULTS", tmp_path)
    for found in played:
        assert (found["settings"], found["seed"], len(found["returns"])) == (told, 3, 2)
        assert found["training_seconds"] > 0
        (tmp_path / f"{algo}-3-{found['samples']}.json").write_text(json.dumps({"run": algo} | found))
    assert ["points" in found for found in played] == [True, False][: len(played)]
    rows = wall_clock.table().splitlines()[2:]
    ways = ["most likely", "planning"] if algo == "dream" else ["most likely"]
    assert [row.split(" | ")[3] for row in rows] == ways
    assert all(row.startswith(f"| {algo} | {'64' if algo == 'dream' else '80'} | ") for row in rows)


def test_progress_is_told_in_equal_parts_of_the_steps(tmp_path: Path) -> None:
    header = '#{"t_start": 0.0, "env_id": "TetrisDirect-v0"}\nr,l,t,total_lines\n'
    (tmp_path / "0.monitor.csv").write_text(header + "1.0,10,2.0,0\n3.0,30,8.0,2\n")
    (tmp_path / "1.monitor.csv").write_text(header + "2.0,10,3.0,1\n4.0,30,9.0,4\n")
    assert wall_clock.progress(tmp_path, 90, points=2) == [
        {"steps": 45, "seconds": 3.0, "games": {"returns": [1.5], "counters": {"total_lines": [0.5]}}},
        {"steps": 90, "seconds": 9.0, "games": {"returns": [3.5], "counters": {"total_lines": [3.0]}}},
    ]
