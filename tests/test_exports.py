"""What the package offers: every public name is there, listed once, and documented."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import imagesearch
from imagesearch import errors

ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


@pytest.mark.parametrize("name", imagesearch.__all__)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(imagesearch, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)


def test_public_names_are_listed_once_and_have_one_home() -> None:
    assert len(set(imagesearch.__all__)) == len(imagesearch.__all__)
    homes = [name for names in imagesearch._HOMES.values() for name in names]
    assert sorted(homes) == sorted(imagesearch.__all__)


@pytest.mark.parametrize("module", imagesearch._HOMES)
def test_the_table_of_homes_is_sorted_and_true(module: str) -> None:
    names = imagesearch._HOMES[module]
    assert list(names) == sorted(names)
    for name in names:
        assert getattr(imagesearch, name).__module__ == f"imagesearch.{module}"


def test_type_checkers_see_what_python_sees() -> None:
    """The names imported under TYPE_CHECKING are those that __getattr__ resolves."""
    source = inspect.getsource(imagesearch)
    block = source.split("if TYPE_CHECKING:")[1].split("__version__")[0]
    imported = {
        module: tuple(re.findall(r"\w+", names))
        for module, names in re.findall(r"from imagesearch\.(\w+) import (\([^)]*\)|[^\n]*)", block)
    }
    assert imported == imagesearch._HOMES


def test_every_error_is_public() -> None:
    assert set(ERRORS) <= set(imagesearch.__all__)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Imagesearch'"):
        _ = imagesearch.Imagesearch


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    ancestors: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^([\s│├└─]*)(\w+Error)\b", line)
        if not match:
            continue
        depth = len(match[1])
        while ancestors and ancestors[-1][0] >= depth:
            ancestors.pop()
        drawn[match[2]] = ancestors[-1][1] if ancestors else "Exception"
        ancestors.append((depth, match[2]))
    real = {name: kind.__bases__[0].__name__ for name, kind in ERRORS.items()}
    assert drawn == real


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_errors_say_what_they_are_for(kind: Any) -> None:
    assert inspect.getdoc(kind)
    assert kind.__doc__ != kind.__bases__[0].__doc__
