"""Instructions of the processor that Python has no word for, for use in compiled functions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types

from tetris_gym.compiling import instruction


@instruction
def count_bits(typing_context: Any, word: Any) -> Any:
    """Number of set bits of an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@instruction
def write_bits(typing_context: Any, array: Any, index: Any, word: Any, count: Any) -> Any:
    """
    Write the lowest bits of an int64 as zeros and ones into a contiguous array of float32 or bool, from an index on.
    Their number is a constant.

    One vector store does what is a loop otherwise, and those loops took three quarters of a batched step.
    """
    size = count.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        bits = builder.bitcast(builder.trunc(arguments[2], ir.IntType(size)), ir.VectorType(ir.IntType(1), size))
        if array.dtype == types.float32:
            numbers = builder.uitofp(bits, ir.VectorType(ir.FloatType(), size))
        else:
            numbers = builder.zext(bits, ir.VectorType(ir.IntType(8), size))
        place = builder.bitcast(builder.gep(data, [arguments[1]]), numbers.type.as_pointer())
        builder.store(numbers, place, align=4 if array.dtype == types.float32 else 1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, count), generate
