"""How the processes of ``pytest --numprocesses`` share the tests: a file is one's, and the longest come first.

So fixtures of a module are made once. Tests marked with ``xdist_group`` are one's, too, whatever their files: two
browsers, or two database servers, would slow each other down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadGroupScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

# Groups and files that would leave the other processes without work if they came last, by their duration.
_LONGEST = (
    "chromium",
    "milvus-server",
    "tests/test_benchmarks.py",
    "tests/models/runtimes/test_selection.py",
    "tests/models/test_processes.py",
    "tests/frontends/cli/test_train_losses.py",
    "tests/training/test_commands.py",
)


class ByFile(LoadGroupScheduling):  # type: ignore[misc]
    """Tests of one group, or of one file, run in one process."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return scope.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        longest = next((name for name in _LONGEST if name in self.workqueue), None)
        if longest is not None:
            self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


def name_groups(items: list[pytest.Item]) -> None:
    """Add its group to the identifier of each test, from which the scheduler learns it.

    pytest-xdist 3.8 does that itself, but without effect on pytest 9.2, which has other identifiers:
    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark is None or not hasattr(item, "_id"):  # an earlier pytest
            continue
        if not item.nodeid.endswith(group := f"@{mark.args[0]}"):
            item._id = type(item._id).parse(item.nodeid + group)
            assert item.nodeid.endswith(group)
