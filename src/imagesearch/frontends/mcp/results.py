"""What passes between the tools and the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answers.

    Attributes:
        text: for a model to read.
        values: the same as plain values, of the tool's schema; empty for an error.
        jpeg: an image that goes with it.
        is_error: whether the text says why there is no answer.
    """

    text: str
    values: Mapping[str, Any]
    jpeg: bytes | None = None
    is_error: bool = False
