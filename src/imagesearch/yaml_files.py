"""Settings written in YAML, by people or by strangers: read in bounded time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
