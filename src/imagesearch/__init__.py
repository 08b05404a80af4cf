"""Find similar pictures, label them, and keep them searchable.

>>> from imagesearch import ImageSearch  # doctest: +SKIP
>>> ImageSearch().search("photo.jpg", k=5)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagesearch.config import Config, load_config
    from imagesearch.errors import (
        CollectionNotFoundError,
        ConfigError,
        DamagedError,
        FeaturesError,
        ForeignCollectionError,
        HubUnreachableError,
        ImageSearchError,
        ModelError,
        ModelMismatchError,
        PictureError,
        StoreError,
        StoreLockedError,
        StoreUnreachableError,
        TransferError,
        UnsupportedIndexError,
        UsageError,
    )
    from imagesearch.records import (
        CollectionInfo,
        ExtractReport,
        Fingerprint,
        Hit,
        IndexReport,
        Metric,
        OfflineRoot,
        Picture,
        Prediction,
        Skipped,
        TransferReport,
    )
    from imagesearch.service import ImageSearch

__version__ = "0.1.0"

_HOMES = {
    "config": ("Config", "load_config"),
    "errors": (
        "CollectionNotFoundError",
        "ConfigError",
        "DamagedError",
        "FeaturesError",
        "ForeignCollectionError",
        "HubUnreachableError",
        "ImageSearchError",
        "ModelError",
        "ModelMismatchError",
        "PictureError",
        "StoreError",
        "StoreLockedError",
        "StoreUnreachableError",
        "TransferError",
        "UnsupportedIndexError",
        "UsageError",
    ),
    "records": (
        "CollectionInfo",
        "ExtractReport",
        "Fingerprint",
        "Hit",
        "IndexReport",
        "Metric",
        "OfflineRoot",
        "Picture",
        "Prediction",
        "Skipped",
        "TransferReport",
    ),
    "service": ("ImageSearch",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order a newcomer needs them
    "ImageSearch",
    "Config",
    "load_config",
    "CollectionInfo",
    "ExtractReport",
    "Fingerprint",
    "Hit",
    "IndexReport",
    "Metric",
    "OfflineRoot",
    "Picture",
    "Prediction",
    "Skipped",
    "TransferReport",
    "ImageSearchError",
    "ConfigError",
    "UsageError",
    "PictureError",
    "FeaturesError",
    "TransferError",
    "ModelError",
    "HubUnreachableError",
    "StoreError",
    "StoreUnreachableError",
    "StoreLockedError",
    "DamagedError",
    "UnsupportedIndexError",
    "CollectionNotFoundError",
    "ModelMismatchError",
    "ForeignCollectionError",
]


def __getattr__(name: str) -> Any:
    # Names are resolved when they are used: "imagesearch --help" shall not wait for NumPy and pydantic.
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"imagesearch.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'imagesearch' has no attribute {name!r}")
