"""Pictures of a game: a window, an array of pixels, or text. pygame is imported only when pixels are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tetris_gym.pieces import GARBAGE, HIDDEN_ROWS, NUM_COLUMNS, NUM_ROWS, PIECE_NAMES

if TYPE_CHECKING:
    from tetris_gym.painting import Painter

CELL: Final = 30  #: pixels of a board cell, unless told otherwise
SMALLEST_CELL: Final = 8
PANEL_CELLS: Final = 5  #: width of the panels beside the board

Cells = tuple[tuple[int, int], ...]


class Scene(NamedTuple):
    """
    All that a picture of a game shows.

    :param field: the stack, shape ``(24, 10)``, uint8, the four hidden rows first: 0 empty, piece id + 1, garbage 8
    :param piece: id of the falling piece, or None when there is none
    :param piece_cells: its cells as (row, column), row 0 being the top visible one (-4 to 19)
    :param ghost_cells: where a hard drop would put them
    :param preview: the ids of up to five coming pieces, the next one first
    :param hold: id of the held piece, or None
    :param can_hold: whether the current piece may still be exchanged for it
    :param game_over: whether the game has ended
    """

    field: NDArray[np.uint8]
    piece: int | None
    piece_cells: Cells
    ghost_cells: Cells
    preview: tuple[int, ...]
    hold: int | None
    can_hold: bool
    score: int
    lines: int
    level: int
    pieces: int
    game_over: bool


def frame_shape(cell: int = CELL) -> tuple[int, int, int]:
    """
    :param cell: width of one board cell in pixels
    :return: (height, width, 3) of a picture: the board between two panels, with gaps around each
    """
    gap = gap_pixels(cell)
    return NUM_ROWS * cell + 2 * gap, (NUM_COLUMNS + 2 * PANEL_CELLS) * cell + 4 * gap, 3


def gap_pixels(cell: int) -> int:
    """
    :param cell: width of one board cell in pixels
    :return: the gap between the parts of a picture
    """
    return round(cell * 2 / 3)


class TetrisRenderer:
    """
    Draws scenes.

    :param render_mode: "human" (a window), "rgb_array" (needs no display) or "ansi" (text with colours)
    :param cell: width of one board cell in pixels
    :param fps: pictures a second at which "human" draws at most, or None for no limit; by default the metadata's
    :raises ValueError: for another mode, or a cell of less than 8 pixels
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 30}

    def __init__(self, render_mode: str, cell: int = CELL, fps: float | None = metadata["render_fps"]) -> None:
        if render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be one of {self.metadata['render_modes']}, got {render_mode!r}")
        if cell < SMALLEST_CELL:
            raise ValueError(f"cell must be at least {SMALLEST_CELL} pixels, got {cell}")
        self.render_mode = render_mode
        self.cell = cell
        self.fps = fps
        self._painter: Painter | None = None
        self._window: Any = None
        self._clock: Any = None

    def draw(self, scene: Scene, veil: tuple[str, ...] = (), callout: str = "") -> NDArray[np.uint8] | str | None:
        """
        :param scene: what to draw
        :param veil: lines of text over a darkened board (pixels only); a game that is over brings its own
        :param callout: a short text over the board (pixels only)
        :return: by the mode, None, pixels ``(height, width, 3)`` in RGB, or text
        :raises DependencyNotInstalled: when pixels are wanted and pygame is missing
        """
        if self.render_mode == "ansi":
            return ansi(scene)
        picture = self.paint(scene, veil, callout)
        if self.render_mode == "rgb_array":
            return picture
        self._show(picture)
        return None

    def paint(self, scene: Scene, veil: tuple[str, ...] = (), callout: str = "") -> NDArray[np.uint8]:
        """The pixels of a scene in any mode; see :meth:`draw`."""
        if self._painter is None:
            from tetris_gym.painting import Painter

            self._painter = Painter(self.cell)
        return self._painter.paint(scene, veil, callout)

    def close(self) -> None:
        """Close the window, if there is one. Drawing again opens another."""
        if self._window is not None:
            import pygame

            pygame.display.quit()
            self._window = self._clock = None

    def _show(self, picture: NDArray[np.uint8]) -> None:
        import pygame

        size = (picture.shape[1], picture.shape[0])
        if self._window is None:
            pygame.display.init()
            pygame.display.set_caption("Tetris Gym")
            self._window = pygame.display.set_mode(size)
            self._clock = pygame.time.Clock()
        self._window.blit(pygame.image.frombuffer(picture.data, size, "RGB"), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        if self.fps is not None:
            self._clock.tick(self.fps)

    def __getstate__(self) -> dict[str, Any]:
        """A copy of an environment that is being watched draws into a window of its own, once it draws."""
        return {**self.__dict__, "_painter": None, "_window": None, "_clock": None}


#: 256-colour terminal codes by cell value
_ANSI_COLOURS = {1: 45, 2: 220, 3: 134, 4: 77, 5: 203, 6: 63, 7: 208, 8: 245}


def ansi(scene: Scene) -> str:
    """
    :return: the visible board with its frame and the figures beside it; legible without the colours too: blocks are
        ``[]``, garbage ``##``, the ghost ``::``
    """
    board = [
        [_coloured("##" if cell == GARBAGE else "[]", cell) if cell else " ." for cell in row]
        for row in scene.field[HIDDEN_ROWS:].tolist()
    ]
    if scene.piece is not None:
        for text, cells in (("::", scene.ghost_cells), ("[]", scene.piece_cells)):
            for row, column in cells:
                if row >= 0:
                    board[row][column] = _coloured(text, scene.piece + 1)
    held = "-" if scene.hold is None else _piece_name(scene.hold)
    figures = {
        1: f"score  {scene.score}",
        2: f"lines  {scene.lines}",
        3: f"level  {scene.level}",
        4: f"pieces {scene.pieces}",
        6: f"hold   {held}{'' if scene.can_hold else ' (used)'}",
        7: f"next   {' '.join(_piece_name(piece) for piece in scene.preview)}",
        9: "GAME OVER" if scene.game_over else "",
    }
    rows = ["<!" + "".join(row) + "!>  " + figures.get(i, "") for i, row in enumerate(board)]
    return "\n".join(row.rstrip() for row in [*rows, "<!" + "=" * 2 * NUM_COLUMNS + "!>"]) + "\n"


def _coloured(text: str, value: int) -> str:
    return f"\x1b[38;5;{_ANSI_COLOURS[value]}m{text}\x1b[0m"


def _piece_name(piece: int) -> str:
    return _coloured(PIECE_NAMES[piece], piece + 1)
