"""Digests of whole files, which are read once."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from imagesearch.models import digests
from imagesearch.models.digests import file_digest

LARGE = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(LARGE)
    os.utime(file, ns=(10**18, 10**18))
    return file


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files were read through; files are taken to have been at rest for long."""
    read: list[str] = []
    digest = digests._digest

    def counted(stream: io.FileIO) -> str:
        read.append(str(stream.name))
        return digest(stream)

    monkeypatch.setattr(digests, "_digest", counted)
    monkeypatch.setattr(digests, "_SETTLED_SECONDS", 0)
    return read


def test_it_is_that_of_all_bytes_and_read_once(weights: Path, reads: list[str]) -> None:
    expected = hashlib.blake2b(LARGE, digest_size=20).hexdigest()
    assert [file_digest(weights) for _ in range(3)] == [expected] * 3
    assert len(reads) == 1


def test_a_change_anywhere_is_noticed_although_size_and_time_are_the_same(weights: Path, reads: list[str]) -> None:
    before, times = file_digest(weights), weights.stat()
    changed = bytearray(LARGE)
    changed[len(LARGE) // 3] ^= 1
    weights.write_bytes(changed)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_digest(weights) != before
    assert len(reads) == 2


def test_another_file_under_the_name_is_noticed(weights: Path, reads: list[str], tmp_path: Path) -> None:
    before, times = file_digest(weights), weights.stat()
    other = tmp_path / "other"
    other.write_bytes(LARGE[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, weights)
    assert file_digest(weights) != before


def test_a_file_that_was_just_written_is_not_remembered(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_SECONDS", 3600)
    file_digest(weights)
    assert not digests._list().exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 100_000, b'{"x": 1}', b'{"KEY": [[1], 2]}'])
def test_a_list_that_makes_no_sense_is_done_without(content: bytes, weights: Path, reads: list[str]) -> None:
    digests._list().parent.mkdir(parents=True)
    digests._list().write_bytes(content.replace(b"KEY", os.fsencode(weights)))
    assert file_digest(weights) == file_digest(weights)
    assert len(reads) == 1  # and it is replaced by one that does


def test_a_list_that_cannot_be_written_is_done_without(
    weights: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(weights))  # a file
    assert file_digest(weights) == file_digest(weights)
    assert len(reads) == 2


def test_several_threads_and_a_bound(tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_MOST", 3)
    files = [tmp_path / str(number) for number in range(6)]
    found: dict[int, Any] = {}
    for number, file in enumerate(files):
        file.write_bytes(LARGE + bytes([number]))

    def ask(number: int) -> None:
        found[number] = file_digest(files[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found.values())) == 6
    assert len(digests._read()) == 3
