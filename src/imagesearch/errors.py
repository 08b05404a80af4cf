"""Everything this package raises on purpose.

::

    ImageSearchError
    ├── ConfigError              a setting is unknown, of the wrong type, or impossible
    ├── UsageError               an argument makes no sense (k = 0, a folder where a file belongs)
    │   ├── LabelledMeanwhileError   somebody else labelled pictures meanwhile, unseen
    │   └── UnknownWordsError        the model does not know these words; carries the nearest ones
    ├── PictureError             one picture cannot be read; carries the reason
    ├── FeaturesError            a features file and its paths file do not belong together
    ├── TransferError            an export file cannot be written or read, or does not fit
    ├── ModelError               a checkpoint cannot be loaded or cannot do what was asked
    │   └── HubUnreachableError  the Hugging Face hub did not answer in time
    └── StoreError               the vector database refused or failed
        ├── StoreUnreachableError    nothing answers at the configured URI
        ├── StoreLockedError         another process owns the Milvus Lite database
        ├── DamagedError             a file of the Milvus Lite database is missing or not as it was written
        ├── UnsupportedIndexError    the connected engine lacks this index type or metric
        ├── CollectionNotFoundError  there is no such collection
        ├── ModelMismatchError       the collection holds vectors of another model
        └── ForeignCollectionError   the collection was not made by this program

A message says what happened, to which file or setting, and what to do about it. The library never
prints and never exits; front ends turn these into a line on stderr and an exit code.
"""

from __future__ import annotations


class ImageSearchError(Exception):
    """Base of every error that this package raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own calls the class with the message alone, which those with more arguments refuse: a pool of
        # processes would wait for such an error for ever.
        return _made_again, (type(self), self.args), vars(self)


def _made_again(kind: type[ImageSearchError], args: tuple[object, ...]) -> ImageSearchError:
    return kind.__new__(kind, *args)


class ConfigError(ImageSearchError):
    """A setting is unknown, has the wrong type, or does not go with another one."""


class UsageError(ImageSearchError):
    """An argument makes no sense, whatever the data."""


class LabelledMeanwhileError(UsageError):
    """Somebody else labelled pictures in the meantime, and whoever asks has not seen it."""


class UnknownWordsError(UsageError):
    """A model does not know the words that pictures are searched by.

    Attributes:
        nearest: words that it knows and that are written alike, the most alike first; none if nothing is.
    """

    def __init__(self, message: str, nearest: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest


class PictureError(ImageSearchError):
    """One picture cannot be read.

    Attributes:
        path: the file, or a description such as ``"<picture in memory>"``.
        reason: what is wrong with it, in a few words.
        retryable: whether reading it again later can succeed (a permission, a vanished file)
            or not (the bytes are no picture).
    """

    def __init__(self, path: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(f"{path!r}: {reason}")
        self.path = path
        self.reason = reason
        self.retryable = retryable


class FeaturesError(ImageSearchError):
    """A features file is damaged or does not belong to its paths file or to the model."""


class TransferError(ImageSearchError):
    """An export file cannot be written or read, or does not fit; or a collection would be copied onto itself."""


class ModelError(ImageSearchError):
    """A checkpoint cannot be loaded, or cannot do what was asked of it."""


class HubUnreachableError(ModelError):
    """The Hugging Face hub did not answer in time and the checkpoint is not on this machine."""


class StoreError(ImageSearchError):
    """The vector database refused an operation or failed."""


class StoreUnreachableError(StoreError):
    """Nothing answers at the configured database URI."""


class StoreLockedError(StoreError):
    """Another process owns the Milvus Lite database."""


class DamagedError(StoreError):
    """A file of the Milvus Lite database is missing or not as it was written; nothing was changed.

    Attributes:
        file: which one.
        problem: what is wrong with it, such as ``"is missing"``.
    """

    def __init__(self, file: object, problem: str) -> None:
        super().__init__(
            f"{file} {problem}: the database is damaged, and was left as it is. 'imagesearch check' tells what is"
            f" lost, 'imagesearch check --repair' repairs what can be"
        )
        self.file = file
        self.problem = problem


class UnsupportedIndexError(StoreError):
    """The connected engine does not know the configured index type or metric."""


class CollectionNotFoundError(StoreError):
    """There is no collection of this name in the database."""


class ModelMismatchError(StoreError):
    """The collection holds the vectors of another model than the configured one."""


class ForeignCollectionError(StoreError):
    """The collection was not made by this program: it does not say which model its vectors come from."""
