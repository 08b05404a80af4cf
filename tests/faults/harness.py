"""Cases of faults: which ones, what they show, and the table of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from .scenarios import OPERATIONS, WARM, Lab
from .server import Answer, ForkServer
from .shim import ALL, Call, Kind, Mode, compile_shim

CASES = "tests.faults.cases"
WEDGED, TRACEBACK = "wedged", "tracebacks"
BAD = ("lost", "doubled", "wrong", WEDGED, TRACEBACK)

KILLS = (Mode.KILL_BEFORE, Mode.KILL_WITHIN, Mode.KILL_AFTER)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault: at which call of which operation, and what happens."""

    operation: str
    first: int
    mode: Mode
    kinds: Kind = ALL

    def __str__(self) -> str:
        kinds = "" if self.kinds == ALL else f", {self.kinds!r} only"
        return f"{self.operation}, call {self.first}, {self.mode.name}{kinds}"


@dataclass
class Result:
    """What a case has shown.

    Attributes:
        case: which one.
        call: where the fault was.
        ended: how the operation ended: ``"done"``, ``"killed"``, or the error.
        again: how it ended when it was tried again in the same process, if it was.
        problems: kind, one of :data:`BAD`, and what was seen.
    """

    case: Case
    call: Call | None = None
    ended: str = ""
    again: str | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.case}: {self.call}", f"    ended: {self.ended}"]
        if self.again is not None:
            lines.append(f"    again in the same process: {self.again}")
        lines += [f"    {kind}: {text}" for kind, text in self.problems]
        return "\n".join(lines)


class Harness:
    """Runs cases in forked children of one process or several.

    Attributes:
        calls: operation -> the calls that it makes when all goes well, in order.
    """

    def __init__(self, root: Path, servers: Sequence[ForkServer]) -> None:
        """Use a folder and some servers; see :func:`started`."""
        self.lab = Lab(root)
        self.calls: dict[str, list[Call]] = {}
        self._servers: SimpleQueue[ForkServer] = SimpleQueue()
        for server in servers:
            self._servers.put(server)
        self._workers = len(servers)

    def prepare(self, operations: Iterable[str] = tuple(OPERATIONS)) -> None:
        """Make the databases that operations begin with, and find out what they leave.

        Raises:
            RuntimeError: an operation fails although there is no fault.
        """
        with self._server() as server:
            self._succeed(server.run(f"{CASES}:prepare_files", str(self.lab.root)))
            for operation in operations:
                self._prepare(server, operation)

    def _prepare(self, server: ForkServer, operation: str) -> None:
        self._succeed(server.run(f"{CASES}:prepare", str(self.lab.root), operation))
        folder = self._case_folder(operation, "model")
        before = self._succeed(server.run(f"{CASES}:state", operation, str(folder)))
        self._state_file(operation, "before").write_text(json.dumps(before))
        arguments = (str(self.lab.root), operation, str(folder), 0, int(Mode.COUNT))
        answer = server.run(f"{CASES}:run", *arguments, log=True)
        if self._succeed(answer)["ended"] != "done":
            raise RuntimeError(f"{operation} fails without a fault: {answer.result}")
        after = self._succeed(server.run(f"{CASES}:state", operation, str(folder)))
        self._state_file(operation, "after").write_text(json.dumps(after))
        self.calls[operation] = answer.calls
        if before["problems"] or after["problems"]:
            raise RuntimeError(f"{operation} without a fault: {before['problems']} {after['problems']}")
        shutil.rmtree(folder)

    def run(self, cases: Iterable[Case]) -> Iterator[Result]:
        """What cases show, in their order."""
        with ThreadPoolExecutor(self._workers) as pool:
            yield from pool.map(self.run_one, cases)

    def run_one(self, case: Case) -> Result:
        """What one case shows."""
        with self._server() as server:
            folder = self._case_folder(case.operation, f"{case.first}-{case.mode.name}-{int(case.kinds)}")
            try:
                return self._run(server, case, str(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _run(self, server: ForkServer, case: Case, folder: str) -> Result:
        result, root, operation = Result(case), str(self.lab.root), case.operation
        arguments = (root, operation, folder, case.first, int(case.mode), int(case.kinds))
        answer = server.run(f"{CASES}:run", *arguments, first=case.first)
        result.call = answer.call
        if answer.killed and not answer.timed_out:
            result.ended = "killed"
        elif self._judge(result, answer, "the operation"):
            result.ended, result.again = answer.result["ended"], answer.result["again"]
        before, after = (str(self._state_file(operation, name)) for name in ("before", "after"))
        wanted = after if "done" in (result.ended, result.again) else None
        self._add(
            result, server.run(f"{CASES}:look", operation, folder, before, wanted), "looking at what is left"
        )
        answer = server.run(f"{CASES}:run_undisturbed", root, operation, folder)
        if self._judge(result, answer, "the ordinary run"):
            self._add(result, server.run(f"{CASES}:look_again", operation, folder, after), "looking at the end")
            self._judge(result, server.run(f"{CASES}:work_with", folder), "going on")
        return result

    def _add(self, result: Result, answer: Answer, doing: str) -> None:
        if self._judge(result, answer, doing):
            result.problems += [(kind, f"{doing}: {text}") for kind, text in answer.result]

    def _judge(self, result: Result, answer: Answer, doing: str) -> bool:
        """Note what is wrong with how a child ended; whether it ended well."""
        is_case = doing == "the operation"
        if "Traceback (most recent call last)" in answer.stderr:
            result.problems.append((TRACEBACK, f"{doing}, on stderr: {shortened(answer.stderr)}"))
        if answer.trace:
            if "ImageSearchError" not in answer.raised:
                result.problems.append((TRACEBACK, f"{doing}: {shortened(answer.trace)}"))
            if not is_case:
                result.problems.append((WEDGED, f"{doing}: {shortened(answer.trace)}"))
        elif answer.timed_out or answer.killed:
            result.problems.append((WEDGED, f"{doing}: " + ("hangs" if answer.timed_out else "dies")))
        return not (answer.trace or answer.killed)

    def _succeed(self, answer: Answer) -> Any:
        if answer.trace or answer.killed or "Traceback" in answer.stderr:
            raise RuntimeError(f"failed without a fault: {answer.trace}{answer.stderr}{answer.killed or ''}")
        return answer.result

    def _state_file(self, operation: str, when: str) -> Path:
        return self.lab.root / f"{operation}-{when}.json"

    def _case_folder(self, operation: str, name: str) -> Path:
        folder = self.lab.root / "cases" / f"{operation}-{name}"
        folder.mkdir(parents=True)
        shutil.copytree(self.lab.prepared(operation), folder / "databases")
        return folder

    @contextmanager
    def _server(self) -> Iterator[ForkServer]:
        server = self._servers.get()
        try:
            yield server
        finally:
            self._servers.put(server)


@contextmanager
def started(root: Path, workers: int = 1) -> Iterator[Harness]:
    """A harness in an empty folder, with this many processes."""
    root = Path(os.path.realpath(root))
    shim = compile_shim(root)
    with ExitStack() as stack:
        yield Harness(root, [stack.enter_context(ForkServer(shim, WARM)) for _ in range(workers)])


def shortened(trace: str) -> str:
    """A traceback in a line: the error, and the innermost places of its own and its causes'."""
    places = []
    for part in re.split(r"\n\n(?:The above|During)[^\n]+\n\n", trace):
        found = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', part)
        own = [place for place in found if "/site-packages/" not in place[0] and "/lib/python" not in place[0]]
        places += [f"{os.path.basename(file)}:{line} ({name})" for file, line, name in (own or found)[-1:]]
    return f"{trace.strip().splitlines()[-1]} [{' <- '.join(reversed(places))}]"


def spread(count: int, wanted: int) -> list[int]:
    """Some of the numbers from 1 to ``count``, evenly, the first and the last among them."""
    if wanted >= count:
        return list(range(1, count + 1))
    return sorted({1 + round(step * (count - 1) / max(1, wanted - 1)) for step in range(wanted)})


# --- the table ---

COLUMNS = ("operation", "calls", "faults", "clear errors", "unnoticed", "kills", *BAD)


def table(results: Iterable[Result], calls: dict[str, int]) -> list[dict[str, Any]]:
    """A row per operation: calls it makes, faults, how they ended, and how many cases were bad in which way."""
    rows = {name: Counter[str]({"calls": count}) for name, count in calls.items()}
    for result in results:
        row = rows[result.case.operation]
        row["kills" if result.case.mode in KILLS else "faults"] += 1
        if result.ended == "done":
            row["unnoticed"] += 1
        elif result.ended and result.ended != "killed":
            row["clear errors"] += 1
        for kind in {kind for kind, _ in result.problems}:
            row[kind] += 1
    return [{"operation": name, **{column: row[column] for column in COLUMNS[1:]}} for name, row in rows.items()]
