"""Files and folders that are there completely or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ASIDE = ".writing-"


@contextmanager
def replaced_at_once(path: Path) -> Iterator[BinaryIO]:
    """
    Write a file aside, then put it in its place. If the ``with`` block raises, what was there stays.

    :param path: the file; missing folders are made
    :return: an open file, for the ``with`` block
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{_ASIDE}{os.getpid()}-{path.name}")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextmanager
def added_at_once(folder: Path) -> Iterator[Path]:
    """
    Fill a new folder aside, then give it its name. If the ``with`` block raises, it is as if nothing had been done.

    :param folder: the new folder, in one that exists
    :return: where to put its files, for the ``with`` block
    """
    aside = folder.with_name(f"{_ASIDE}{os.getpid()}-{folder.name}")
    aside.mkdir()
    try:
        yield aside
        for file in aside.iterdir():
            _flush(file)
        _flush(aside)
        os.rename(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _flush(folder.parent)


def removed_at_once(folder: Path) -> None:
    """
    Remove a folder, so that no half of it is ever found under its name.

    :param folder: a folder, which need not exist
    """
    if not folder.exists():
        return
    aside = folder.with_name(f"{_ASIDE}{os.getpid()}-{folder.name}")
    os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """
    Remove what processes that were killed had begun to write or to remove.

    :param folder: where nobody else is writing
    """
    for path in folder.glob(f"{_ASIDE}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and keeps their lists by itself
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
