"""Zip files that cannot unfold into more than they are."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def opened(source: Any) -> Iterator[zipfile.ZipFile]:
    """
    Open a zip to read from. Nothing that DREAM writes is compressed, so parts that are larger than the whole file were
    made to fill the memory of whoever reads them.

    :param source: a path, or an open file
    :return: the zip, for the ``with`` block
    :raises ValueError: if its parts are larger than it
    """
    with zipfile.ZipFile(source) as archive:
        assert archive.fp is not None
        size = archive.fp.seek(0, os.SEEK_END)
        if sum(part.file_size for part in archive.infolist()) > size:
            raise ValueError(f"its parts are larger than its {size:,} bytes, but files of DREAM are not compressed")
        yield archive
