"""``play``: Tetris with the keyboard, or an agent's game."""

import argparse
from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from sb3_dream.cli import DEFAULT_ALGO, DEFAULT_ENV, PROGRAM, headless, short_error
from sb3_dream.errors import CommandError, one_line
from tetris_gym.__main__ import KEYS
from tetris_gym.play import play


def main(arguments: list[str]) -> int:
    """
    ``play``.

    :param arguments: of the command
    :return: the exit status
    """
    known = _parser().parse_args(arguments)
    window = not (headless() or known.no_window)
    if not window and (known.agent is None or known.record is None):
        raise CommandError("there is no screen: to film an agent, give --agent MODEL.zip and --record FILE.gif")
    games = known.games or (None if window else 1)
    settings = {"seed": known.seed, "difficulty": known.difficulty, "record": known.record, "games": games}
    try:
        if known.agent is None:
            results = play(env=known.env or DEFAULT_ENV, **settings)
        else:
            results = _watch(known, window=window, speed=known.speed, **settings)
    except TypeError as error:
        raise CommandError(f"play is for Tetris; use enjoy for other environments ({one_line(error)})") from error
    except (ValueError, gym.error.Error) as error:
        raise CommandError(one_line(error)) from error
    for result in results:
        print(f"{result['total_lines']} lines, {result['pieces_placed']} pieces, {result['score']} points")
    return 0


def _watch(known: argparse.Namespace, **settings: Any) -> list[dict[str, Any]]:
    from sb3_dream import zoo  # takes seconds, which the keyboard need not wait for
    from sb3_dream.player import Player
    from sb3_dream.zoo_commands import load_model

    zoo.register()
    algo = known.algo or _algo_of(known.agent, zoo.ALGOS)
    zoo.check_algorithm(algo)
    env_id = known.env or _env_of(known.agent) or DEFAULT_ENV
    zoo.check_environment(env_id)
    env = gym.make(env_id)
    try:
        player = Player(load_model(algo, known.agent), env, deterministic=not known.stochastic)
        return play(player, env, **settings)
    finally:
        env.close()


def _algo_of(model: Path, known: Container[str]) -> str:
    """RL Zoo keeps models in ALGO/ENV_1/ENV.zip."""
    folder = model.resolve().parent.parent.name
    return folder if folder in known else DEFAULT_ALGO


def _env_of(model: Path) -> str | None:
    return model.stem if model.stem in gym.registry else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} play",
        description=__doc__,
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = partial(short_error, parser)  # type: ignore[method-assign, assignment]
    add = parser.add_argument
    add("--agent", type=Path, help="a model that plays; without it the keyboard is yours")
    add("--algo", help="the model's algorithm (default: what its folder says, or dream)")
    add("--env", help=f"environment id (default: what the model's name says, or {DEFAULT_ENV})")
    add("--games", type=int, help="how many games (default: until you close the window; 1 without one)")
    add("--seed", type=int, help="of the first game")
    add("--difficulty", type=int, help="0 to 10")
    add("--record", type=Path, help="a film of it, .mp4 or .gif")
    add("--speed", type=float, default=15.0, help="an agent's steps a second (default: %(default)s)")
    add("--stochastic", action="store_true", help="sample the agent's actions, not the most likely ones")
    add("--no-window", action="store_true", help="only film the agent")
    return parser
