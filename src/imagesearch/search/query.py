"""What a user looks for: pictures, words, and vectors that are stored already, put together with weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.images.files import IN_MEMORY
from imagesearch.images.sources import ImageSource
from imagesearch.search.filters import Filter
from imagesearch.stores.base import Vectors

if TYPE_CHECKING:
    from PIL import Image


class Kind(Enum):
    """What one part of a query is."""

    IMAGE = "image"
    WORDS = "words"
    STORED = "stored"
    VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of a picture, as it is seen upright.

    Attributes:
        left, top: its corner, from the picture's own.
        width, height: its size, more than 0.
        is_share: whether all four are percent of the picture's width or height instead of pixels.
    """

    left: float
    top: float
    width: float
    height: float
    is_share: bool = False

    def __post_init__(self) -> None:
        values = (self.left, self.top, self.width, self.height)
        if not all(map(math.isfinite, values)) or min(values) < 0 or min(self.width, self.height) <= 0:
            raise UsageError(f"region {self}: left and top must be at least 0, width and height more than 0")

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``x,y,width,height`` in pixels, or each with a percent sign.

        Raises:
            UsageError: it is something else.

        Examples:
            >>> str(Region.parse("25%, 25%, 50%, 50%"))
            '25%,25%,50%,50%'
        """
        parts = [part.strip() for part in text.split(",")]
        shares = [part.endswith("%") for part in parts]
        try:
            left, top, width, height = (float(part.removesuffix("%")) for part in parts)
        except ValueError:
            left = math.nan
        if math.isnan(left) or any(shares) != all(shares):
            raise UsageError(f"region {text!r}: must be x,y,width,height, such as 40,30,200,100 or 25%,0%,50%,50%")
        return cls(left, top, width, height, all(shares))

    def __str__(self) -> str:
        sign = "%" if self.is_share else ""
        return ",".join(f"{value:g}{sign}" for value in (self.left, self.top, self.width, self.height))

    def cut(self, image: Image.Image, size: tuple[int, int] | None = None) -> Image.Image:
        """That part of an upright picture, as far as it lies within it.

        Args:
            size: width and height in pixels of the picture itself, where ``image`` is made smaller.

        Raises:
            UsageError: it lies outside.
        """
        size = size or image.size
        width, height = (100, 100) if self.is_share else size
        across, down = image.width / width, image.height / height
        left, top = self.left * across, self.top * down
        right, bottom = min(left + self.width * across, image.width), min(top + self.height * down, image.height)
        box = (round(left), round(top), round(right), round(bottom))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise UsageError(f"region {self} lies outside the picture of {size[0]} x {size[1]} pixels")
        return image.crop(box)


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One thing that a query asks for.

    Attributes:
        kind: what it is.
        value: an image (see :func:`imagesearch.images.sources.load_image`), a text, the path or id of a picture in
            the collection, or a vector: numbers of shape (dimension,).
        weight: how much it counts; negative: results shall be unlike it.
        region: the part of the image that counts.
        name: what to call it; default: the file's name.
    """

    kind: Kind
    value: Any
    weight: float = 1.0
    region: Region | None = None
    name: str = ""

    @property
    def has_picture(self) -> bool:
        """Whether there is a file or an image to show for it."""
        return self.kind is Kind.IMAGE or (self.kind is Kind.STORED and isinstance(self.value, str))

    @property
    def label(self) -> str:
        """The part in a few words, without its weight."""
        if self.kind is Kind.WORDS:
            return f'"{self.value}"'
        if self.kind is Kind.VECTOR:
            return "a vector"
        if self.kind is Kind.STORED and not isinstance(self.value, str):
            return self.name or f"picture {self.value}"
        is_path = isinstance(self.value, (str, os.PathLike))
        name = self.name or (os.fsdecode(self.value) if is_path else IN_MEMORY)
        return f"{name} [{self.region}]" if self.region else name


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """What to look for: one or several pictures, words and vectors, each with a weight.

    Parts are compared as directions: each vector is scaled to unit length, times its weight, and the sum is what
    is looked for (Rocchio 1971), so weights do not depend on how long a model's vectors are.

    Examples:
        >>> query = Query.image("beach.jpg") + 0.5 * Query.words("dog") - Query.image("people.jpg")
        >>> str(query)
        'beach.jpg + 0.5 x "dog" - people.jpg'
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, what: ImageSource | Query) -> Query:
        """The same, or a query for one picture."""
        return what if isinstance(what, Query) else cls.image(what)

    @classmethod
    def image(cls, source: ImageSource, *, region: Region | str | None = None, name: str = "") -> Query:
        """Pictures that look like this one, or like a region of it.

        Args:
            source: a path, the bytes of a file, an open file, a Pillow image, or a uint8 array of shape (height,
                width, 3).
            region: see :class:`Region`; or as text: ``"x,y,width,height"``.
            name: what to call it; default: the file's name.
        """
        region = Region.parse(region) if isinstance(region, str) else region
        return cls((Part(Kind.IMAGE, source, region=region, name=name),))

    @classmethod
    def words(cls, text: str) -> Query:
        """Pictures of what the words say."""
        return cls((Part(Kind.WORDS, text),))

    @classmethod
    def stored(cls, picture: str | os.PathLike[str] | int) -> Query:
        """Pictures that look like one in the collection, by its path or id; its file need not be there."""
        value = int(picture) if isinstance(picture, (int, np.integer)) else os.fsdecode(picture)
        return cls((Part(Kind.STORED, value),))

    @classmethod
    def vector(cls, vector: Vectors) -> Query:
        """Pictures whose vectors are close to this one.

        Args:
            vector: numbers of shape (dimension,), or (1, dimension), as ``embed`` gives them for one picture.

        Raises:
            UsageError: they are no numbers.
        """
        refusal = UsageError("a vector in a query must be numbers of shape (dimension,)")
        try:
            numbers = np.asarray(vector)
            if numbers.dtype.kind == "O":  # of lists and tables
                numbers = numbers.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise refusal from error
        if numbers.dtype.kind not in "fiub":
            raise refusal
        return cls((Part(Kind.VECTOR, numbers[0] if numbers.ndim == 2 and len(numbers) == 1 else numbers),))

    def __add__(self, other: Query) -> Query:
        return Query(self.parts + other.parts)

    def __sub__(self, other: Query) -> Query:
        return self + -1 * other

    def __mul__(self, factor: float) -> Query:
        return Query(tuple(replace(part, weight=part.weight * factor) for part in self.parts))

    __rmul__ = __mul__

    def __str__(self) -> str:
        text = ""
        for part in self.parts:
            sign = ("- " if part.weight < 0 else "+ ") if text else ("- " if part.weight < 0 else "")
            factor = "" if abs(part.weight) == 1 else f"{abs(part.weight):g} x "
            text += f"{' ' if text else ''}{sign}{factor}{part.label}"
        return text

    @property
    def has_words(self) -> bool:
        """Whether words are part of it."""
        return any(part.kind is Kind.WORDS for part in self.parts)

    def check(self) -> None:
        """Refuse what no collection can answer.

        Raises:
            UsageError: there is nothing to look for, only something to avoid, or a weight is no number.
        """
        if not all(math.isfinite(part.weight) for part in self.parts):
            raise UsageError(f"{self}: weights must be finite numbers")
        if not any(part.weight > 0 for part in self.parts):
            raise UsageError(f"{str(self) or 'an empty query'}: name at least one thing to look for")


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How many results of a search, which, and in which order.

    Attributes:
        k: number of results, at least 1.
        offset: number of closest results to leave out: those of earlier pages.
        threshold: leave out results that are less similar (of distances: farther) than this score.
        only_confident: leave out results that may well be unrelated to the query: those with a score that more
            than one in ten queries would get from a collection that has nothing related.
        sort: ``"score"``: closest first; ``"date"``: of the same results, the newest first.
        rerank: how results are put in order: one of :data:`imagesearch.search.ranking.METHODS`; None: as the
            settings say, or by score alone where there are none.
        views: how a picture that is asked for is seen: one of
            :data:`imagesearch.search.image_encoding.VIEWS`; None: as the settings say, or as a whole where there
            are none.
        where: which pictures count.
        group: put near-identical results behind the best of them, so that they count as one.
        diverse: of these groups, choose some that are unlike each other, at the price of some similarity to the
            query.
    """

    k: int = 10
    offset: int = 0
    threshold: float | None = None
    only_confident: bool = False
    sort: str = "score"
    rerank: str | None = None
    views: str | None = None
    where: Filter | None = None
    group: bool = False
    diverse: bool = False

    def __post_init__(self) -> None:
        for name in ("k", "offset"):  # a narrow number of NumPy's overflows where one reckons with it
            if isinstance(value := getattr(self, name), np.integer):
                object.__setattr__(self, name, int(value))

    @property
    def gathers(self) -> bool:
        """Whether near-identical results are put together."""
        return self.group or self.diverse

    @property
    def leaves_out(self) -> bool:
        """Whether results that are not good enough are left out."""
        return self.threshold is not None or self.only_confident

    def check(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            UsageError: names the one and what it must be.
        """
        _whole("k", self.k, "number of results", 1)
        _whole("offset", self.offset, "number of results to leave out", 0)
        if self.sort not in SORTS:
            raise UsageError(f"sort = {self.sort!r}: must be {' or '.join(SORTS)}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"threshold = {self.threshold}: must be a finite number")


# Orders of results.
SORTS = ("score", "date")


def _whole(name: str, value: Any, what: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} = {value!r}: the {what} must be a whole number")
    if value < least:
        raise UsageError(f"{name} = {value}: the {what} must be at least {least}")
