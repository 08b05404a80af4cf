"""Find similar pictures, label them, and keep them searchable.

>>> from imagesearch import ImageSearch  # doctest: +SKIP
>>> ImageSearch().search("photo.jpg", k=5)  # doctest: +SKIP

The public names are listed in ``__init__.pyi``. A module is imported when one of its names is used, so that
``imagesearch --help`` does not wait for NumPy and pydantic.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

__version__ = "0.1.0"

_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Old name -> new name; they work until version 1.0.
_RENAMED = {"Picture": "ImageRecord"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        import warnings

        warnings.warn(f"imagesearch.{name} is now imagesearch.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    elif name not in __all__:
        raise AttributeError(f"module 'imagesearch' has no attribute {name!r}")
    return _import_name(name)
