"""``python -m tetris_gym``: the game, with a keyboard."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.error import DependencyNotInstalled
from gymnasium.error import Error as GymnasiumError

KEYS = """\
keys:
  left, right    move           up, x       rotate clockwise
  down           soft drop      z, ctrl     rotate counter-clockwise
  space          hard drop      c, shift    hold
  p              pause          r           restart
  esc            quit
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tetris_gym",
        description="Play the Tetris that the agents learn, under the same rules.",
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--difficulty", type=int, default=0, metavar="0..10", help="garbage rows, and gravity (default 0)"
    )
    parser.add_argument("--seed", type=int, help="of the first game: the same seed gives the same pieces")
    parser.add_argument("--record", metavar="FILE", help="write a film, game.mp4 or game.gif")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the window (default 1.0: 680 x 640 pixels)")
    parser.add_argument("--das", type=float, default=167, metavar="MS", help="delayed auto shift (default 167 ms)")
    parser.add_argument("--arr", type=float, default=33, metavar="MS", help="auto repeat rate (default 33 ms)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: of the command line; those of the process by default
    :return: the exit status
    """
    options = _parser().parse_args(arguments)
    print(KEYS)
    try:
        from tetris_gym.painting import import_pygame
        from tetris_gym.play import play

        window_error = import_pygame().error
    except DependencyNotInstalled as error:
        return _fail(error)
    try:
        results = play(
            seed=options.seed,
            difficulty=options.difficulty,
            scale=options.scale,
            record=options.record,
            das=options.das / 1000,
            arr=options.arr / 1000,
        )
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, GymnasiumError) as error:
        return _fail(error)
    except window_error as error:
        return _fail(f"no window can be opened ({error}): is there a display?")
    for number, info in enumerate(results, 1):
        print(
            f"game {number}: {info['score']:,} points, {info['total_lines']} lines, level {info['level']}, "
            f"{info['pieces_placed']} pieces"
        )
    return 0


def _fail(error: object) -> int:
    print(f"tetris_gym: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
