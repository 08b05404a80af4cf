"""Shared flags: declared once, they reach the settings of every command that takes them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from imagesearch.config import Config
from imagesearch.errors import ConfigError
from imagesearch.frontends.cli import app, flags, options
from imagesearch.frontends.cli.output import Format
from imagesearch.frontends.errors import WrongUsageError

from ..conftest import Run

COMMANDS = {name: command for panel in app.COMMANDS.values() for name, command in panel.items()}

# What the flags of each setting may be given as on the command line, and the setting's value then.
GIVEN: dict[str, tuple[Any, Any]] = {
    "exclude": (["*.gif"], None),
    "include_hidden": (True, True),
    "max_megapixels": (3.0, 3.0),
    "model": ("vit", "vit"),
    "classifier": ("vit", "vit"),
    "collection": ("mine", "mine"),
    "uri": ("http://localhost:19530", "http://localhost:19530"),
    "device": ("cpu", "cpu"),
    "precision": ("float32", "float32"),
    "rerank": ("expand", "expand"),
    "views": ("crops", "crops"),
    "allow_url": (True, True),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": (0, 0),
    "token_file": ("/somewhere/token", Path("/somewhere/token")),
    "allow_hosts": (["photos.example"], ("photos.example",)),
    "allow_labels": (True, True),
    "batch_size": (0, 0),
}


def setting_of(settings: Config, name: str) -> Any:
    section, key = flags.FLAGS[name].setting.split(".")
    return getattr(getattr(settings, section), key)


@pytest.mark.parametrize("name", GIVEN)
def test_every_flag_overrides_its_setting(name: str) -> None:
    given, expected = GIVEN[name]
    settings = options.load_settings(None, **{name: given})
    if name == "exclude":
        expected = (*Config().data.exclude, "*.gif")
    assert setting_of(settings, name) == expected
    assert settings.source_of(flags.FLAGS[name].setting) == "flag"


def test_these_are_all_flags() -> None:
    assert GIVEN.keys() | {"config"} == flags.FLAGS.keys()


def test_what_is_not_given_overrides_nothing() -> None:
    Path("config.yaml").write_text("data: {include_hidden: true, exclude: [a]}\nextraction: {batch_size: 7}\n")
    nothing = {"include_hidden": False, "exclude": None, "batch_size": None, "model": None}
    settings = options.load_settings(None, **nothing)
    assert (settings.data.include_hidden, settings.data.exclude) == (True, ("a",))
    assert settings.extraction.batch_size == 7
    assert options.load_settings(None, exclude=["b"]).data.exclude == ("a", "b")


def test_commands_declare_no_shared_flag_themselves() -> None:
    """Some have flags of another meaning: a collection to make, methods to compare, a model of words."""
    for name, command in COMMANDS.items():
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name in flags.FLAGS and (name, parameter.name) not in (
                ("import", "collection"),
                ("evaluate", "rerank"),
                ("evaluate", "views"),
                ("models", "model"),
            ):
                assert parameter.default is flags.FLAGS[parameter.name].option, f"{name} --{parameter.name}"


def test_decorators_pass_what_flags_stand_for() -> None:
    got: dict[str, Any] = {}

    @options.timed
    @options.prints(csv=True)
    @options.draws_figure
    @options.settings_from("uri", "model")
    def command(*, settings: Config, output: Format, figure: Any, watch: Any, own: int = 1) -> None:
        got.update(locals())

    parameters = list(inspect.signature(command).parameters)
    assert parameters == ["own", "visualize", "save", "as_json", "as_csv", "timings", "config", "model", "uri"]
    given = dict.fromkeys(parameters, None) | {"visualize": False, "timings": True, "own": 2, "uri": "a.db"}
    command(**given | {"as_json": False, "as_csv": True})
    assert (got["own"], got["output"]) == (2, Format.CSV)
    assert got["watch"].is_wanted
    assert not got["figure"].is_wanted
    assert got["settings"].milvus.uri == str(Path.cwd() / "a.db")
    with pytest.raises(WrongUsageError):
        command(**given | {"as_json": True, "as_csv": True})
    with pytest.raises(WrongUsageError):
        command(**given | {"as_json": True, "as_csv": False, "save": "figure.xls"})
    with pytest.raises(ConfigError):
        command(**given | {"as_json": True, "as_csv": False, "model": ""})


def test_a_shared_flag_reaches_the_settings_in_force(run: Run) -> None:
    shown = json.loads(run("config", "--json", "--batch-size", "0", "--collection", "mine").out)
    assert shown["extraction"]["batch_size"] == {"value": 0, "source": "flag"}
    assert shown["milvus"]["collection_name"] == {"value": "mine", "source": "flag"}
