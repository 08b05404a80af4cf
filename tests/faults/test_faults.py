"""A sample of faults and kills at calls spread over all operations: nothing is lost, doubled, wrong or stuck.

``benchmarks/faults.py`` tries every call.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import KILLS, Case, Harness, spread, started
from .scenarios import OPERATIONS
from .shim import Kind, Mode, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

FAULTS = (Mode.FULL, Mode.ONCE, Mode.SHORT)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with started(tmp_path_factory.mktemp("faults")) as harness:
        harness.prepare(
            sorted(OPERATIONS, key=lambda name: name == "update")
        )  # its pictures must not be drawn again
        yield harness


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failing_call_loses_nothing(harness: Harness, operation: str) -> None:
    chosen = spread(len(harness.calls[operation]), 6)
    cases = [Case(operation, first, FAULTS[place % 3]) for place, first in enumerate(chosen)]
    results = list(harness.run(cases))
    assert [str(result) for result in results if result.problems] == []
    # A write that is cut in half has no error of its own, and the number of calls differs a little between runs.
    assert sum(result.call is not None and result.call.error != 0 for result in results) >= len(cases) // 2


@pytest.mark.parametrize("operation", OPERATIONS)
def test_kill_9_loses_nothing(harness: Harness, operation: str) -> None:
    chosen = spread(len(harness.calls[operation]), 5)[1:-1]
    cases = [Case(operation, first, KILLS[place % 3]) for place, first in enumerate(chosen)]
    results = list(harness.run(cases))
    assert [str(result) for result in results if result.problems] == []
    assert {result.ended for result in results} == {"killed"}


def test_half_a_write_to_the_log_is_no_damage(harness: Harness) -> None:
    """A batch that was never acknowledged ends in the middle: it is left out, and everything goes on."""
    calls = harness.calls["import"]
    within = [call.number for call in calls if call.name == "write" and "/wal/wal_data" in call.path]
    cases = [Case("import", within[place], Mode.KILL_WITHIN) for place in (0, len(within) // 2, -1)]
    results = list(harness.run(cases))
    assert [str(result) for result in results if result.problems] == []
    assert {result.ended for result in results} == {"killed"}


def test_a_disk_that_refuses_to_synchronise_is_not_believed(harness: Harness) -> None:
    (result,) = harness.run([Case("index", 2, Mode.FULL, Kind.SYNC)])
    assert result.problems == []
    assert result.ended not in ("done", "killed")
