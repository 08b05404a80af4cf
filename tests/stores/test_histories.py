"""Whatever happens to a collection, and whichever engine does it: it holds what the one in memory holds.

``IMAGESEARCH_HISTORIES=500`` runs that many histories instead of a sample.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesearch.records import Metric

from .histories import History, Operation, operations, scale_down

HISTORIES = int(os.environ.get("IMAGESEARCH_HISTORIES", "60"))

# Steps between two looks at everything.
_CHECKED_EVERY = 4


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        scale_down(monkeypatch)
        yield


@settings(
    max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(operations, st.sampled_from(list(Metric)), st.booleans())
def test_any_history_is_that_of_memory(steps: list[Operation], metric: Metric, plain: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder, "photos.db"), metric, plain)
        try:
            for number, step in enumerate(steps, start=1):
                history.do(step)
                if number % _CHECKED_EVERY == 0:
                    history.check()
            history.check()
            history.do(("reopen",))
            history.check()
        finally:
            history.close()
