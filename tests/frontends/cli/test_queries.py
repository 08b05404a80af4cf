"""What is typed after ``imagesearch search``, read as queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.queries import QueryReader, is_words, protected
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.search.query import Kind, Region

MINUS = "\N{MINUS SIGN}"


def read(*arguments: str, **how: object) -> list[list[tuple[str, object, float]]]:
    """Kind, value and weight of each part of each query."""
    queries = QueryReader(**how).read(arguments)  # type: ignore[arg-type]
    return [[(part.kind.value, part.value, round(part.weight, 6)) for part in query.parts] for query in queries]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with some files."""
    for name in ("a.jpg", "b.jpg", "c", "-d.jpg", "0.5:e.jpg"):
        (tmp_path / name).write_bytes(b"")
    np.save(tmp_path / "one.npy", np.arange(3.0))
    np.save(tmp_path / "two.npy", np.zeros((2, 3)))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
class TestReading:
    def test_one_query_per_argument_without_a_sign(self) -> None:
        assert read("a.jpg", "b.jpg") == [[("image", "a.jpg", 1)], [("image", "b.jpg", 1)]]
        assert read("a.jpg", "+b.jpg", f"{MINUS}0.3:c", "b.jpg") == [
            [("image", "a.jpg", 1), ("image", "b.jpg", 1), ("image", "c", -0.3)],
            [("image", "b.jpg", 1)],
        ]

    def test_weights(self) -> None:
        assert read("0.5:a.jpg", "+2:text:red car") == [[("image", "a.jpg", 0.5), ("words", "red car", 2)]]

    def test_words(self) -> None:
        assert read("school", "bus") == [[("words", "school bus", 1)]]
        assert read("school bus", "lion", "cub") == [[("words", "school bus", 1)], [("words", "lion cub", 1)]]
        assert read("school bus", "a.jpg", "dog", "+cat") == [
            [("words", "school bus", 1)],
            [("image", "a.jpg", 1)],
            [("words", "dog", 1), ("words", "cat", 1)],
        ]
        assert read("text:a.jpg", "text:b") == [[("words", "a.jpg", 1)], [("words", "b", 1)]]

    def test_what_looks_like_a_file_is_one(self) -> None:
        for name in ("missing.jpg", "folder/x", "~/x", "./c", "c"):
            ((part,),) = read(name)
            assert part[0] == "image"

    def test_files_with_names_like_signs_and_weights(self) -> None:
        assert read("-d.jpg") == [[("image", "-d.jpg", 1)]]
        assert read("0.5:e.jpg") == [[("image", "0.5:e.jpg", 1)]]

    def test_pictures_in_the_collection(self) -> None:
        assert read("id:12", "-id:7") == [[("stored", 12, 1), ("stored", 7, -1)]]
        with pytest.raises(WrongUsageError, match="id:x: the id of a picture is a whole number"):
            read("id:x")

    def test_vectors(self) -> None:
        (query,) = QueryReader().read(["one.npy"])
        assert query.parts[0].kind is Kind.VECTOR
        assert query.parts[0].value.tolist() == [0, 1, 2]
        for name, said in (("two.npy", r"shape \(2, 3\)"), ("text.npy", "<U1")):
            with pytest.raises(UsageError, match=said):
                read(name)
        Path("broken.npy").write_bytes(b"broken")
        with pytest.raises(UsageError, match=r"broken\.npy: cannot be read"):
            read("broken.npy")

    def test_urls_are_fetched_only_where_that_is_allowed(self) -> None:
        with pytest.raises(WrongUsageError, match="--allow-url"):
            read("https://example.org/a.jpg")
        (query,) = QueryReader(fetch=str.encode).read(["https://example.org/a.jpg"])
        assert (query.parts[0].value, str(query)) == (b"https://example.org/a.jpg", "https://example.org/a.jpg")

    def test_a_region_is_of_the_first_picture(self) -> None:
        (query,) = QueryReader(Region.parse("1,2,3,4")).read(["a.jpg", "+b.jpg"])
        assert [str(part.region) for part in query.parts] == ["1,2,3,4", "None"]
        (query,) = QueryReader(Region.parse("1,2,3,4")).read(["text:car", "+a.jpg", "+b.jpg"])
        assert [str(part.region) for part in query.parts] == ["None", "1,2,3,4", "None"]

    def test_what_to_avoid_comes_later(self) -> None:
        with pytest.raises(WrongUsageError, match="name first what to look for"):
            read(f"{MINUS}a.jpg", "b.jpg")


OPTIONS = ["-k", "--top-k", "--json", "-h", "--help"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="-0123456789"), min_size=1))
def test_what_begins_with_a_minus_is_no_option(name: str) -> None:
    argument = f"-{name}."  # never the one letter of an option
    assert protected([argument, "-k", "3", "-k5", "--json", "--", argument], OPTIONS) == [
        *(MINUS + argument[1:], "-k", "3", "-k5", "--json", "--"),
        argument,
    ]


def test_one_letter_that_no_option_has_is_a_word() -> None:
    assert protected(["a.jpg", "-猫", "-x", "-"], OPTIONS) == ["a.jpg", f"{MINUS}猫", "-x", "-"]


def test_a_value_with_an_equals_sign_is_no_word() -> None:
    assert protected(["a.jpg", "-k=5"], OPTIONS) == ["a.jpg", "-k=5"]


def test_the_value_of_an_option_may_begin_with_a_minus() -> None:
    arguments = ["a.jpg", "--near", "-33.9,151.2,5", "-b.jpg", "-k", "--json", "-c.jpg"]
    assert protected(arguments, [*OPTIONS, "--near"], ["-k", "--near"]) == [
        *("a.jpg", "--near", "-33.9,151.2,5", f"{MINUS}b.jpg", "-k", "--json", f"{MINUS}c.jpg")
    ]


@pytest.mark.parametrize("text", ["dog", "a red car", "crème brûlée", "3 cats", "u.s. flag pole"])
def test_words_are_words(text: str) -> None:
    assert is_words(text)
