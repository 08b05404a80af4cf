"""The flags that commands share, each declared once; decorators give them to the commands that take them.

Every decorator adds its flags to a command's signature, which Typer reads, and passes what they stand for as one
keyword argument: ``settings``, ``output``, ``figure`` or ``watch``. A new flag that overrides a setting is an
entry of :data:`~imagesearch.frontends.cli.flags.FLAGS`, and its name where commands take it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from imagesearch.frontends.cli.flags import FLAGS, TO_TOKEN
from imagesearch.frontends.cli.output import Format, note, quiet_stdout
from imagesearch.frontends.cli.progress import Stopwatch
from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imagesearch.config import Config
    from imagesearch.frontends.cli.served import Served
    from imagesearch.service import ImageSearch

    Library = ImageSearch | Served

Command = Callable[..., None]


def settings_from(*flags: str) -> Callable[[Command], Command]:
    """Add ``--config`` and these flags of :data:`FLAGS`; the command gets ``settings``, a :class:`Config`.

    A wrong setting ends the command with :class:`~imagesearch.errors.ConfigError` before it begins.
    """
    return _taking(flags, "settings", load_settings)


def overrides_from(*flags: str) -> Callable[[Command], Command]:
    """The same for a command that lets another process load them; it gets ``overrides``, an :class:`Overrides`."""
    return _taking(flags, "overrides", overrides_of)


class Overrides(NamedTuple):
    """What :func:`imagesearch.config.load_config` is called with.

    Attributes:
        file: the settings file that was named.
        layer: settings by section and key that win over all others.
    """

    file: str | None
    layer: dict[str, dict[str, Any]]


def _taking(flags: Sequence[str], argument: str, make: Callable[..., Any]) -> Callable[[Command], Command]:
    names = sorted((*flags, "config"), key=list(FLAGS).index)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in names}
            command(**{argument: make(**values)}, **given)

        return extended(run, command, argument, [parameter(name, *FLAGS[name][1:]) for name in names])

    return decorate


def prints(*, csv: bool | str = False, lines: bool = False) -> Callable[[Command], Command]:
    """Add ``--json`` and, if wanted, ``--csv`` and ``--jsonl``; the command gets ``output``, a :class:`Format`.

    Args:
        csv: whether there is a ``--csv``, or its help text.
        lines: whether there is a ``--jsonl``.
    """
    added = [parameter("as_json", bool, _switch("--json", "Print JSON and nothing else on stdout."))]
    if lines:
        added.append(parameter("as_lines", bool, _switch("--jsonl", "Print a line of JSON per result.")))
    if csv:
        text = csv if isinstance(csv, str) else "Print CSV and nothing else on stdout."
        added.append(parameter("as_csv", bool, _switch("--csv", text)))

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(*, as_json: bool, as_lines: bool = False, as_csv: bool = False, **given: Any) -> None:
            wanted = {Format.JSON: as_json, Format.LINES: as_lines, Format.CSV: as_csv}
            formats = [output for output, is_wanted in wanted.items() if is_wanted]
            if len(formats) > 1:
                raise WrongUsageError(" and ".join(f"--{kind.value}" for kind in formats) + " exclude each other")
            command(output=formats[0] if formats else Format.TEXT, **given)

        return extended(run, command, "output", added)

    return decorate


def draws_figure(command: Command) -> Command:
    """Add ``--visualize`` and ``--save``; the command gets ``figure``, a :class:`FigureRequest`."""
    show = _switch("--visualize", "Show a figure in a window; without a display, save it as a PNG.")
    save_help = "Save the figure (.png, .jpg, .webp, .pdf, .svg)."

    @functools.wraps(command)
    def run(*, visualize: bool, save: str | None, **given: Any) -> None:
        command(figure=FigureRequest(visualize, save), **given)

    added = [
        parameter("visualize", bool, show),
        parameter("save", str | None, typer.Option(None, metavar="FILE", help=save_help)),
    ]
    return extended(run, command, "figure", added)


def timed(command: Command) -> Command:
    """Add ``--timings``; the command gets ``watch``, a :class:`Stopwatch` that started before the settings."""

    @functools.wraps(command)
    def run(*, timings: bool, **given: Any) -> None:
        command(watch=Stopwatch(is_wanted=timings), **given)

    switch = _switch("--timings", "Tell on stderr how long each stage took.")
    return extended(run, command, "watch", [parameter("timings", bool, switch)])


def _switch(name: str, text: str) -> Any:
    return typer.Option(False, name, help=text)


def parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    """A flag for :func:`extended`."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


def extended(run: Command, command: Command, replaced: str, added: Sequence[inspect.Parameter]) -> Command:
    """``run`` with the signature of ``command``, but for ``added`` parameters in place of ``replaced``.

    Parameters with a panel of their own come last, as in ``--help``.
    """
    # These are only named: importing Config would make --help wait for pydantic.
    signature = inspect.signature(command, eval_str=True, locals={"Config": object, "Filter": object})
    own = [parameter for name, parameter in signature.parameters.items() if name != replaced]
    parameters = sorted([*own, *added], key=_has_panel)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(run)["__signature__"] = signature.replace(parameters=parameters)
    return run


def _has_panel(parameter: inspect.Parameter) -> bool:
    options = getattr(parameter.annotation, "__metadata__", (parameter.default,))
    return any(getattr(option, "rich_help_panel", None) for option in options)


def load_settings(config: str | None = None, **flags: Any) -> Config:
    """The effective settings.

    Args:
        config: the settings file; default: see :func:`imagesearch.config.load_config`.
        flags: values of :data:`FLAGS`, the topmost layer; None, False and an empty list stand for "not given".

    Raises:
        ConfigError: one of them is wrong.
    """
    from imagesearch.config import load_config

    exclude = flags.pop("exclude", None)
    overrides = _as_layer(flags)
    settings = load_config(config, overrides, settings_environment())
    if settings.file_was_found:  # somebody else may have put it there
        note(f"settings: {settings.file}")
    if not exclude:
        return settings
    # The flag adds to the patterns of the lower layers, which are known only now.
    overrides.setdefault("data", {})["exclude"] = [*settings.data.exclude, *exclude]
    return load_config(config, overrides, settings_environment())


def settings_environment() -> dict[str, str]:
    """The environment without what only looks like a setting."""
    return {name: value for name, value in os.environ.items() if name != TO_TOKEN}


def overrides_of(config: str | None = None, **flags: Any) -> Overrides:
    """What flags say, for :func:`imagesearch.config.load_config`; see :func:`load_settings`."""
    return Overrides(config, _as_layer(flags))


def _as_layer(flags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    layer: dict[str, dict[str, Any]] = {}
    for name, value in flags.items():
        section, _, key = FLAGS[name].setting.partition(".")
        layer.setdefault(section, {})[key] = None if value is False else value
    return layer


@contextlib.contextmanager
def opened(settings: Config, same: Sequence[str] | None = None) -> Iterator[ImageSearch]:
    """The Python API with these settings; what libraries print meanwhile goes to stderr.

    Args:
        settings: the command's.
        same: settings that would have to be a server's, too, for it to do the command's work; None: it never can.
    """
    from imagesearch.frontends.cli.holders import naming_server

    with quiet_stdout(), naming_server(settings, same):
        from imagesearch.service import ImageSearch

        with ImageSearch(settings) as images:
            yield images


@contextlib.contextmanager
def opened_or_served(settings: Config, same: Sequence[str]) -> Iterator[Library]:
    """The same; or, where a running server holds the database and would do the same, that server."""
    from imagesearch.frontends.cli.holders import serves
    from imagesearch.serving_file import find

    server = find(settings)
    if server is not None and not server.differences(settings, same) and serves(server, settings):
        from imagesearch.frontends.cli.served import Served

        with quiet_stdout(), Served(settings, server) as served:
            yield served
        return
    with opened(settings, same) as images:
        yield images


class FigureRequest:
    """What ``--visualize`` and ``--save FILE`` ask for.

    Raises:
        WrongUsageError: the file's ending is none that can be written.
    """

    def __init__(self, visualize: bool = False, save: str | None = None) -> None:
        self._visualize = visualize
        self._save = save
        if save is not None:  # before any work is done
            from imagesearch.frontends.figures import figure_format

            figure_format(save)

    @property
    def is_wanted(self) -> bool:
        """Whether there is a figure to draw."""
        return self._visualize or bool(self._save)

    def deliver(self, figure: Figure, default_name: str) -> None:
        """Show or save the figure; says on stderr where a file went.

        Args:
            default_name: the file if none was named and there is no display.

        Raises:
            UsageError: the file cannot be written.
        """
        from imagesearch.frontends import figures

        if self._save is not None:
            folder = os.path.dirname(os.path.abspath(os.path.expanduser(self._save)))
            if not os.path.isdir(folder):
                note(f"making the folder {folder}")
            note(f"figure saved to {figures.save_figure(figure, self._save)}")
            if self._visualize:
                figures.show(figure)
        elif self._visualize and (path := figures.show_or_save(figure, default_name)) is not None:
            note(f"no display: figure saved to {path}")
