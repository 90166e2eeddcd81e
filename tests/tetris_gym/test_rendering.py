"""Pictures: what they show, that repainting leaves nothing behind, and that they need no display."""

import copy
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled

from tetris_gym.painting import BOARD, COLOURS
from tetris_gym.pieces import GARBAGE, spawn_cells
from tetris_gym.rendering import Scene, TetrisRenderer, ansi, frame_shape

CELL = 30
T_CELLS = spawn_cells(2)


def make_scene(**changes) -> Scene:
    field = np.zeros((24, 10), dtype=np.uint8)
    field[23] = GARBAGE
    field[23, 4] = 0
    field[22, :3] = 7
    scene = Scene(
        field=field,
        piece=2,
        piece_cells=T_CELLS,
        ghost_cells=tuple((row + 17, column) for row, column in T_CELLS),
        preview=(0, 1, 3, 4, 5),
        hold=6,
        can_hold=True,
        score=1234,
        lines=17,
        level=1,
        pieces=45,
        game_over=False,
    )
    return scene._replace(**changes)


def random_scene(rng: np.random.Generator) -> Scene:
    piece = int(rng.integers(-1, 7))
    rows = rng.permutation(np.arange(-2, 20))[:4]
    return make_scene(
        field=(rng.integers(0, 9, (24, 10)) * (rng.random((24, 10)) < 0.4)).astype(np.uint8),
        piece=None if piece < 0 else piece,
        piece_cells=tuple((int(row), int(rng.integers(10))) for row in rows),
        ghost_cells=tuple((int(row), int(rng.integers(10))) for row in rows),
        preview=tuple(rng.integers(0, 7, rng.integers(0, 6)).tolist()),
        hold=None if rng.random() < 0.3 else int(rng.integers(7)),
        can_hold=bool(rng.integers(2)),
        score=int(rng.integers(0, 10 ** rng.integers(1, 8))),
        lines=int(rng.integers(0, 300)),
        level=int(rng.integers(0, 30)),
        pieces=int(rng.integers(0, 1000)),
        game_over=rng.random() < 0.1,
    )


def cell_of(picture: np.ndarray, row: int, column: int, cell: int = CELL) -> np.ndarray:
    """The middle of a board cell."""
    height, width, _ = picture.shape
    top, left = (height - 20 * cell) // 2 + row * cell, (width - 10 * cell) // 2 + column * cell
    return picture[top + cell // 3 : top + 2 * cell // 3, left + cell // 3 : left + 2 * cell // 3].astype(int)


def board_of(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return picture[(height - 600) // 2 : (height + 600) // 2, (width - 300) // 2 : (width + 300) // 2]


def differing_columns(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.flatnonzero((first != second).any((0, 2)))


def test_import_leaves_pygame_alone():
    code = "import sys, tetris_gym; sys.exit('pygame' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pixels_need_no_display():
    code = (
        "from tests.tetris_gym.test_rendering import make_scene\n"
        "from tetris_gym.rendering import TetrisRenderer\n"
        "assert TetrisRenderer('rgb_array').draw(make_scene()).any()\n"
        "import pygame\n"
        "assert not pygame.display.get_init()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["SDL_VIDEODRIVER"] = "no such driver"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize("cell", [8, 15, 30, 47])
def test_shape(cell):
    picture = TetrisRenderer("rgb_array", cell=cell).draw(make_scene())
    assert picture.shape == frame_shape(cell)
    assert picture.dtype == np.uint8


def test_board_shows_stack_piece_and_ghost_in_their_colours():
    picture = TetrisRenderer("rgb_array").draw(make_scene())
    for row, column, value in [(0, 4, 3), (1, 3, 3), (18, 0, 7), (19, 0, GARBAGE)]:
        assert np.abs(cell_of(picture, row, column) - COLOURS[value]).max() < 40
    for row, column in [(0, 0), (10, 5), (19, 4)]:
        assert np.abs(cell_of(picture, row, column) - BOARD).max() == 0
    ghost = cell_of(picture, 17, 4).mean((0, 1))
    assert np.abs(ghost - BOARD).max() > 15
    assert np.abs(ghost - COLOURS[3]).max() > 60


def test_piece_covers_its_ghost_and_ghost_leaves_the_stack():
    scene = make_scene(piece_cells=((17, 4),), ghost_cells=((17, 4), (18, 0)))
    picture = TetrisRenderer("rgb_array").draw(scene)
    assert np.abs(cell_of(picture, 17, 4) - COLOURS[3]).max() < 40
    assert np.abs(cell_of(picture, 18, 0) - COLOURS[7]).max() < 40


def test_no_piece_and_hidden_rows():
    """A lock-out leaves no piece, and cells above the board are not drawn at its bottom."""
    empty = make_scene(piece=None, piece_cells=(), ghost_cells=())
    hidden = make_scene(piece_cells=((-1, 4), (-2, 4)), ghost_cells=((-1, 4),))
    renderer = TetrisRenderer("rgb_array")
    assert np.array_equal(renderer.draw(empty), renderer.draw(hidden))


@pytest.mark.parametrize("cell", [8, 30])
def test_repainting_leaves_nothing_behind(cell):
    rng = np.random.default_rng(0)
    kept = TetrisRenderer("rgb_array", cell=cell)
    for _ in range(12):
        scene = random_scene(rng)
        assert np.array_equal(kept.draw(scene), TetrisRenderer("rgb_array", cell=cell).draw(scene))


def test_pictures_share_no_memory():
    renderer = TetrisRenderer("rgb_array")
    scene = make_scene()
    first = renderer.draw(scene)
    before = first.copy()
    scene.field[:] = 1
    second = renderer.draw(scene)
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)
    second[:] = 0
    assert renderer.draw(scene).any()


@pytest.mark.parametrize(
    ("change", "left_side"),
    [
        ({"hold": 1}, True),
        ({"hold": None}, True),
        ({"can_hold": False}, True),
        ({"score": 9}, True),
        ({"lines": 18}, True),
        ({"level": 2}, True),
        ({"pieces": 46}, True),
        ({"preview": (0, 1, 3, 4, 6)}, False),
        ({"preview": (2, 1, 3, 4, 5)}, False),
        ({"preview": ()}, False),
    ],
)
def test_panels_show_every_figure(change, left_side):
    renderer = TetrisRenderer("rgb_array")
    columns = differing_columns(renderer.draw(make_scene()), renderer.draw(make_scene(**change)))
    assert len(columns)
    middle = frame_shape()[1] // 2
    assert (columns < middle).all() if left_side else (columns > middle).all()


def test_used_hold_is_grey():
    renderer = TetrisRenderer("rgb_array")
    panel = (slice(60, 125), slice(40, 150))
    free, used = (renderer.draw(make_scene(can_hold=can))[panel].astype(int) for can in (True, False))
    assert np.ptp(free, axis=2).max() > 150
    assert np.ptp(used, axis=2).max() < 40


def test_large_numbers_stay_in_their_panel():
    renderer = TetrisRenderer("rgb_array")
    columns = differing_columns(renderer.draw(make_scene()), renderer.draw(make_scene(score=10**15, lines=10**12 + 7)))
    assert columns.min() > 20
    assert columns.max() < 170


def test_game_over_veils_the_board_only():
    renderer = TetrisRenderer("rgb_array")
    playing, over = renderer.draw(make_scene()), renderer.draw(make_scene(game_over=True))
    assert board_of(over)[:200].max() < board_of(playing)[:200].max()
    board_left = (frame_shape()[1] - 300) // 2
    columns = differing_columns(playing, over)
    assert columns.min() >= board_left
    assert columns.max() < board_left + 300
    assert np.array_equal(renderer.draw(make_scene()), playing)


def test_veil_and_callout_write_over_the_board():
    renderer = TetrisRenderer("rgb_array")
    pictures = [
        renderer.draw(make_scene()),
        renderer.draw(make_scene(), callout="TETRIS!"),
        renderer.draw(make_scene(), veil=("PAUSED",)),
        renderer.draw(make_scene(), veil=("PAUSED", "P: go on")),
    ]
    for i, first in enumerate(pictures):
        assert all(not np.array_equal(first, second) for second in pictures[i + 1 :])


def test_ansi_without_its_colours_is_a_legible_board():
    text = TetrisRenderer("ansi").draw(make_scene(can_hold=False))
    rows = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert len(rows) == 21
    assert rows[0] == "<! . . . .[] . . . . .!>"
    assert rows[1] == "<! . . .[][][] . . . .!>  score  1234"
    assert rows[6].endswith("hold   L (used)")
    assert rows[7].endswith("next   I O S Z J")
    assert rows[17] == "<! . . . .:: . . . . .!>"
    assert rows[18] == "<![][][]::::::" + " ." * 4 + "!>"
    assert rows[19] == "<!######## .##########!>"
    assert rows[20] == "<!====================!>"
    assert "GAME OVER" not in text
    assert "GAME OVER" in ansi(make_scene(game_over=True))


def test_human_shows_the_same_pixels(monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    scene = make_scene()
    renderer = TetrisRenderer("human", fps=None)
    try:
        assert renderer.draw(scene) is None
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert np.array_equal(shown, TetrisRenderer("rgb_array").draw(scene))
        renderer.close()
        assert not pygame.display.get_init()
        assert renderer.draw(scene) is None
    finally:
        renderer.close()


def test_copies_draw_the_same():
    renderer = TetrisRenderer("rgb_array")
    picture = renderer.draw(make_scene())
    for other in (copy.deepcopy(renderer), pickle.loads(pickle.dumps(renderer))):
        assert np.array_equal(other.draw(make_scene()), picture)


def test_bad_arguments_say_what_was_expected():
    with pytest.raises(ValueError, match="rgb_array"):
        TetrisRenderer("rgb")
    with pytest.raises(ValueError, match="at least 8"):
        TetrisRenderer("rgb_array", cell=7)


def test_missing_pygame_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DependencyNotInstalled, match="pip install"):
        TetrisRenderer("rgb_array", cell=9).draw(make_scene(score=987654321))
    assert "score" in TetrisRenderer("ansi").draw(make_scene())
