"""The vector index types of Milvus: their parameters, ranges and defaults. Data only.

Names are Milvus's. Ranges are those that every supported version accepts (2.3 is the narrowest),
so that a configuration that passes here works on a laptop and on a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagesearch.records import Metric

ALL_METRICS = (Metric.COSINE, Metric.IP, Metric.L2)

# Milvus returns at most this many hits to one query.
MAX_TOP_K = 16_384

# The setting that leaves the choice to the engine.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One build or search parameter.

    Attributes:
        name: Milvus's name.
        kind: ``int``, ``bool`` or ``str``.
        default: what is sent if the configuration says nothing; None sends nothing.
        low, high: inclusive bounds of an ``int``.
        choices: the values that a ``str`` may have.
        at_least_k: whether Milvus demands that it is not below the number of results asked for.
    """

    name: str
    kind: type = int
    default: int | bool | str | None = None
    low: int = 1
    high: int = 65_536
    choices: tuple[str, ...] = ()
    at_least_k: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, for messages."""
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "one of " + ", ".join(self.choices)
        return f"a whole number from {self.low} to {self.high}"

    def accepts(self, value: object) -> bool:
        """Whether this is an allowed value."""
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return isinstance(value, str) and value in self.choices
        # bool is an int in Python; "M: true" is a mistake all the same.
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class IndexType:
    """One index type.

    Attributes:
        name: Milvus's name.
        build: parameters of building it.
        search: parameters of searching it.
        metrics: the metrics it supports.
        since: the first Milvus server version that has it.
        lite: whether Milvus Lite builds it.
        gpu: whether the server needs a GPU build.
    """

    name: str
    build: tuple[Parameter, ...] = ()
    search: tuple[Parameter, ...] = ()
    metrics: tuple[Metric, ...] = ALL_METRICS
    since: tuple[int, int] = (2, 0)
    lite: bool = False
    gpu: bool = False


# 128 cells suit some hundred thousand pictures (about 4 * sqrt(rows)); engines lower it for fewer.
_NLIST = Parameter("nlist", default=128)
_NPROBE = Parameter("nprobe", default=16)
# By default a search looks into a fifth of the cells. An eighth found 99 % of the ten closest among 40,000 real
# pictures, but 92 % among a million synthetic vectors in Milvus Lite (a quarter: 98 %), in hardly less time.
_CELLS_A_PROBE = 5
# Servers before 2.3.13 take 4 to 64 and 8 to 512 only, and say so themselves.
_M = Parameter("M", default=16, low=2, high=2048)
_EF_CONSTRUCTION = Parameter("efConstruction", default=200)
_EF = Parameter("ef", default=64, high=32_768, at_least_k=True)
# No default: the number of subvectors must divide the dimension; see `with_defaults`.
_PQ_M = Parameter("m", low=1, high=65_536)
_PQ_NBITS = Parameter("nbits", default=8, low=1, high=16)
_ON_DEVICE = Parameter("cache_dataset_on_device", str, choices=("true", "false"))
_SQ_TYPES = ("SQ4U", "SQ6", "SQ8", "BF16", "FP16")

INDEX_TYPES: Mapping[str, IndexType] = {
    kind.name: kind
    for kind in (
        IndexType("FLAT", lite=True),
        IndexType("IVF_FLAT", (_NLIST,), (_NPROBE,), lite=True),
        IndexType("IVF_SQ8", (_NLIST,), (_NPROBE,), lite=True),
        IndexType("IVF_PQ", (_NLIST, _PQ_M, _PQ_NBITS), (_NPROBE,)),
        IndexType("HNSW", (_M, _EF_CONSTRUCTION), (_EF,), lite=True),
        IndexType(
            "HNSW_SQ",
            (
                _M,
                _EF_CONSTRUCTION,
                Parameter("sq_type", str, default="SQ8", choices=_SQ_TYPES),
                Parameter("refine", bool),
                Parameter("refine_type", str, choices=(*_SQ_TYPES, "FP32")),
            ),
            (_EF, Parameter("refine_k")),
            since=(2, 5),
            lite=True,
        ),
        IndexType(
            "SCANN",
            (_NLIST, Parameter("with_raw_data", bool, default=True)),
            (_NPROBE, Parameter("reorder_k", at_least_k=True)),
            since=(2, 3),
        ),
        IndexType(
            "DISKANN",
            search=(Parameter("search_list", default=100, high=65_535, at_least_k=True),),
        ),
        IndexType("AUTOINDEX", search=(Parameter("level", high=10),), lite=True),
        IndexType("GPU_BRUTE_FORCE", since=(2, 4), gpu=True),
        IndexType("GPU_IVF_FLAT", (_NLIST, _ON_DEVICE), (_NPROBE,), since=(2, 3), gpu=True),
        IndexType(
            "GPU_IVF_PQ",
            (_NLIST, _PQ_M, _PQ_NBITS, _ON_DEVICE),
            (_NPROBE,),
            since=(2, 3),
            gpu=True,
        ),
        IndexType(
            "GPU_CAGRA",
            (
                Parameter("intermediate_graph_degree", default=64),
                Parameter("graph_degree", default=32),
                Parameter("build_algo", str, choices=("IVF_PQ", "NN_DESCENT")),
                _ON_DEVICE,
                Parameter("adapt_for_cpu", str, choices=("true", "false")),
            ),
            (
                Parameter("itopk_size", at_least_k=True),
                Parameter("search_width"),
                Parameter("min_iterations", low=0),
                Parameter("max_iterations", low=0),
                Parameter("team_size", low=0, high=32),
                Parameter("ef", high=32_768, at_least_k=True),
            ),
            since=(2, 4),
            gpu=True,
        ),
    )
}


def index_type(name: str) -> IndexType:
    """The index type of this name.

    Raises:
        ValueError: there is none; the message lists them all.
    """
    kind = INDEX_TYPES.get(name)
    if kind is None:
        raise ValueError(f"index_type = {name!r}: must be {AUTO} or one of {', '.join(INDEX_TYPES)}")
    return kind


def chosen_for(name: str, default: str) -> str:
    """The index type itself, or for :data:`AUTO` the engine's default."""
    return default if name == AUTO else name


def check_parameters(
    name: str,
    index_params: Mapping[str, Any],
    search_params: Mapping[str, Any],
    metric: str,
    dim: int | None = None,
) -> None:
    """Make sure that Milvus can build and search an index with these parameters.

    Args:
        name: the index type.
        index_params, search_params: as in ``config.yaml``; what is missing gets its default.
        metric: Milvus's name of the metric.
        dim: length of the vectors, if known; product quantisation must divide it evenly.

    Raises:
        ValueError: one line that names the parameter, its value and what is allowed.
    """
    if name == AUTO:
        for section, given in (("index_params", index_params), ("search_params", search_params)):
            if given:
                raise ValueError(
                    f"{section} = {dict(given)}: belongs to an index_type; choose one in place of {AUTO!r}"
                    f" ({', '.join(INDEX_TYPES)})"
                )
        return
    kind = index_type(name)
    if metric not in {m.value for m in kind.metrics}:
        names = ", ".join(m.value for m in kind.metrics)
        raise ValueError(f"metric_type = {metric!r}: {name} goes with one of {names}")
    _check_names_and_values(kind, "index_params", kind.build, index_params)
    _check_names_and_values(kind, "search_params", kind.search, search_params)
    _check_combinations(kind, index_params, search_params, dim)


def with_defaults(
    name: str, index_params: Mapping[str, Any], search_params: Mapping[str, Any], dim: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build and search parameters, complete: the given ones over the type's defaults.

    >>> with_defaults("HNSW", {"M": 32}, {})
    ({'M': 32, 'efConstruction': 200}, {'ef': 64})
    """
    kind = index_type(name)
    build = {p.name: p.default for p in kind.build if p.default is not None} | dict(index_params)
    search = {p.name: p.default for p in kind.search if p.default is not None} | dict(search_params)
    if _PQ_M in kind.build and "m" not in build and dim is not None:
        build["m"] = _subvectors(dim)
    if "nprobe" in search and "nprobe" not in search_params:
        cells = build["nlist"]
        search["nprobe"] = min(max(search["nprobe"], cells // _CELLS_A_PROBE), cells)
    return build, search


def search_parameters(name: str, search_params: Mapping[str, Any], k: int) -> dict[str, Any]:
    """Search parameters for k results: Milvus refuses, for example, an ``ef`` below k."""
    parameters = dict(search_params)
    for parameter in index_type(name).search:
        value = parameters.get(parameter.name)
        if parameter.at_least_k and isinstance(value, int):
            parameters[parameter.name] = max(value, k)
    return parameters


def _check_names_and_values(
    kind: IndexType, section: str, known: tuple[Parameter, ...], given: Mapping[str, Any]
) -> None:
    parameters = {parameter.name: parameter for parameter in known}
    for name, value in given.items():
        parameter = parameters.get(name)
        if parameter is None:
            allowed = f"takes {', '.join(parameters)}" if parameters else "takes none"
            raise ValueError(f"{section}.{name} = {value!r}: {kind.name} has no such parameter; it {allowed}")
        if not parameter.accepts(value):
            raise ValueError(f"{section}.{name} = {value!r}: must be {parameter.allowed} for {kind.name}")


def _check_combinations(
    kind: IndexType, index_params: Mapping[str, Any], search_params: Mapping[str, Any], dim: int | None
) -> None:
    build, search = with_defaults(kind.name, index_params, search_params, dim)
    if "nprobe" in search and search["nprobe"] > build["nlist"]:
        raise ValueError(
            f"search_params.nprobe = {search['nprobe']}: must not exceed index_params.nlist, {build['nlist']}"
        )
    if dim is not None and "m" in build and dim % build["m"]:
        raise ValueError(f"index_params.m = {build['m']}: must divide the vector's dimension, {dim}")
    degree, intermediate = build.get("graph_degree"), build.get("intermediate_graph_degree")
    if degree is not None and intermediate is not None and degree > intermediate:
        raise ValueError(
            f"index_params.graph_degree = {degree}: must not exceed "
            f"index_params.intermediate_graph_degree, {intermediate}"
        )


def _subvectors(dim: int) -> int:
    """The largest divisor of the dimension that gives every subvector at least eight values."""
    return next(m for m in range(max(1, dim // 8), 0, -1) if dim % m == 0)
