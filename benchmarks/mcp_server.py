"""How soon a language model has its first answer, beside a search from a cold shell.

    python benchmarks/mcp_server.py --rows 10000

Each side is a process of its own; they take turns, and the best turn of each counts. The client is a few lines
which write JSON, so that its own imports do not count: it starts ``imagesearch mcp``, introduces itself, calls a
tool at once, and stops the clock when the answer has come. The collection has synthetic rows in Milvus Lite; the
model is the bundled one.

search      ``imagesearch search id:...``, shell to result
tool        ``search_similar`` with the same id: start of the server to answer; the ratio is to "search"
words       ``imagesearch search "school bus"``
text tool   ``search_text`` with the same words; the ratio is to "words"
sdk         the imports of the official SDK that a server needs, alone
second      a second call of the same tool
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from imagesearch import ImageSearch
from measuring import ELSEWHERE, environment, machine
from refresh import fill_of
from startup import seconds

SDK = "import os, mcp.server.lowlevel, mcp.server.stdio; os._exit(0)"
WORDS = "school bus"


class Client:
    """A client that does nothing but write and read lines.

    Args:
        command: starts the server.
    """

    def __init__(self, command: list[str]) -> None:
        self.started = time.perf_counter()
        self._server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            cwd=ELSEWHERE,
        )
        self._number = 0
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "b", "version": "1"}}
        self.request("initialize", about)
        self._send({"method": "notifications/initialized"})

    def request(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its result."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": parameters})
        assert self._server.stdout is not None
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        result: dict[str, Any] = answer["result"]
        assert not result.get("isError"), result
        return result

    def _send(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._server.stdin.flush()

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def first_answer(command: list[str], tool: str, arguments: dict[str, Any]) -> tuple[float, float]:
    """Seconds from the start of the server to the first answer of a tool, and of a second call."""
    client = Client(command)
    call = {"name": tool, "arguments": arguments}
    assert client.request("tools/call", call)["structuredContent"]["hits"]
    first = time.perf_counter() - client.started
    again = time.perf_counter()
    client.request("tools/call", call)
    second = time.perf_counter() - again
    client.close()
    return first, second


def measure(rows: int, turns: int) -> dict[str, Any]:
    """Seconds of all sides, and the ratios of tools to searches."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        uri = str(place / "library.db")
        fill_of(None, place / "library", uri, rows)
        with ImageSearch({"milvus": {"uri": uri}}) as images:
            picture = next(images.collection().scan(1))[0].id
        run = [sys.executable, "-m", "imagesearch"]
        server = [*run, "mcp", "--uri", uri]
        searches = {
            "search": [*run, "search", f"id:{picture}", "--uri", uri],
            "words": [*run, "search", WORDS, "--uri", uri],
            "sdk": [sys.executable, "-c", SDK],
        }
        best: dict[str, float] = {}
        for turn in range(turns + 1):
            taken = {name: seconds(command)[0] for name, command in searches.items()}
            taken["tool"], taken["second"] = first_answer(server, "search_similar", {"id": str(picture)})
            taken["text tool"], _ = first_answer(server, "search_text", {"text": WORDS})
            if turn or not turns:  # the first one compiles modules
                best = {name: min(best.get(name, value), value) for name, value in taken.items()}
    ratios = {"tool": best["tool"] / best["search"], "text tool": best["text tool"] / best["words"]}
    return {"machine": machine(), "rows": rows, "seconds": best, "ratios": ratios}


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=7, help="0: only the one that does not count otherwise")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    figures = measure(options.rows, options.turns)
    print(f"{options.rows:,} pictures")
    for name, value in figures["seconds"].items():
        ratio = figures["ratios"].get(name)
        print(f"  {name:<9} {value:6.3f} s{f'  {ratio:.2f} times the search' if ratio else ''}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
