"""The table of index types: what is refused, in which words, and what is filled in."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from imagesearch.stores.index_types import INDEX_TYPES, check_parameters, search_parameters, with_defaults

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


def test_importing_the_stores_imports_no_vendor() -> None:
    import subprocess

    code = (
        "import sys, imagesearch.stores.milvus, imagesearch.stores.memory\n"
        "heavy = {'pymilvus', 'milvus_lite', 'grpc', 'pandas', 'faiss'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
