"""How the package's functions are compiled: which parts are cached on disk, and when a cached one is stale."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import intrinsic, register_jitable

Function = TypeVar("Function", bound=Callable[..., Any])

#: Every file with code that ends up inside an entry point.
_SOURCES = (
    "compiling",
    "instructions",
    "rows",
    "pieces",
    "randomness",
    "layout",
    "movement",
    "engine",
    "outcome",
    "placements",
    "observations",
    "rewards",
    "kernels",
)


def _fingerprint() -> str:
    """
    :return: a name for the present text of all compiled sources
    """
    digest = sha256()
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


_FINGERPRINT = _fingerprint()
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """
    Mark a function that is part of entry points, and compiled with them. Called from Python it stays what it is.

    :param function: the function
    :return: the same function
    """
    return register_jitable(no_cfunc_wrapper=True, **_OPTIONS)(function)


def entry_point(function: Function) -> Function:
    """
    Compile a function that Python calls, and keep the machine code on disk: beside this file or, where that
    directory is read-only, in the user's cache directory (``NUMBA_CACHE_DIR`` chooses another place).

    Numba takes a cached function for fresh as long as the file that defines it is unchanged, whatever happens to the
    functions that it calls. The fingerprint of all sources in the name makes up for that.

    :param function: the function
    :return: its compiled form
    """
    function.__qualname__ = f"{function.__name__}_{_FINGERPRINT}"
    try:
        return cast(Function, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # nowhere to write: compile in every process
        return cast(Function, njit(**_OPTIONS)(function))


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Numba's decorator for what generates its own machine code, typed as the function that comes of it.

    :param function: from the types of the arguments, which are literal ones for constants, the signature and generator
    :return: the function for use in compiled code
    """
    return cast(Callable[..., Any], intrinsic(prefer_literal=True)(function))
