"""What the package offers: every public name is there, listed once, and documented."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from pathlib import Path
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


STUB = ast.parse(Path(imagesearch.__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
# Module -> public names, as the stub lists them.
HOMES = {
    str(node.module): [alias.name for alias in node.names] for node in STUB if isinstance(node, ast.ImportFrom)
}


def test_public_names_are_listed_once_and_have_one_home() -> None:
    assert len(set(imagesearch.__all__)) == len(imagesearch.__all__)
    assert sorted(name for names in HOMES.values() for name in names) == sorted(imagesearch.__all__)


@pytest.mark.parametrize("module", HOMES)
def test_the_table_of_homes_is_sorted_and_true(module: str) -> None:
    names = HOMES[module]
    assert names == sorted(names)
    for name in names:
        assert getattr(imagesearch, name).__module__ == f"imagesearch.{module}"


def test_type_checkers_see_what_python_sees() -> None:
    """They read the stub and not the module."""
    listed = [ast.literal_eval(node.value) for node in STUB if isinstance(node, ast.Assign)]
    assert [sorted(names) for names in listed] == [sorted(imagesearch.__all__)]
    other = [ast.unparse(node) for node in STUB if isinstance(node, ast.AnnAssign)]
    assert other == [f"__version__: {type(imagesearch.__version__).__name__}"]


@pytest.mark.parametrize(("old", "new"), imagesearch._RENAMED.items())
def test_old_names_work_and_say_what_they_are_called_now(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"imagesearch\.{old} is now imagesearch\.{new}") as seen:
        assert getattr(imagesearch, old) is getattr(imagesearch, new)
    assert seen[0].filename == __file__
    assert old not in imagesearch.__all__


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


ARGUMENTS = {"PictureError": ("a.jpg", "is empty"), "DamagedError": ("manifest.json", "is missing")}


@pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
def test_errors_come_whole_out_of_other_processes(kind: type[Exception]) -> None:
    """Pools send them as pickles; of one that cannot be read, they never hear."""
    error = kind(*ARGUMENTS.get(kind.__name__, ("why",)))
    known = {**vars(error), "more": 1}
    vars(error).update(known)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        same = pickle.loads(pickle.dumps(error, protocol))
        assert (type(same), str(same), same.args, vars(same)) == (kind, str(error), error.args, known)
