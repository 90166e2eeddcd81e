"""Compiled arithmetic on 32 rows of 16 bits at once: one register, where the processor has such wide ones.

Compiled code sees such rows as numbers of a type of their own, on which the usual operators work row by row. They
exist inside compiled functions only; Python code never holds any.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

from tetris_gym.compiling import instruction

Rows = NDArray[np.uint16]  #: what they are to a type checker: an array of shape (32,)

NUM_LANES: Final = 32
_LANE: Final = ir.IntType(16)
_VECTOR: Final = ir.VectorType(_LANE, NUM_LANES)


class _RowsType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Rows")


_ROWS: Final = _RowsType()


@register_model(_RowsType)
class _RowsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _VECTOR)


def _constant(lanes: list[int]) -> Any:
    return ir.Constant(_VECTOR, lanes)


def _everywhere(builder: Any, number: Any) -> Any:
    """Rows that all hold the lowest 16 bits of an int64."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, builder.trunc(number, _LANE), ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), NUM_LANES), [0] * NUM_LANES)
    )


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any, target: Any) -> Any:
    """A pointer to something of a type within a contiguous array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), target.as_pointer())


# Operators


def _define(symbol: Callable[..., Any], other: type[types.Type], generate: Callable[[Any, Any, Any], Any]) -> None:
    """Make an operator work between rows and something else."""

    @type_callable(symbol)
    def resolve(context: Any) -> Any:
        return lambda one, another: _ROWS if one is _ROWS and isinstance(another, other) else None

    @lower_builtin(symbol, _RowsType, other)
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return generate(builder, *arguments)


for _and in (operator.and_, operator.iand):
    _define(_and, _RowsType, lambda builder, one, another: builder.and_(one, another))
for _or in (operator.or_, operator.ior):
    _define(_or, _RowsType, lambda builder, one, another: builder.or_(one, another))
_define(operator.xor, _RowsType, lambda builder, one, another: builder.xor(one, another))
_define(operator.add, _RowsType, lambda builder, one, another: builder.add(one, another))
_define(operator.lshift, types.Integer, lambda builder, one, another: builder.shl(one, _everywhere(builder, another)))
_define(operator.rshift, types.Integer, lambda builder, one, another: builder.lshr(one, _everywhere(builder, another)))


# Functions


@instruction
def load_rows(typing_context: Any, array: Any, index: Any) -> Any:
    """Rows from 32 numbers of a contiguous array, from an index on: uint16, or the lowest 16 bits of int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(array.dtype.bitwidth)
        source = ir.VectorType(number, NUM_LANES)
        place = _place(context, builder, signature.args[0], arguments[0], arguments[1], source)
        numbers = builder.load(place, align=number.width // 8)
        return numbers if number == _LANE else builder.trunc(numbers, _VECTOR)

    return _ROWS(array, types.int64), generate


@instruction
def store_rows(typing_context: Any, array: Any, index: Any, rows: Any) -> Any:
    """Write rows into the bytes of a contiguous array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments[0], arguments[1], _VECTOR)
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, _ROWS), generate


@instruction
def first_rows(typing_context: Any, count: Any) -> Any:
    """Rows of which the first ones have all bits set, and the rest none."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers = _constant(list(range(NUM_LANES)))
        return builder.sext(builder.icmp_signed("<", numbers, _everywhere(builder, arguments[0])), _VECTOR)

    return _ROWS(types.int64), generate


@instruction
def single_bit(typing_context: Any, row: Any, bit: Any) -> Any:
    """Rows with a single bit set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = builder.shl(ir.Constant(_LANE, 1), builder.trunc(arguments[1], _LANE))
        return builder.insert_element(_constant([0] * NUM_LANES), word, arguments[0])

    return _ROWS(types.int64, types.int64), generate


@instruction
def moved_down(typing_context: Any, rows: Any, count: Any) -> Any:
    """Rows moved so many places towards the last (up, if negative), a constant; empty ones come in behind them."""
    distance = count.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = [i - distance if 0 <= i - distance < NUM_LANES else NUM_LANES for i in range(NUM_LANES)]
        indices = ir.Constant(ir.VectorType(ir.IntType(32), NUM_LANES), places)
        return builder.shuffle_vector(arguments[0], _constant([0] * NUM_LANES), indices)

    return _ROWS(_ROWS, count), generate


@instruction
def without(typing_context: Any, rows: Any, others: Any) -> Any:
    """The bits of rows that others do not have."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.and_(arguments[0], builder.not_(arguments[1]))

    return _ROWS(_ROWS, _ROWS), generate


@instruction
def any_bit(typing_context: Any, rows: Any) -> Any:
    """Whether any bit is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        marks = ir.IntType(NUM_LANES)
        occupied = builder.bitcast(builder.icmp_unsigned("!=", arguments[0], _constant([0] * NUM_LANES)), marks)
        return builder.icmp_unsigned("!=", occupied, ir.Constant(marks, 0))

    return types.boolean(_ROWS), generate
