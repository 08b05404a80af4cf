"""Any path becomes one line of UTF-8 text and comes back unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.images.paths import decode_path, encode_path


@given(st.binary(max_size=60).filter(lambda raw: b"\0" not in raw))
def test_any_bytes_round_trip_as_one_line(raw: bytes) -> None:
    path = raw.decode("utf-8", "surrogateescape")
    text = encode_path(path)
    assert decode_path(text) == path
    assert len(text.splitlines()) == 1
    assert text == text.strip()
    text.encode("utf-8")  # no surrogates left


@given(st.lists(st.text(max_size=20).filter(lambda t: "\0" not in t), max_size=5))
def test_lines_of_a_file_can_be_told_apart(parts: list[str]) -> None:
    paths = ["/" + part.encode("utf-8", "ignore").decode() for part in parts]
    written = "".join(encode_path(path) + "\n" for path in paths)
    assert [decode_path(line) for line in written.splitlines()] == paths


@pytest.mark.parametrize(
    "path", ["a.jpg", "/p/ä b.jpg", "/p/100%25.jpg", "C:\\p\\a.jpg", "http://x/a.jpg", "/p/🏖.jpg"]
)
def test_ordinary_paths_stay_as_they_are(path: str) -> None:
    assert encode_path(path) == path
