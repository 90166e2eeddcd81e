"""What the cache of compiled code depends on."""

from __future__ import annotations

import ast
from pathlib import Path

from tetris_gym import compiling


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
