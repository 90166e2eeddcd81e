"""What the cache of compiled code depends on, and what becomes of compiled functions in Python."""

from __future__ import annotations

import ast
from pathlib import Path

from tetris_gym import compiling, movement
from tetris_gym.layout import new_games
from tetris_gym.outcome import read_outcome
from tetris_gym.rewards import lines_only, standard


def imported(name: str) -> set[str]:
    """The modules of the package that one of them imports."""
    tree = ast.parse(Path(compiling.__file__).with_name(f"{name}.py").read_text())
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "tetris_gym":
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("tetris_gym."):
            modules.add(str(node.module).removeprefix("tetris_gym."))
    return modules


def test_a_change_of_any_compiled_source_makes_the_cache_stale():
    """Otherwise a changed rule would go unnoticed until somebody empties the cache."""
    sources, new = set(), {"kernels"}
    while new:
        sources |= new
        new = set().union(*map(imported, new)) - sources
    assert sources == set(compiling._SOURCES)


def test_compiled_functions_are_plain_ones_in_python():
    game = new_games(1)[0]
    assert not movement.fits(game, movement.SHAPES[0, 0], -4, 0)
    outcome = read_outcome(game.tolist())
    assert standard(outcome._replace(placed=True, lines=1)) == 2 + 3
    assert lines_only(outcome._replace(placed=True, lines=4)) == 8
