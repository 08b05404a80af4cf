"""Settings written in YAML, by people or by strangers: read in bounded time and memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from imagesearch.atomic import replacing
from imagesearch.errors import ConfigError

# The commented file of this program has 7,000. PyYAML reads some 50,000 a second.
_MOST_CHARACTERS = 100_000
_DEEPEST = 10


def read_sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a settings file, with their keys and values.

    Raises:
        ConfigError: it cannot be read, or has something else in it.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            content = parse_yaml(stream.read(_MOST_CHARACTERS + 1))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as 'model:' and 'milvus:', found {content!r:.60}")
    for section, values in content.items():
        if values is not None and not isinstance(values, dict):
            number = f" = {values}" if isinstance(values, (int, float)) else ""  # a text may be a misplaced token
            raise ConfigError(f"{path}: {section}{number}: expected a section with keys")
    # "milvus:" with every key commented out is an empty section, not a mistake.
    return {section: values or {} for section, values in content.items()}


def write_setting(path: Path, section: str, key: str, value: str) -> None:
    """Set one key of a settings file and leave everything else in it, comments too, as it is.

    Args:
        path: the file; it is made if it is not there.
        section, key: of the setting.
        value: plain words, which YAML takes literally.

    Raises:
        ConfigError: the file cannot be read or written, or is laid out so that the key cannot be set line by line.
    """
    before = read_sections(path) if path.exists() else {}
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        changed = _with_setting(text, section, key, value)
        expected = {**before, section: {**before.get(section, {}), key: value}}
        if parse_yaml(changed) != {name: values or None for name, values in expected.items()}:
            raise ConfigError(f"{path}: cannot set {section}.{key} here; write '{key}: {value}' there by hand")
        with replacing(path) as temporary:
            temporary.write_text(changed, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{path}: cannot be written ({reason}); {section}.{key} stays as it is") from error


def _with_setting(text: str, section: str, key: str, value: str) -> str:
    """The text of a settings file with the line of one key replaced or added."""
    start = re.search(rf"^{section}:[ \t]*(#.*)?$", text, re.MULTILINE)
    if start is None:
        return text + ("" if not text or text.endswith("\n") else "\n") + f"{section}:\n  {key}: {value}\n"
    end = re.search(r"^[^\s#]", text[start.end() :], re.MULTILINE)
    stop = len(text) if end is None else start.end() + end.start()
    body = text[start.end() : stop]
    line = re.search(rf"^([ \t]+){key}:[^\n]*$", body, re.MULTILINE)
    if line is not None:
        body = body[: line.start()] + f"{line[1]}{key}: {value}" + body[line.end() :]
    else:
        first = re.search(r"^([ \t]+)[^\s#]", body, re.MULTILINE)
        body = f"\n{first[1] if first else '  '}{key}: {value}" + body
        body += "" if body.endswith("\n") else "\n"
    return text[: start.end()] + body + text[stop:]


def parse_yaml(text: str) -> Any:
    """The values of a YAML document.

    Aliases are refused: settings need none, and a few lines of them can stand for gigabytes.

    Raises:
        ValueError: it is not YAML, too long, or nested too deeply; one line without the text around the mistake,
            which may hold a token.
    """
    import yaml

    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases (*name), which settings do without")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError("it is nested too deeply")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        if not problem:
            raise ValueError(str(error)) from None
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{problem}{place}") from None
