"""The table of index types: what is refused, in which words, and what is filled in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesearch.stores.milvus.index_types import (
    INDEX_TYPES,
    check_parameters,
    chosen_for,
    search_parameters,
    with_defaults,
)

EVERY_TYPE = [
    *("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "HNSW", "HNSW_SQ", "SCANN", "DISKANN", "AUTOINDEX"),
    *("GPU_BRUTE_FORCE", "GPU_IVF_FLAT", "GPU_IVF_PQ", "GPU_CAGRA"),
]


def test_all_types_are_there_and_their_defaults_are_allowed() -> None:
    assert list(INDEX_TYPES) == EVERY_TYPE
    for name in EVERY_TYPE:
        for metric in ("COSINE", "IP", "L2"):
            check_parameters(name, {}, {}, metric, dim=768)
            check_parameters(name, *with_defaults(name, {}, {}, dim=768), metric, dim=768)


def test_the_originals_configuration_is_accepted() -> None:
    check_parameters("IVF_FLAT", {"nlist": 1024}, {"nprobe": 10}, "L2")


@pytest.mark.parametrize(
    ("name", "build", "search", "metric", "words"),
    [
        ("HNSW", {"nlist": 1024}, {}, "L2", ["index_params.nlist = 1024", "HNSW", "M, efConstruction"]),
        ("HNSW", {"M": 1}, {}, "L2", ["index_params.M = 1", "from 2 to 2048"]),
        ("HNSW", {"M": 4096}, {}, "L2", ["index_params.M = 4096", "from 2 to 2048"]),
        ("HNSW", {"M": True}, {}, "L2", ["index_params.M = True", "whole number"]),
        ("HNSW", {"M": "16"}, {}, "L2", ["index_params.M = '16'", "whole number"]),
        ("HNSW", {}, {"nprobe": 3}, "L2", ["search_params.nprobe = 3", "takes ef"]),
        ("FLAT", {"nlist": 3}, {}, "L2", ["index_params.nlist = 3", "takes none"]),
        ("IVF_FLAT", {"nlist": 0}, {}, "L2", ["index_params.nlist = 0", "from 1 to 65536"]),
        ("IVF_FLAT", {"nlist": 4}, {"nprobe": 5}, "L2", ["search_params.nprobe = 5", "nlist, 4"]),
        ("HNSW_SQ", {"sq_type": "SQ9"}, {}, "L2", ["index_params.sq_type = 'SQ9'", "SQ6, SQ8"]),
        ("SCANN", {"with_raw_data": 1}, {}, "L2", ["index_params.with_raw_data = 1", "true or false"]),
        ("IVF_PQ", {"m": 5}, {}, "L2", ["index_params.m = 5", "dimension, 768"]),
        ("GPU_CAGRA", {"graph_degree": 99}, {}, "L2", ["index_params.graph_degree = 99", "intermediate"]),
        ("HNSW", {}, {}, "HAMMING", ["metric_type = 'HAMMING'", "COSINE, IP, L2"]),
        ("ANNOY", {}, {}, "L2", ["index_type = 'ANNOY'", "IVF_FLAT", "GPU_CAGRA"]),
    ],
)
def test_refusals_name_parameter_value_and_what_is_allowed(
    name: str, build: dict[str, Any], search: dict[str, Any], metric: str, words: list[str]
) -> None:
    with pytest.raises(ValueError, match="=") as caught:
        check_parameters(name, build, search, metric, dim=768)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_defaults_leave_what_is_given() -> None:
    assert with_defaults("HNSW", {}, {}) == ({"M": 16, "efConstruction": 200}, {"ef": 64})
    assert with_defaults("HNSW", {"M": 32}, {"ef": 100}) == ({"M": 32, "efConstruction": 200}, {"ef": 100})
    assert with_defaults("IVF_FLAT", {"nlist": 8}, {})[1] == {"nprobe": 8}
    assert with_defaults("IVF_PQ", {}, {}, dim=768)[0]["m"] == 96
    assert with_defaults("IVF_PQ", {}, {}, dim=7)[0]["m"] == 1


def test_search_parameters_rise_with_k() -> None:
    assert search_parameters("HNSW", {"ef": 64}, 10) == {"ef": 64}
    assert search_parameters("HNSW", {"ef": 64}, 100) == {"ef": 100}
    assert search_parameters("DISKANN", {"search_list": 16}, 20) == {"search_list": 20}
    assert search_parameters("IVF_FLAT", {"nprobe": 4}, 20) == {"nprobe": 4}


def test_auto_leaves_the_choice_to_the_engine() -> None:
    assert [chosen_for(name, "FLAT") for name in ("auto", "HNSW")] == ["FLAT", "HNSW"]
    check_parameters("auto", {}, {}, "L2", dim=768)
    for build, search, words in (({"M": 8}, {}, "index_params"), ({}, {"ef": 8}, "search_params")):
        with pytest.raises(ValueError, match=rf"{words} = .*'auto'.*HNSW"):
            check_parameters("auto", build, search, "L2")


def test_importing_the_stores_imports_no_vendor() -> None:
    code = (
        "import sys\n"
        "import imagesearch.stores.memory, imagesearch.stores.address, imagesearch.stores.milvus.server\n"
        "from imagesearch.stores.address import DatabaseAddress\n"
        "DatabaseAddress.parse('http://localhost').open()\n"
        "heavy = {'pymilvus', 'milvus_lite', 'grpc', 'pandas', 'faiss', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


WRITE_OR_SEARCH = """
import sys, numpy as np
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
database = DatabaseAddress.parse(sys.argv[1]).open()
spec, vector = CollectionSpec("a"), np.ones((1, 2), np.float32)
if sys.argv[2] == "write":
    rows = database.create(spec, Fingerprint("toy", "1", "cls", (8, 8), 2))
    rows.upsert([ImageRecord("a.jpg")], vector)
    rows.build_index()
assert database.open(spec).search(vector, 1)[0][0].path == "a.jpg"
database.close()
heavy = set(sys.argv[3:]) & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""


def test_using_a_file_imports_no_client(tmp_path: Path) -> None:
    unused = {
        "write": ["pymilvus", "milvus_lite", "grpc"],
        "search": ["pymilvus", "milvus_lite", "grpc", "pandas"],
    }
    for what, modules in unused.items():
        command = [sys.executable, "-c", WRITE_OR_SEARCH, str(tmp_path / "a.db"), what, *modules]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (what, done.stderr)
