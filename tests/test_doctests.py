"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib

import pytest

# Modules whose examples need neither a network nor a database.
MODULES = [
    "config",
    "images.colour",
    "images.find",
    "images.paths",
    "images.pipeline",
    "library.features",
    "models.catalogue",
    "models.devices",
    "stores.address",
    "stores.memory",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"imagesearch.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
