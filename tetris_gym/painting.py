"""Pixels of a scene: a frame that is kept, and repainted only where the scene changed.

Everything is composed in numpy, so that a picture needs no display, no window and no video driver; pygame
(imported on first use) is asked only for the glyphs of its bundled font. Shapes are antialiased from signed
distances, at any cell size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from tetris_gym.pieces import GARBAGE, HIDDEN_ROWS, NUM_COLUMNS, NUM_PIECES, NUM_ROWS, spawn_cells
from tetris_gym.rendering import CELL, PANEL_CELLS, Scene, frame_shape, gap_pixels

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

#: Guideline colours by cell value: 1 to 7 are the pieces I, O, T, S, Z, J and L, 8 is garbage.
COLOURS: dict[int, Colour] = {
    1: (38, 198, 232),
    2: (246, 205, 36),
    3: (172, 78, 222),
    4: (82, 198, 74),
    5: (236, 60, 66),
    6: (64, 104, 236),
    7: (244, 138, 36),
    GARBAGE: (112, 118, 138),
}
GHOST = 8  #: added to a piece's cell value: the tile of its ghost

BACKDROP_TOP: Colour = (30, 34, 62)
BACKDROP_BOTTOM: Colour = (13, 14, 26)
BOARD: Colour = (12, 13, 24)
GRID_LINE: Colour = (25, 28, 46)
PANEL: Colour = (21, 23, 42)
EDGE: Colour = (62, 70, 118)
LABEL: Colour = (128, 138, 182)
VALUE: Colour = (238, 241, 255)
ACCENT: Colour = (255, 206, 92)
TRACK: Colour = (42, 46, 76)

PREVIEWS = 5
LINES_PER_LEVEL = 10


def import_pygame() -> Any:
    """
    :return: the pygame module
    :raises DependencyNotInstalled: when there is none
    """
    try:
        import pygame
    except ImportError as error:
        raise DependencyNotInstalled(
            'Pictures of the game need pygame: run `pip install "sb3-dream[play]"`.'
        ) from error
    return pygame


def _mix(under: NDArray[Any], over: NDArray[Any] | Colour, alpha: NDArray[Any] | float) -> Pixels:
    """
    :param under: colours, shape ``(h, w, 3)``
    :param over: colours that broadcast to the same shape
    :param alpha: opacity of ``over`` in [0, 1], a number or shape ``(h, w)``
    """
    opacity = np.asarray(alpha, dtype=np.float32)[..., None]
    base = under.astype(np.float32)
    return np.clip(base + (np.asarray(over, dtype=np.float32) - base) * opacity + 0.5, 0, 255).astype(np.uint8)


def _distance(height: int, width: int, inset: float, radius: float) -> NDArray[np.float32]:
    """
    Signed distance in pixels, negative inside, of each pixel's centre to a rounded rectangle.

    :param inset: how far the rectangle lies inside the ``(height, width)`` area (negative: outside), in pixels
    """
    y = np.abs(np.arange(height, dtype=np.float32) + 0.5 - height / 2) - (height / 2 - inset - radius)
    x = np.abs(np.arange(width, dtype=np.float32) + 0.5 - width / 2) - (width / 2 - inset - radius)
    outside = np.hypot(np.maximum(y, 0)[:, None], np.maximum(x, 0)[None, :])
    inside = np.minimum(np.maximum(y[:, None], x[None, :]), 0)
    return (outside + inside - radius).astype(np.float32)


def _coverage(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(0.5 - distance, 0.0, 1.0)


def _block(colour: Colour, size: int) -> tuple[Pixels, NDArray[np.float32]]:
    """A bevelled block lit from the upper left: its colours ``(size, size, 3)`` and its opacity ``(size, size)``."""
    oversampling = 4
    n = size * oversampling
    at = (np.arange(n, dtype=np.float32) + 0.5) / n
    y, x = np.broadcast_to(at[:, None], (n, n)), np.broadcast_to(at[None, :], (n, n))
    depths = np.stack([y, x, 1 - x, 1 - y])
    side_light = np.array([0.50, 0.22, -0.22, -0.42], dtype=np.float32)[depths.argmin(0)]
    face_light = 0.10 - 0.24 * (0.65 * y + 0.35 * x)
    light = np.where(depths.min(0) < 0.135, side_light, face_light)[..., None]
    base = np.array(colour, dtype=np.float32)
    pixels = np.where(light > 0, base + (255 - base) * light, base * (1 + light))
    pixels = pixels.reshape(size, oversampling, size, oversampling, 3).mean((1, 3))
    return (pixels + 0.5).astype(np.uint8), _coverage(_distance(size, size, size / 60, size / 9))


def _ghost(colour: Colour, under: Pixels) -> Pixels:
    size = len(under)
    distance = _distance(size, size, size / 15, size / 8)
    filled = _mix(under, colour, 0.17 * _coverage(distance))
    return _mix(filled, colour, 0.7 * _coverage(np.abs(distance + size / 30) - size / 30))


def _tiles(size: int) -> Pixels:
    """Opaque tiles by cell value (0 empty, 1 to 8 blocks, ``GHOST + 1`` to ``GHOST + 7``): ``(16, size, size, 3)``."""
    empty = np.empty((size, size, 3), dtype=np.uint8)
    empty[:] = BOARD
    empty[0, :] = empty[:, 0] = GRID_LINE
    tiles = np.repeat(empty[None], GHOST + NUM_PIECES + 1, axis=0)
    for value, colour in COLOURS.items():
        tiles[value] = _mix(empty, *_block(colour, size))
    for value in range(1, NUM_PIECES + 1):
        tiles[GHOST + value] = _ghost(COLOURS[value], empty)
    return tiles


@lru_cache(maxsize=512)
def _glyphs(text: str, height: int) -> NDArray[np.float32]:
    """
    :return: the opacity of one line of text in pygame's own font, without the empty columns at its ends; drawn four
        times too large and averaged, because small glyphs are set on whole pixels and then stand unevenly
    """
    pygame = import_pygame()
    if not pygame.font.get_init():
        pygame.font.init()
    surface = pygame.font.Font(None, 4 * height).render(text, True, (255, 255, 255))
    width, rows = surface.get_size()
    opacity = np.frombuffer(pygame.image.tobytes(surface, "RGBA"), dtype=np.uint8).reshape(rows, width, 4)[..., 3]
    used = np.flatnonzero(opacity.any(0))
    inked = opacity[:, used[0] : used[-1] + 1] if len(used) else opacity[:, :0]
    padded = np.pad(inked, ((0, -rows % 4), (0, -inked.shape[1] % 4))).astype(np.float32) / 255
    return padded.reshape(len(padded) // 4, 4, padded.shape[1] // 4, 4).mean((1, 3))


class Painter:
    """
    Paints scenes of one size.

    :param cell: width of one board cell in pixels, see :func:`~tetris_gym.rendering.frame_shape`
    """

    def __init__(self, cell: int = CELL) -> None:
        self.cell = cell
        gap = gap_pixels(cell)
        panel = PANEL_CELLS * cell
        board_width, board_height = NUM_COLUMNS * cell, NUM_ROWS * cell
        self.height, self.width, _ = frame_shape(cell)
        self._tiles = _tiles(cell)
        self._background = self._backdrop()
        self._board = (gap, 2 * gap + panel, board_height, board_width)
        self._frame_board()
        unit, left, right = cell, gap, 3 * gap + panel + board_width
        header = round(1.15 * unit)
        self._slot = (round(2.55 * unit), panel - 2 * round(0.2 * unit))
        slot_left = round(0.2 * unit)
        slot_height = self._slot[0]
        self._panel(gap, left, header + slot_height + round(0.2 * unit), "HOLD")
        self._hold_at = (gap + header, left + slot_left)
        self._panel(gap, right, header + PREVIEWS * slot_height + round(0.2 * unit), "NEXT")
        self._next_at = [(gap + header + i * slot_height, right + slot_left) for i in range(PREVIEWS)]
        box, space = round(2.55 * unit), round(0.42 * unit)
        first = gap + board_height - 4 * box - 3 * space
        self._numbers: dict[str, tuple[int, int]] = {}
        for i, name in enumerate(("score", "level", "lines", "pieces")):
            top = first + i * (box + space)
            self._panel(top, left, box, name.upper())
            self._numbers[name] = (top + round(0.92 * unit), left)
        self._bar_at = (self._numbers["level"][0] + round(1.22 * unit), left + round(0.45 * unit))
        self._wordmark(gap + board_height, right)
        self._minis = {piece: self._mini(piece, faded=False) for piece in range(NUM_PIECES)}
        self._faded = {piece: self._mini(piece, faded=True) for piece in range(NUM_PIECES)}
        self._frame = self._background.copy()
        self._cells = np.zeros((NUM_ROWS, NUM_COLUMNS), dtype=np.uint8)
        self._shown: dict[str, Any] = {}

    def paint(self, scene: Scene, veil: tuple[str, ...] = (), callout: str = "") -> Pixels:
        """
        :param scene: what to show
        :param veil: lines of text over a darkened board, the first one large; a game that is over has its own
        :param callout: a short praise over the board, such as "TETRIS"
        :return: a new picture, shape ``(height, width, 3)``, in RGB
        """
        self._paint_board(scene)
        self._paint_panels(scene)
        picture = self._frame.copy()
        if scene.game_over and not veil:
            veil = ("GAME OVER", f"{scene.score:,} points", f"{scene.lines:,} lines")
        if veil:
            self._paint_veil(picture, veil)
        elif callout:
            self._paint_callout(picture, callout)
        return picture

    # ---------------------------------------------------------------- what changes

    def _paint_board(self, scene: Scene) -> None:
        cells = scene.field[HIDDEN_ROWS:].copy()
        if scene.piece is not None:
            value = scene.piece + 1
            for row, column in scene.ghost_cells:
                if row >= 0 and cells[row, column] == 0:
                    cells[row, column] = GHOST + value
            for row, column in scene.piece_cells:
                if row >= 0:
                    cells[row, column] = value
        top, left, height, width = self._board
        size, rows, columns = self.cell, NUM_ROWS, NUM_COLUMNS
        board = self._frame[top : top + height, left : left + width].reshape(rows, size, columns, size, 3)
        for row, column in np.argwhere(cells != self._cells).tolist():
            board[row, :, column] = self._tiles[cells[row, column]]
        self._cells = cells

    def _paint_panels(self, scene: Scene) -> None:
        if self._changed("hold", (scene.hold, scene.can_hold)):
            self._paint_slot(self._hold_at, scene.hold, faded=not scene.can_hold)
        for i, at in enumerate(self._next_at):
            piece = scene.preview[i] if i < len(scene.preview) else None
            if self._changed(f"next {i}", piece):
                self._paint_slot(at, piece, faded=False)
        for name, (top, left) in self._numbers.items():
            number = getattr(scene, name)
            if self._changed(name, number):
                height, width = round(1.1 * self.cell), PANEL_CELLS * self.cell - 2 * round(0.45 * self.cell)
                left += round(0.45 * self.cell)
                self._frame[top : top + height, left : left + width] = PANEL
                self._write(self._frame, f"{number:,}", 1.0, VALUE, top + height / 2, left=left, fit=width)
        if self._changed("bar", scene.lines % LINES_PER_LEVEL):
            self._paint_bar(scene.lines % LINES_PER_LEVEL)

    def _changed(self, name: str, value: object) -> bool:
        if name in self._shown and self._shown[name] == value:
            return False
        self._shown[name] = value
        return True

    def _paint_slot(self, at: tuple[int, int], piece: int | None, faded: bool) -> None:
        height, width = self._slot
        slot = self._frame[at[0] : at[0] + height, at[1] : at[1] + width]
        slot[:] = PANEL if piece is None else (self._faded if faded else self._minis)[piece]

    def _paint_bar(self, filled: int) -> None:
        top, left = self._bar_at
        size = self.cell
        height, width = max(2, round(0.14 * size)), PANEL_CELLS * size - 2 * round(0.45 * size)
        bar = self._frame[top : top + height, left : left + width]
        bar[:] = _mix(
            np.broadcast_to(np.array(PANEL), bar.shape), TRACK, _coverage(_distance(height, width, 0, height / 2))
        )
        done = round(width * filled / LINES_PER_LEVEL)
        if done:
            bar[:, :done] = _mix(bar[:, :done], ACCENT, _coverage(_distance(height, done, 0, min(height, done) / 2)))

    def _paint_veil(self, picture: Pixels, lines: tuple[str, ...]) -> None:
        top, left, height, width = self._board
        board = picture[top : top + height, left : left + width]
        text_height = (1.45 + 0.95 * (len(lines) - 1)) * self.cell
        centre_x, y = left + width / 2, top + 0.44 * height
        away = np.abs(np.arange(height) - (y - top + text_height / 2 - 0.7 * self.cell)) / (text_height / 2 + self.cell)
        opacity = np.rint(256 * (0.72 + 0.2 * np.clip(2 - away, 0, 1))).astype(np.uint16)[:, None, None]  # of 256
        colours = board.astype(np.uint16)  # integers: floats take twice as long
        grey = (colours[..., :1] + 2 * colours[..., 1:2] + colours[..., 2:]) >> 2
        paled = (5 * colours + 3 * grey) >> 3
        board[:] = (paled * (256 - opacity) + np.array(BOARD, dtype=np.uint16) * opacity) >> 8
        self._write(picture, lines[0], 1.45, VALUE, y, centre=centre_x, fit=round(0.9 * width))
        for i, line in enumerate(lines[1:]):
            offset = (1.45 + 0.95 * i) * self.cell
            self._write(
                picture, line, 0.72, LABEL if i else ACCENT, y + offset, centre=centre_x, fit=round(0.9 * width)
            )

    def _paint_callout(self, picture: Pixels, text: str) -> None:
        top, left, height, width = self._board
        y, x = top + 0.3 * height, left + width / 2
        fit = round(0.9 * width)
        for shift in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            self._write(picture, text, 1.3, BOARD, y + 2 * shift[0], centre=x + 2 * shift[1], fit=fit)
        self._write(picture, text, 1.3, ACCENT, y, centre=x, fit=fit)

    # ---------------------------------------------------------------- what stays

    def _backdrop(self) -> Pixels:
        blend = np.linspace(0, 1, self.height, dtype=np.float32)[:, None, None]
        gradient = np.array(BACKDROP_TOP) * (1 - blend) + np.array(BACKDROP_BOTTOM) * blend
        return np.repeat((gradient + 0.5).astype(np.uint8), self.width, axis=1)

    def _frame_board(self) -> None:
        top, left, height, width = self._board
        size, edge = self.cell, max(1.0, self.cell / 12)
        glow = round(0.6 * size)
        around = self._background[top - glow : top + height + glow, left - glow : left + width + glow]
        distance = _distance(height + 2 * glow, width + 2 * glow, glow - edge, edge)
        around[:] = _mix(around, EDGE, 0.45 * np.exp(-np.maximum(distance, 0) * 4.5 / size))
        around[:] = _mix(around, EDGE, _coverage(distance))
        board = self._background[top : top + height, left : left + width]
        board[:] = np.tile(self._tiles[0], (NUM_ROWS, NUM_COLUMNS, 1))

    def _panel(self, top: int, left: int, height: int, title: str) -> None:
        size = self.cell
        area = self._background[top : top + height, left : left + PANEL_CELLS * size]
        distance = _distance(height, PANEL_CELLS * size, 0.5, 0.3 * size)
        area[:] = _mix(area, PANEL, _coverage(distance))
        area[:] = _mix(area, EDGE, 0.75 * _coverage(np.abs(distance + 0.5) - max(0.5, size / 40)))
        self._write(
            self._background, title, 0.56, LABEL, top + 0.66 * size, left=left + round(0.45 * size), fit=4 * size
        )

    def _wordmark(self, bottom: int, left: int) -> None:
        """A row of seven small blocks, one of each colour, over the name, in the free corner."""
        size, width = self.cell, PANEL_CELLS * self.cell
        mini = round(0.5 * size)
        pitch = (width - mini) / (NUM_PIECES - 1)
        for i in range(NUM_PIECES):
            x = left + round(i * pitch)
            area = self._background[bottom - mini : bottom, x : x + mini]
            area[:] = _mix(area, *_block(COLOURS[i + 1], mini))
        y = bottom - 1.15 * size
        self._write(self._background, "TETRIS GYM", 0.82, VALUE, y, centre=left + width / 2, fit=width)

    def _mini(self, piece: int, faded: bool) -> Pixels:
        """A piece in the middle of a preview slot; faded where it cannot be taken."""
        height, width = self._slot
        size = max(2, round(0.78 * self.cell))
        slot = np.empty((height, width, 3), dtype=np.uint8)
        slot[:] = PANEL
        cells = np.array(spawn_cells(piece))
        cells -= cells.min(0)
        extent = (cells.max(0) + 1) * size
        corner = np.round((np.array([height, width]) - extent) / 2).astype(int)
        block, opacity = _block(COLOURS[piece + 1], size)
        if faded:
            block = np.repeat((block.mean(2, keepdims=True) * 0.55).astype(np.uint8), 3, axis=2)
        for row, column in (cells * size + corner).tolist():
            area = slot[row : row + size, column : column + size]
            area[:] = _mix(area, block, opacity)
        return slot

    # ---------------------------------------------------------------- text

    def _write(
        self,
        picture: Pixels,
        text: str,
        size: float,
        colour: Colour,
        middle: float,
        *,
        left: float | None = None,
        centre: float = 0.0,
        fit: int,
    ) -> None:
        """
        Write one line of text, smaller where it would be too wide.

        :param size: height of the font in cells
        :param middle: vertical middle of the line in pixels
        :param left: where it starts in pixels, or None to centre it on ``centre``
        :param fit: greatest width in pixels
        """
        height = max(6, round(1.25 * size * self.cell))
        glyphs = _glyphs(text, height)
        while glyphs.shape[1] > fit and height > 6:
            height = max(6, min(height - 1, height * fit // glyphs.shape[1]))
            glyphs = _glyphs(text, height)
        rows, width = glyphs.shape
        x = round(centre - width / 2 if left is None else left)
        y = round(middle - rows / 2)
        area = picture[y : y + rows, x : x + width]
        area[:] = _mix(area, colour, glyphs[: area.shape[0], : area.shape[1]])
