"""How the package's functions are compiled: which parts are cached on disk, and when a cached one is stale."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

#: Every file with code that ends up inside an entry point.
_SOURCES = (
    "compiling",
    "pieces",
    "randomness",
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
    Compile a function that is part of entry points. It costs nothing until one of them is compiled.

    :param function: the function
    :return: its compiled form
    """
    return cast(Function, njit(**_OPTIONS)(function))


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


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numba's decorator for what generates its own machine code, typed as the function that comes of it."""
    return cast(Callable[..., Any], intrinsic(function))


@_instruction
def count_bits(typing_context: Any, word: Any) -> Any:
    """Number of set bits of an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@_instruction
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Index of the lowest set bit of an int64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@_instruction
def write_16_bits(typing_context: Any, array: Any, index: Any, word: Any) -> Any:
    """
    Write the lowest 16 bits of an int64 as 0.0 and 1.0 into a contiguous float32 array, from an index on.

    One vector store does what is a loop of 16 otherwise, and those loops took three quarters of a batched step.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        bits = builder.bitcast(builder.trunc(arguments[2], ir.IntType(16)), ir.VectorType(ir.IntType(1), 16))
        numbers = builder.uitofp(bits, ir.VectorType(ir.FloatType(), 16))
        place = builder.bitcast(builder.gep(data, [arguments[1]]), numbers.type.as_pointer())
        builder.store(numbers, place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate
