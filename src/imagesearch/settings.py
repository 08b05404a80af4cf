"""The settings: section by section, each with its type, its bounds and its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictBool, model_validator

from imagesearch.errors import ConfigError, UsageError
from imagesearch.images.find import SYSTEM_FOLDERS
from imagesearch.records import Metric
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import check_name
from imagesearch.stores.columns import BY_NAME, ID
from imagesearch.stores.milvus.index_types import AUTO, check_parameters

# YAML and the environment give typed values; "32" where a number belongs is a mistake worth naming.
PositiveInt = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Parameters = dict[str, int | float | bool | str]


class Section(BaseModel):
    """Settings are values: frozen, and unknown keys are refused."""

    # A token must not appear in the message about another key of its section.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)


class ModelSettings(Section):
    """Which network turns pictures into vectors and labels, and how it is run."""

    name: str = Field("starter", min_length=1)
    classifier: str | None = None
    revision: str | None = None
    embedding_dim: PositiveInt | None = None
    pooling: Literal["auto", "pooler", "cls", "mean"] = "auto"
    normalize: StrictBool = True
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    runtime: Literal["auto", "torch", "openvino", "onnx"] = "auto"


class DataSettings(Section):
    """Where pictures are read from and features are written to when no path is given."""

    raw_dir: Path | None = None
    processed_dir: Path | None = None
    include_hidden: StrictBool = False
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] = SYSTEM_FOLDERS
    max_megapixels: Annotated[Number, Field(gt=0)] = 200.0
    read_timeout: Annotated[Number, Field(gt=0)] = 60.0


def _user_database() -> str:
    import platformdirs

    return str(platformdirs.user_data_path("imagesearch") / "imagesearch.db")


class MilvusSettings(Section):
    """The vector database: a local file (Milvus Lite) or a server's URI."""

    uri: str = Field(default_factory=_user_database, min_length=1, repr=False)  # it may hold a password
    token: SecretStr | None = None
    allow_insecure_token: StrictBool = False
    db_name: str | None = None
    tls_ca: Path | None = None
    tls_client_cert: Path | None = None
    tls_client_key: Path | None = None
    tls_server_name: str | None = None
    timeout: Annotated[Number, Field(gt=0, le=600)] = 5.0
    collection_name: str = "images_{model}"
    embedding_field_name: str = Field("embedding", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    index_name: str = Field("embedding_index", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    index_type: str = AUTO
    index_params: Parameters = {}
    metric_type: Metric = Metric.COSINE
    search_params: Parameters = {}

    @model_validator(mode="after")
    def _values_go_together(self) -> MilvusSettings:
        try:
            check_name(self.collection_name.replace("{model}", "model"))
        except UsageError as error:
            raise ValueError(f"collection_name: {error}") from error
        if (field := self.embedding_field_name) == ID or field in BY_NAME:
            raise ValueError(f"embedding_field_name = {field!r}: is another column of the collection")
        try:
            DatabaseAddress.parse(self.uri, "uri")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        check_parameters(self.index_type, self.index_params, self.search_params, self.metric_type)
        return self


class ExtractionSettings(Section):
    """How pictures are fed to the network."""

    batch_size: Annotated[int, Field(strict=True, ge=0)] = 0
    decode_threads: Annotated[int, Field(strict=True, ge=0)] = 0


class SearchSettings(Section):
    """How results are asked for."""

    top_k: PositiveInt = 10
    allow_url: bool = False
    # The names of search.ranking.METHODS, which a test compares with these.
    rerank: Literal[
        "none", "average", "expand", "feedback", "augment", "reciprocal", "diffuse", "whiten",
        "expand+augment", "expand+reciprocal", "expand+diffuse", "feedback+augment", "feedback+reciprocal",
        "labels", "labels+reciprocal", "feedback+labels", "feedback+labels+reciprocal",
        "patches",
    ] = "feedback+labels"  # fmt: skip
    # The names of search.image_encoding.VIEWS.
    views: Literal["whole", "mirrored", "crops"] = "whole"


class ServerSettings(Section):
    """The page and the HTTP API of ``imagesearch serve``."""

    host: str = Field("127.0.0.1", min_length=1)
    port: Annotated[int, Field(strict=True, ge=0, le=65535)] = 8000
    token_file: Path | None = None
    allow_hosts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    allow_labels: bool = False
    proxies: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    max_upload_mb: Annotated[Number, Field(gt=0)] = 25.0
    thumbnail_cache_mb: Annotated[Number, Field(ge=0)] = 500.0
    batch_size: PositiveInt = 32
    queue_size: PositiveInt = 256
