"""``imagesearch config``: the settings in force, and where each one came from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING
from imagesearch.frontends.cli.options import prints, settings_from
from imagesearch.frontends.cli.output import Format, print_line, print_result

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config


@prints()
@settings_from(*COLLECTION, *COMPUTING, "batch_size")
def config(*, settings: Config, output: Format) -> None:
    """Show the settings in force and where each one came from."""
    shown = SettingsInForce(settings)
    print_result(shown, output, partial(_show, shown))


class SettingsInForce:
    """Every setting with its source; secrets are masked."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: section -> key -> value and source."""
        return {section: self._section(section, values) for section, values in self._values().items()}

    def _section(self, section: str, values: dict[str, Any]) -> dict[str, Any]:
        source_of = self.settings.source_of
        return {key: {"value": value, "source": source_of(f"{section}.{key}")} for key, value in values.items()}

    def _values(self) -> dict[str, dict[str, Any]]:
        values = self.settings.model_dump(mode="json")
        if self.settings.milvus.token is not None:
            values["milvus"]["token"] = "***"
        if not self.settings.database_address.is_local:
            values["milvus"]["uri"] = self.settings.database_address.shown
        return values


def _show(shown: SettingsInForce, out: Console) -> None:
    for section, entries in shown.to_dict().items():
        print_line(out, (f"{section}:", "bold"))
        for key, entry in entries.items():
            print_line(out, (f"  {key}: {_as_yaml(entry['value'])}", ""), (f"  # {entry['source']}", "dim"))


def _as_yaml(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
