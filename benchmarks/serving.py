"""The HTTP API under load: many clients search by upload, with and without batches; and while others scroll.

    python benchmarks/serving.py --pictures DIR [--rows 100000] [--clients 64] [--seconds 60]

batched        what `imagesearch serve` does: searches that come at the same time are answered together
one by one     the same server, with server.batch_size = 1
equal p95      one by one, with as many clients as it serves within the p95 of the batched server
scrolling      one client searches by id, while another one loads thumbnails that nobody asked for before

The collection holds the pictures, and copies of them under other names with other vectors, up to ``--rows``. Both
servers run at once, and take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import environment, run_cli, run_script

FILL = """
import os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from imagesearch import ImageSearch

uri, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(0)
folder.mkdir()
with ImageSearch({"milvus": {"uri": uri}}) as images:
    collection = images.collection()
    batches = list(collection.scan_vectors())
    records = [record for found, _ in batches for record in found]
    vectors = np.concatenate([found for _, found in batches])
    for start in range(len(records), rows, 10_000):
        numbers = range(start, min(start + 10_000, rows))
        for number in numbers:
            os.link(os.path.realpath(records[number % len(records)].path), folder / f"{number}.jpg")
        copies = [
            replace(records[n % len(records)], path=str(folder / f"{n}.jpg"), content_hash=f"{n:032x}")
            for n in numbers
        ]
        moved = vectors[[n % len(records) for n in numbers]]
        moved = moved + random.normal(0, 0.02, moved.shape).astype(np.float32)
        collection.upsert(copies, moved / np.linalg.norm(moved, axis=1, keepdims=True))
    collection.build_index()
"""

_BOUNDARY = "boundary-of-the-benchmark"
# Seconds after which the other side has its turn.
_TURN = 10.0


@dataclass
class Outcome:
    """What clients saw.

    Attributes:
        times: seconds of each request that was answered with 200.
        statuses: how many requests had which status.
        seconds: how long they asked.
    """

    times: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Count one request."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.times.append(seconds)

    def __iadd__(self, other: Outcome) -> Outcome:
        self.times += other.times
        self.seconds += other.seconds
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        return self

    def percentile(self, percent: float) -> float:
        """Milliseconds that so many of the requests took at most."""
        ordered = sorted(self.times)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON."""
        return {
            "requests_per_second": len(self.times) / self.seconds,
            "p50_ms": self.percentile(50),
            "p95_ms": self.percentile(95),
            "max_ms": self.percentile(100),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


class Connection:
    """One client's connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        """Status and body of an answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: {kind}\r\n\r\n" if kind else "\r\n"
        self._writer.write(head.encode() + body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)^content-length: (\d+)", answered, re.MULTILINE)
        return int(answered.split()[1]), await self._reader.readexactly(int(length[1]) if length else 0)


def form_of(file: Path) -> bytes:
    """The body of a search by upload."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n\r\n'
    tail = f'\r\n--{_BOUNDARY}\r\nContent-Disposition: form-data; name="k"\r\n\r\n10\r\n--{_BOUNDARY}--\r\n'
    return head.encode() + file.read_bytes() + tail.encode()


async def upload_searches(port: int, forms: list[bytes], clients: int, seconds: float) -> Outcome:
    """Clients that search by upload, each as fast as it is answered."""
    found, began = Outcome(), time.monotonic()

    async def client(number: int) -> None:
        async with Connection(port) as connection:
            place = number * 7
            while time.monotonic() - began < seconds:
                started = time.monotonic()
                kind = f"multipart/form-data; boundary={_BOUNDARY}"
                body = forms[place % len(forms)]
                status, _ = await connection.ask("POST", "/api/v1/search/image", body, kind)
                found.add(status, time.monotonic() - started)
                place += 1
                if status == 503:
                    await asyncio.sleep(0.1)

    await asyncio.gather(*map(client, range(clients)))
    found.seconds = time.monotonic() - began
    return found


async def scrolling(port: int, seconds: float, *, thumbnails: bool) -> Outcome:
    """One client that searches by id, while another one loads thumbnails, or does not."""
    found, began, pictures = Outcome(), time.monotonic(), await listed(port)

    async def searches() -> None:
        async with Connection(port) as connection:
            place = 0
            while time.monotonic() - began < seconds:
                part = {"kind": "picture", "id": pictures[place % len(pictures)]}
                started = time.monotonic()
                body = json.dumps({"parts": [part], "k": 60}).encode()
                status, _ = await connection.ask("POST", "/api/v1/search", body, "application/json")
                found.add(status, time.monotonic() - started)
                place += 1
                await asyncio.sleep(0.05)

    async def loads(start: int) -> None:
        async with Connection(port) as connection:
            place = start
            while time.monotonic() - began < seconds:
                key = pictures[place % len(pictures)]
                await connection.ask("GET", f"/api/v1/pictures/{key}/thumbnail?size=320")
                place += 6

    # As many as a browser has to one host.
    await asyncio.gather(searches(), *(loads(start) for start in range(6 if thumbnails else 0)))
    found.seconds = time.monotonic() - began
    return found


async def listed(port: int) -> list[str]:
    """Ids of 2,000 pictures."""
    ids: list[str] = []
    async with Connection(port) as connection:
        for offset in range(0, 2000, 500):
            _, body = await connection.ask("GET", f"/api/v1/pictures?limit=500&offset={offset}")
            ids += [picture["id"] for picture in json.loads(body)["pictures"]]
    return ids


@contextlib.contextmanager
def serving(uri: Path, batch_size: int, cache: Path) -> Iterator[tuple[int, int]]:
    """A server: its port and its process."""
    world = environment() | {"IMAGESEARCH_SERVER__BATCH_SIZE": str(batch_size), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "imagesearch", "serve", "--uri", str(uri), "--port", "0"]
    with open(cache / "log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stderr=log, env=world, cwd=cache)
        try:
            yield _port_in(cache / "log", process), process.pid
        finally:
            process.terminate()
            process.wait(30)


def _port_in(log: Path, process: subprocess.Popen[bytes]) -> int:
    """The port of a server, once it answers."""
    for _ in range(600):
        text = log.read_text(encoding="utf-8")
        if process.poll() is not None:
            raise RuntimeError(text)
        if (told := re.search(r"http://127\.0\.0\.1:(\d+)/", text)) and asyncio.run(_is_ready(int(told[1]))):
            return int(told[1])
        time.sleep(0.1)
    raise RuntimeError(f"the server does not answer: {text}")


async def _is_ready(port: int) -> bool:
    try:
        async with Connection(port) as connection:
            return (await connection.ask("GET", "/readyz"))[0] == 200
    except (OSError, asyncio.IncompleteReadError):
        return False


def resident_mb(process: int) -> float:
    """Resident memory of a process; 0 where it cannot be told."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3


def measure(pictures: Path, rows: int, clients: int, seconds: float, place: Path) -> dict[str, Any]:
    """All figures."""
    sides = {"batched": 32, "one by one": 1}
    for side in sides:
        run_cli("index", pictures, "--uri", place / f"{side}.db")
        run_script(FILL, str(place / f"{side}.db"), str(place / f"{side} copies"), str(rows))
        (place / side).mkdir()
    forms = [form_of(file) for file in sorted(pictures.rglob("*.*"))[:200]]
    with contextlib.ExitStack() as stack:
        served = {
            side: stack.enter_context(serving(place / f"{side}.db", size, place / side))
            for side, size in sides.items()
        }
        for port, _ in served.values():
            asyncio.run(upload_searches(port, forms, clients, min(2.0, seconds)))  # to warm up
        before = resident_mb(served["batched"][1])
        found = {side: Outcome() for side in served}
        turns = max(1, round(seconds / _TURN))
        for _ in range(turns):
            for side, (port, _) in served.items():
                found[side] += asyncio.run(upload_searches(port, forms, clients, seconds / turns))
        after = resident_mb(served["batched"][1])
        fewer, equal = _equal_p95(
            served["one by one"][0], forms, clients, seconds, found["batched"].percentile(95)
        )
        port = served["batched"][0]
        scrolled = {
            side: asyncio.run(scrolling(port, min(seconds, 15.0), thumbnails=side == "scrolling")).to_dict()
            for side in ("quiet", "scrolling")
        }
    figures = {side: outcome.to_dict() for side, outcome in found.items()}
    return {
        "rows": rows,
        "clients": clients,
        **figures,
        "ratio": figures["batched"]["requests_per_second"] / figures["one by one"]["requests_per_second"],
        "equal_p95": {**equal.to_dict(), "clients": fewer},
        "ratio_at_equal_p95": figures["batched"]["requests_per_second"] / equal.to_dict()["requests_per_second"],
        "memory_mb": [before, after],
        **scrolled,
    }


def _equal_p95(port: int, forms: list[bytes], clients: int, seconds: float, bound: float) -> tuple[int, Outcome]:
    """With half as many clients, and again, until p95 is within the bound."""
    while True:
        clients = max(1, clients // 2)
        found = asyncio.run(upload_searches(port, forms, clients, max(1.0, seconds / 4)))
        if found.percentile(95) <= bound or clients == 1:
            return clients, found


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rows", type=int, default=0, help="fill the collection up to so many rows")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        figures = measure(options.pictures.resolve(), options.rows, options.clients, options.seconds, place)
    for side in ("batched", "one by one", "equal_p95", "quiet", "scrolling"):
        one = figures[side]
        rate, p50, p95 = one["requests_per_second"], one["p50_ms"], one["p95_ms"]
        print(f"  {side:<11} {rate:7.1f}/s  p50 {p50:5.0f} ms  p95 {p95:5.0f} ms  {one['statuses']}")
    print(f"  batches: {figures['ratio']:.2f} times as many; {figures['ratio_at_equal_p95']:.2f} at equal p95")
    print(
        f"  memory of the server: {figures['memory_mb'][0]:.0f} MB before, {figures['memory_mb'][1]:.0f} MB after"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
