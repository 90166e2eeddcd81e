"""Placements: where the current piece can come to rest, and putting it there in one step."""

from __future__ import annotations

from typing import Final

from tetris_gym.pieces import NUM_COLUMNS, NUM_ROTATIONS, NUM_ROWS

NUM_PLACEMENTS: Final = NUM_ROWS * NUM_COLUMNS * NUM_ROTATIONS
