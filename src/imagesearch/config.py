"""Where settings may be set, how these places go together, and where a value came from.

Later layers win: defaults < ``config.yaml`` < environment < flags (or the ``overrides`` of Python callers).
An environment variable names its section and key with two underscores between them:
``IMAGESEARCH_MILVUS__URI=http://localhost:19530``.

Merged by hand: pydantic-settings merges its sources before it validates, so errors and ``config --json`` could not
name the file, variable or flag, nor could another ``model.name`` drop what lower layers say of the first model.
"""

from __future__ import annotations

import difflib
import os
import stat
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from imagesearch.errors import ConfigError
from imagesearch.images.find import Selection, reason_of
from imagesearch.models import catalogue
from imagesearch.settings import (
    DataSettings,
    ExtractionSettings,
    MilvusSettings,
    ModelSettings,
    SearchSettings,
    Section,
    ServerSettings,
)
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
from imagesearch.yaml_files import parse_yaml, read_sections

ENV_PREFIX = "IMAGESEARCH_"
ENV_FILE = "IMAGESEARCH_CONFIG"


class Config(Section):
    """The effective settings; build it with :func:`load_config` or from keywords in Python.

    Examples:
        >>> Config(search={"top_k": 3}).search.top_k
        3
    """

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    milvus: MilvusSettings = Field(default_factory=MilvusSettings)
    extraction: ExtractionSettings = ExtractionSettings()
    search: SearchSettings = SearchSettings()
    server: ServerSettings = ServerSettings()

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _file: str | None = PrivateAttr(None)
    _file_was_found: bool = PrivateAttr(False)

    @property
    def file(self) -> str | None:
        """The file that was read, absolute; its settings have it as their source."""
        return self._file

    @property
    def file_was_found(self) -> bool:
        """Whether that file was read because it lies in the working directory, not because somebody named it."""
        return self._file_was_found

    def source_of(self, key: str) -> str:
        """Where the value of ``"section.key"`` came from: a file, a variable, a flag or ``default``."""
        return self._sources.get(key, "default")

    @property
    def selection(self) -> Selection:
        """Which files below a folder count."""
        return Selection(self.data.include_hidden, self.data.exclude)

    @property
    def database_address(self) -> DatabaseAddress:
        """Where the database is."""
        return DatabaseAddress.parse(self.milvus.uri)

    @property
    def collection_spec(self) -> CollectionSpec:
        """The configured collection, with ``{model}`` in its name filled in."""
        milvus = self.milvus
        return CollectionSpec(
            name=milvus.collection_name.replace("{model}", catalogue.slug(self.model.name)),
            metric=milvus.metric_type,
            index_type=milvus.index_type,
            index_params=milvus.index_params,
            search_params=milvus.search_params,
            vector_field=milvus.embedding_field_name,
            index_name=milvus.index_name,
        )


def load_config(
    file: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Merge all layers into one checked :class:`Config`.

    Args:
        file: a YAML file; default: ``$IMAGESEARCH_CONFIG``, then ``config.yaml`` in the working directory,
            then none. Relative paths in it are relative to the folder it stands in.
        overrides: the topmost layer, ``{"section": {"key": value}}``; a value of None means "not given".
        environ: the environment, replaceable for tests.

    Raises:
        ConfigError: a file cannot be read, or a setting is unknown, wrong or impossible; one line per setting,
            each with its key, its value and what is allowed.
    """
    path, was_found = _find_file(file, environ)
    layers: list[tuple[str, dict[str, dict[str, Any]]]] = []
    if path is not None:
        layers.append((str(path), _anchor_paths(read_sections(path), path.parent)))
    for variable, layer in _read_environment(environ):
        layers.append((f"environment {variable}", _anchor_paths(layer, Path.cwd())))
    given: dict[str, dict[str, Any]] = {}
    for section, values in (overrides or {}).items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"{section} = {_shown(section, values)}: expected a section with keys")
        given[section] = {key: value for key, value in values.items() if value is not None}
    layers.append(("flag", _anchor_paths(given, Path.cwd())))
    config = _merge(layers)
    config._file, config._file_was_found = (None if path is None else str(path)), was_found
    return config


def config_of(settings: Mapping[str, Mapping[str, Any]]) -> Config:
    """The defaults with these settings on top, whatever ``config.yaml`` and the environment say.

    Raises:
        ConfigError: a setting is unknown, wrong or impossible.
    """
    return _merge([("flag", {section: dict(values) for section, values in settings.items()})])


def _find_file(file: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The file to read, and whether it was found rather than named."""
    chosen = file or environ.get(ENV_FILE)
    if chosen:
        path = _expanded(chosen).absolute()
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise ConfigError(f"no configuration file at {str(path)!r}: {reason_of(error)}") from error
        if not stat.S_ISREG(mode):
            raise ConfigError(f"no configuration file at {str(path)!r}")
        return path, False
    default = Path.cwd() / "config.yaml"
    # Not default.is_file(): who works for another user may be in a folder that is closed to that one.
    return (default, True) if os.path.isfile(default) else (None, False)


def _expanded(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # no such user, or no home
        raise ConfigError(f"{str(path)!r}: {error}") from error


def _read_environment(environ: Mapping[str, str]) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    found = []
    # What names a model or an index type comes first: in _merge() it clears what lower layers said of another one.
    for variable in sorted(
        environ, key=lambda name: (not name.upper().endswith(("__NAME", "__INDEX_TYPE")), name)
    ):
        if not variable.startswith(ENV_PREFIX) or variable == ENV_FILE:
            continue
        section, separator, key = variable[len(ENV_PREFIX) :].lower().partition("__")
        if not separator:
            raise ConfigError(f"{variable}: expected {ENV_PREFIX}<SECTION>__<KEY> or {ENV_FILE}")
        text: Any = environ[variable]
        if not _is_text(section, key):
            try:
                text = parse_yaml(text)
            except ValueError as error:
                raise ConfigError(f"{variable} = {_shown(variable, text)}: {error}") from None
        found.append((variable, {section: {key: text}}))
    return found


def _field(section: str, key: str) -> Any:
    """The type of a setting, or None for an unknown one."""
    declared = Config.model_fields.get(section)
    if declared is None or not isinstance(declared.annotation, type):
        return None
    fields = declared.annotation.model_fields
    return fields[key].annotation if key in fields else None


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _is_text(section: str, key: str) -> bool:
    """Whether a variable's text is the value itself (a token of digits stays text), not YAML."""
    kinds = _alternatives(_field(section, key))
    return any(kind in (str, Path, SecretStr) or typing.get_origin(kind) is Literal for kind in kinds)


def _anchor_paths(layer: dict[str, dict[str, Any]], base: Path) -> dict[str, dict[str, Any]]:
    """Make the relative paths of one layer absolute, from the folder that the layer speaks of."""
    anchored = {section: dict(values) for section, values in layer.items()}
    for section, values in anchored.items():
        for key, value in values.items():
            if Path in _alternatives(_field(section, key)) and isinstance(value, (str, Path)):
                values[key] = base / _expanded(value)
    uri = anchored.get("milvus", {}).get("uri")
    if isinstance(uri, str):
        anchored["milvus"]["uri"] = _anchored_address(uri, base)
    model = anchored.get("model", {})
    for key in ("name", "classifier"):
        name = model.get(key)
        # "models/mine" may be a folder or a hub name; a folder that is there wins.
        if (
            isinstance(name, str)
            and name not in ("", *catalogue.PRESETS)
            and os.path.isdir(base / _expanded(name))
        ):
            model[key] = os.path.normpath(base / _expanded(name))
    return anchored


def _anchored_address(uri: str, base: Path) -> str:
    try:
        return DatabaseAddress.parse(uri).anchored(base).uri
    except ConfigError:
        return uri  # refused later, if no higher layer has another one


def _merge(layers: list[tuple[str, dict[str, dict[str, Any]]]]) -> Config:
    merged: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for section, values in layer.items():
            target = merged.setdefault(section, {})
            sources.setdefault(str(section), source)
            if section == "model" and "name" in values and values["name"] != target.get("name"):
                # What a lower layer said of the other model does not hold for this one.
                for stale in ("embedding_dim", "revision", "pooling"):
                    target.pop(stale, None)
                    sources.pop(f"model.{stale}", None)
            if section == "milvus" and "index_type" in values and values["index_type"] != target.get("index_type"):
                for stale in ("index_params", "search_params"):
                    target.pop(stale, None)
                    sources.pop(f"milvus.{stale}", None)
            for key, value in values.items():
                target[key] = value
                sources[f"{section}.{key}"] = source
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        # One value that fits none of several types is several errors to pydantic, but one line to the user.
        lines: dict[tuple[Any, ...], str] = {}
        for detail in error.errors():
            lines.setdefault(detail["loc"][:3], _explain(detail, sources))
        raise ConfigError("\n".join(lines.values())) from None
    config._sources.update(sources)
    return config


def _explain(detail: ErrorDetails, sources: Mapping[str, str]) -> str:
    """One validation error as one line: where, key = value: what is allowed."""
    location = [str(part) for part in detail["loc"]]
    if location[2:3] and detail["type"] != "invalid_key":  # a parameter; what follows is pydantic's own
        key, allowed = ".".join(location[:3]), "must be a number, true or false, or a text"
    else:
        key, allowed = ".".join(location[:2]), detail["msg"][0].lower() + detail["msg"][1:]
    if detail["type"] == "tuple_type":  # of Python's words, one that YAML does not have
        allowed = "must be a list, such as ['a', 'b']"
    line = f"{key} = {_shown(key, detail['input'])}: {allowed}"
    if detail["type"] == "extra_forbidden":
        line = f"{key} = {_shown(key, detail['input'])}: unknown key ({_known_keys(location)})"
    if detail["type"] == "value_error":  # raised by check_parameters, which names key and value itself
        line = f"{key}.{detail['ctx']['error']}"
    setting = ".".join(line.split(" = ")[0].split(".")[:2])
    source = sources.get(setting) or next((sources[s] for s in sources if s.startswith(f"{setting}.")), None)
    return f"{source}: {line}" if source else line


def _shown(key: str, value: Any) -> str:
    """The value for a message, unless it is a secret or may hold one (a misspelt key, a whole section)."""
    names = key.lower().replace("__", ".").split(".")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: ..." for name in value) + "}"
    whole_section = len(names) == 1 and isinstance(value, (str, list))
    like_token = difflib.get_close_matches(names[-1], ["token", "password", "api_key"], n=1, cutoff=0.75)
    secret = names[-1] == "token" or (like_token and _field(".".join(names[:-1]), names[-1]) is None)
    return "***" if secret or whole_section else f"{value!r:.200}"


def _known_keys(location: list[str]) -> str:
    if len(location) == 1:
        known = list(Config.model_fields)
    else:
        section = Config.model_fields[location[0]].annotation
        assert isinstance(section, type)
        known = list(section.model_fields)
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f"did you mean {close[0]}?" if close else "allowed: " + ", ".join(known)
