"""What ``import imagesearch`` offers: read by type checkers, and by lazy_loader at run time."""

from .active_labelling import LabelSession
from .client import Client
from .config import Config, load_config
from .errors import (
    CollectionNotFoundError,
    ConfigError,
    DamagedError,
    FeaturesError,
    ForeignCollectionError,
    HubUnreachableError,
    ImageSearchError,
    LabelledMeanwhileError,
    ModelError,
    ModelMismatchError,
    PictureError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    TransferError,
    UnknownWordsError,
    UnsupportedIndexError,
    UsageError,
)
from .labelling import Labelling
from .learning.label_quality import LabelQuality
from .learning.questions import LabelProgress, Question
from .records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric, Prediction, Skipped
from .reports import AnnotateReport, ExtractReport, ForgetReport, IndexReport, OfflineRoot, TransferReport
from .search.answers import Answer
from .search.filters import Filter
from .search.labels import LabelOptions
from .search.query import Query, Region, SearchOptions
from .service import ImageSearch

__all__ = [  # noqa: RUF022 - in the order a newcomer needs them
    "ImageSearch",
    "Client",
    "Config",
    "load_config",
    "Query",
    "Region",
    "SearchOptions",
    "Filter",
    "Answer",
    "LabelOptions",
    "Labelling",
    "LabelQuality",
    "LabelSession",
    "Question",
    "LabelProgress",
    "AnnotateReport",
    "CollectionInfo",
    "ExtractReport",
    "Fingerprint",
    "ForgetReport",
    "Hit",
    "ImageRecord",
    "IndexReport",
    "Metric",
    "OfflineRoot",
    "Prediction",
    "Skipped",
    "TransferReport",
    "ImageSearchError",
    "ConfigError",
    "UsageError",
    "LabelledMeanwhileError",
    "PictureError",
    "FeaturesError",
    "TransferError",
    "ModelError",
    "HubUnreachableError",
    "StoreError",
    "StoreUnreachableError",
    "StoreLockedError",
    "DamagedError",
    "UnknownWordsError",
    "UnsupportedIndexError",
    "CollectionNotFoundError",
    "ModelMismatchError",
    "ForeignCollectionError",
]

__version__: str
