"""Filing pictures, killed before each change of a file in turn, and undo killed likewise: a program of its own.

    python -m tests.library.killing FOLDER copy|link|move "links"|"no links"

Prints how many changes filing makes; ends with an error if a tree was not restored.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagesearch.library.sorting import How, Sorter
from imagesearch.library.undo_file import undo

Tree = dict[str, "tuple[bytes, int] | str | None"]

# What changes files, as Python's audit hooks name it.
_CHANGES = ("open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.symlink", "os.utime", "os.rmdir")


def snapshot(root: Path) -> Tree:
    """Everything below a folder: content and time of files, targets of links, folders."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        key = os.fspath(path.relative_to(root))
        if path.is_symlink():
            found[key] = os.readlink(path)
        else:
            found[key] = None if path.is_dir() else (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def refusing(number: int) -> Callable[..., None]:
    def link(source: str, target: str, **_: Any) -> None:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        raise OSError(number, os.strerror(number))

    return link


def killed(work: Callable[[], object], number: int) -> bool:
    """Run a function in a child process that is killed before its n-th change of a file; whether it was."""
    process = os.fork()
    if process == 0:
        left = number

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in _CHANGES:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must not go on in the place of its parent
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL), status
    return os.WIFSIGNALED(status)


def sweep(place: Path, how: How) -> int:
    """See the module; how many changes there are."""
    tree, out = place / "tree", place / "out"
    for number, name in enumerate(("a.jpg", "sub/a.jpg")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"picture %d" % number)
        os.utime(tree / name, ns=(10**18, 10**18 + number))
    before, number = snapshot(place), 0

    def file_all() -> None:
        with Sorter(out, how) as sorter:
            for path in sorted(tree.rglob("*.jpg")):
                assert sorter.file(path, "dog").target is not None

    was_killed = True
    while was_killed:
        number += 1
        was_killed = killed(file_all, number)
        for later in range(1, 100):
            journals = list(out.glob("undo-*.jsonl"))
            if not journals or not killed(lambda: undo(journals[0]), later):  # noqa: B023 - called at once
                break
        left = snapshot(place)
        left.pop("out", None)  # made just before the journal, and empty
        assert left == before, f"killed before change {number}: {left}"
        shutil.rmtree(out, ignore_errors=True)
    return number


if __name__ == "__main__":
    if sys.argv[3] == "no links":
        os.link = refusing(errno.EPERM)  # type: ignore[assignment]
    sys.stdout.write(f"{sweep(Path(sys.argv[1]), sys.argv[2])}\n")  # type: ignore[arg-type]
