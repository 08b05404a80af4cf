"""docs/security.md names tests that exist, and the bounds that are in force."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .harness import OPEN

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 30
    for file, test in named:
        tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"


def test_the_files_that_it_names_exist() -> None:
    for path in re.findall(r"`((?:src|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_bounds_that_it_names_are_in_force() -> None:
    assert f"{OPEN.header_seconds:g} s for headers" in PAGE
    assert f"{OPEN.body_seconds:g} s for a body" in PAGE
    assert f"{OPEN.write_seconds:g} s for taking" in PAGE
    assert f"{OPEN.max_header_bytes // 1024} KiB and {OPEN.max_headers} lines (431)" in PAGE
    assert f"{OPEN.max_body_bytes // 1_000_000} MB (413)" in PAGE
    assert f"{OPEN.max_connections}, beyond that 503, beyond {2 * OPEN.max_connections} they are cut" in PAGE
    assert f"after {OPEN.free_attempts} wrong tokens" in PAGE
    assert f"for {OPEN.session_seconds / 3600:g} hours, {OPEN.max_sessions:,} at most" in PAGE
