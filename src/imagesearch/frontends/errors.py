"""What only front ends raise."""

from __future__ import annotations

from imagesearch.errors import ImageSearchError


class WrongUsageError(ImageSearchError):
    """What was asked for makes no sense, whatever the pictures; ends with exit code 2 like a misspelt flag."""
