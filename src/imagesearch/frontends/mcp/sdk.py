"""Importing the official SDK of the Model Context Protocol: whether it is there, and quickly."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from imagesearch.errors import UsageError

# Of these only the submodules are needed that a server over stdin and stdout imports.
_PACKAGES = ("mcp", "mcp.server")
_NEEDED = ("mcp.server.lowlevel", "mcp.server.stdio", "mcp.shared.exceptions")


def require_sdk() -> None:
    """Refuse to go on without the SDK.

    Raises:
        UsageError: it is not installed, or in a version before 2.
    """
    try:
        importlib.import_module("mcp_types")  # which earlier versions do not have
    except ImportError as error:
        raise UsageError("the server for language models needs another package: pip install 'mcp>=2'") from error


def import_quickly() -> None:
    """Import what a server over stdin and stdout needs, and not the SDK's client and high-level server.

    Its packages import all of these by themselves, which takes a sixth of the time to a first answer. So they are
    made here without being run, for a process that does nothing but serve: :mod:`mcp` lacks its shortcuts then.
    Where the SDK was imported before, or has come to need its shortcuts itself, all of it is there as usual.
    """
    if "mcp" in sys.modules:
        return
    try:
        for name in _PACKAGES:
            spec = importlib.util.find_spec(name)
            if spec is None:
                raise ImportError(name)
            sys.modules[name] = importlib.util.module_from_spec(spec)
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError:  # another layout than this one: then the usual way, which takes longer
        for name in [name for name in sys.modules if name == "mcp" or name.startswith("mcp.")]:
            del sys.modules[name]
