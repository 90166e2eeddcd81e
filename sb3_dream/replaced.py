"""Putting something else in a module's place for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(target: Any, **names: Any) -> Iterator[None]:
    """
    Set attributes, and put back what was there. RL Zoo's functions take no hooks, but look up their parts in modules.

    :param target: a module or a class
    :param names: the attributes, which must exist, and their values inside the ``with`` block
    """
    before = {name: getattr(target, name) for name in names}
    try:
        for name, value in names.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)
