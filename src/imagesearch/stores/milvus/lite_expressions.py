"""Milvus's language of boolean expressions, evaluated in this process by Milvus Lite's parser and kernels.

So a filter means the same for every engine, whatever version of a server knows of the language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema
from milvus_lite.search.filter import FilterError, FilterFieldError, compile_expr, evaluate_mask, parse_expr
from milvus_lite.search.filter import ast as nodes
from numpy.typing import NDArray

from imagesearch.errors import UsageError


class ValueKind(Enum):
    """What the values of a column are."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


_TYPES = {
    ValueKind.TEXT: (DataType.VARCHAR, pa.string()),
    ValueKind.INTEGER: (DataType.INT64, pa.int64()),
    ValueKind.NUMBER: (DataType.DOUBLE, pa.float64()),
    ValueKind.BOOLEAN: (DataType.BOOL, pa.bool_()),
}


class Expression:
    """A parsed expression.

    Args:
        text: such as ``width > 1000 and camera like "Canon%"``.

    Raises:
        UsageError: it is not an expression; names the position.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = _without_lists(parse_expr(text))
        except FilterError as error:
            raise UsageError(_explained(text, error)) from error
        except RecursionError as error:
            raise UsageError("the filter is nested too deeply") from error

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that it refers to."""
        return frozenset(_names(self._tree))

    def mask(self, columns: Mapping[str, Any], kinds: Mapping[str, ValueKind]) -> NDArray[np.bool_]:
        """Which rows match; a comparison with an unknown value (None) does not.

        Of an expression that refers to no column, one value for all of them: shape (1,).

        Args:
            columns: the values of each column that is referred to, as a list or an array of NumPy; all of one
                length. In a masked array, what is masked is unknown.
            kinds: what may be referred to.

        Raises:
            UsageError: a column is not there, or its type does not fit what it is compared with.
        """
        try:
            try:
                return self._evaluated(self._tree, columns, kinds)
            except pa.ArrowInvalid:
                # Arrow compares integers with floats only where floats tell all integers apart, below 2 ** 53;
                # times in nanoseconds are beyond.
                return self._evaluated(_with_float_literals(self._tree), columns, kinds, as_floats=True)
        except FilterError as error:
            raise UsageError(_explained(self.text, error)) from error
        except (pa.ArrowException, ArithmeticError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"filter {self.text!r}: {str(error).splitlines()[0]}") from error

    def _evaluated(
        self,
        tree: Any,
        columns: Mapping[str, Any],
        kinds: Mapping[str, ValueKind],
        as_floats: bool = False,
    ) -> NDArray[np.bool_]:
        schema = CollectionSchema(
            [FieldSchema(name, _TYPES[kind][0], nullable=True) for name, kind in kinds.items()]
        )
        compiled = compile_expr(tree, schema, self.text)
        values = {name: pa.array(columns[name], _TYPES[kinds[name]][1]) for name in self.columns}
        if as_floats:
            values = {
                name: column.cast(pa.float64(), safe=False) if pa.types.is_integer(column.type) else column
                for name, column in values.items()
            }
        # One row stands for all where no column makes a difference.
        found: NDArray[np.bool_] = evaluate_mask(compiled, pa.table(values or {"": pa.array([0])}))
        return found


def _with_float_literals(tree: Any) -> Any:
    if isinstance(tree, nodes.IntLit):
        return nodes.FloatLit(float(tree.value), tree.pos)
    return _of_parts(tree, _with_float_literals)


def _without_lists(tree: Any) -> Any:
    """The same with ``in`` and ``not in`` as comparisons: of what is unknown, neither then holds."""
    if isinstance(tree, nodes.InOp):
        join, operator = (nodes.And, "!=") if tree.negate else (nodes.Or, "==")
        each = tuple(nodes.CmpOp(operator, tree.field, value, tree.pos) for value in tree.values.elements)
        return tree if not each else each[0] if len(each) == 1 else join(each, tree.pos)
    return _of_parts(tree, _without_lists)


def _of_parts(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same node with its parts changed."""
    if isinstance(tree, tuple):
        return tuple(change(part) for part in tree)
    if type(tree).__module__ != nodes.__name__:
        return tree
    return dataclasses.replace(
        tree, **{field.name: change(getattr(tree, field.name)) for field in dataclasses.fields(tree)}
    )


def _names(tree: Any) -> list[str]:
    """The columns in a tree of Milvus Lite's nodes, which are dataclasses."""
    if isinstance(tree, nodes.FieldRef):
        return [tree.name]
    if isinstance(tree, tuple):
        return [name for part in tree for name in _names(part)]
    if type(tree).__module__ != nodes.__name__:
        return []
    return [name for field in dataclasses.fields(tree) for name in _names(getattr(tree, field.name))]


def _explained(text: str, error: FilterError) -> str:
    """The vendor's message in one line."""
    message = str(getattr(error, "message", error)).splitlines()[0]
    position = getattr(error, "pos", None)
    where = f" at character {position + 1}" if isinstance(position, int) else ""
    hint = ""
    if isinstance(error, FilterFieldError):
        guess = f"; did you mean {error.suggestion!r}?" if error.suggestion else ""
        hint = f"{guess} (columns: {', '.join(sorted(error.available_fields))})"
    return f"filter {text!r}: {message}{where}{hint}"
