"""``imagesearch search``: what can be asked for, and how answers are printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ..conftest import Library, Run


@pytest.fixture
def plain(library: Library) -> Path:
    return library.folder / "plain.png"


def paths(text: str) -> list[str]:
    return [hit["path"] for hit in json.loads(text)]


class TestQueries:
    def test_more_and_less_like_this(self, run: Run, library: Library, plain: Path) -> None:
        other = library.folder / "two words.png"
        plainly = ("--uri", library.uri, "--rerank", "none", "--json")
        without = run("search", plain, *plainly)
        assert paths(without.out)[0] == str(plain)
        ran = run("search", plain, f"+3:{other}", *plainly)
        assert paths(ran.out)[0] == str(other)
        less = run("search", plain, f"-0.5:{other}", *plainly)
        assert paths(less.out).index(str(other)) > paths(without.out).index(str(other))
        shown = run("search", plain, f"-0.5:{other}", "--uri", library.uri).out
        assert f"most like {plain} - 0.5 x {other}" in shown.splitlines()[0]

    def test_a_name_that_begins_with_a_minus(
        self, run: Run, library: Library, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copy(plain, tmp_path / "-k.png")
        monkeypatch.chdir(tmp_path)
        ran = run("search", "-k.png", "-k2", "--uri", library.uri, "--json")
        assert paths(ran.out)[0] == str(plain)
        assert len(paths(ran.out)) == 2
        assert run("search", plain, "--nonsense", "--uri", library.uri).code == 2

    def test_values_of_flags_may_begin_with_a_minus(self, run: Run, library: Library, plain: Path) -> None:
        ran = run("search", plain, "--threshold", "-1", "--filter", "-1 < width", "--uri", library.uri, "--json")
        assert paths(ran.out)[0] == str(plain)
        ran = run("search", plain, "--near", "-33.9,151.2,5", "--uri", library.uri, "--json")
        assert (ran.code, ran.out.strip()) == (0, "[]")
        assert "no picture matches the filter" in ran.err

    def test_a_region(self, run: Run, library: Library, plain: Path) -> None:
        whole = run("search", plain, "--crop", "0%,0%,100%,100%", "--uri", library.uri, "--json")
        assert json.loads(whole.out)[0]["score"] == pytest.approx(1, abs=1e-3)
        outside = run("search", plain, "--crop", "9999,0,5,5", "--uri", library.uri)
        assert (outside.code, outside.out) == (1, "")
        assert "lies outside the picture" in outside.err
        assert run("search", plain, "--crop", "1,2,3", "--uri", library.uri).code == 2

    def test_a_region_of_what_is_no_picture(self, run: Run, library: Library) -> None:
        ran = run("search", "dog", "--crop", "0,0,5,5", "--uri", library.uri)
        assert (ran.code, ran.out) == (2, "")
        assert "--crop" in ran.err

    def test_a_stored_picture_and_a_vector(self, run: Run, library: Library, tmp_path: Path, plain: Path) -> None:
        from imagesearch import ImageSearch
        from imagesearch.records import picture_id

        ran = run("search", f"id:{picture_id(os.path.realpath(plain))}", "--uri", library.uri, "--json")
        assert paths(ran.out)[0] == str(plain)
        with ImageSearch({"milvus": {"uri": library.uri}}) as images:
            np.save(tmp_path / "query.npy", images.embed([plain]))
        ran = run("search", tmp_path / "query.npy", "--uri", library.uri, "--json")
        assert paths(ran.out)[0] == str(plain)

    def test_urls_are_off(self, run: Run, library: Library) -> None:
        ran = run("search", "http://localhost:1/a.jpg", "--uri", library.uri)
        assert ran.code == 2
        assert "--allow-url" in ran.err
        ran = run("search", "http://localhost:1/a.jpg", "--allow-url", "--uri", library.uri)
        assert ran.code == 1
        assert "not public" in ran.err or "loopback" in ran.err


class TestManyQueries:
    def test_of_a_file_and_of_stdin(self, run: Run, library: Library, plain: Path, tmp_path: Path) -> None:
        lines = f"{plain}\n\n'{plain}' -0.5:'{library.folder / 'two words.png'}'\nnowhere.png\n"
        (tmp_path / "queries.txt").write_text(lines)
        ran = run("search", "--queries", tmp_path / "queries.txt", "-k", "2", "--uri", library.uri, "--jsonl")
        first, second, third = map(json.loads, ran.out.splitlines())
        assert ran.code == 1
        assert "1 of the queries could not be answered" in ran.err
        assert first["hits"][0]["path"] == str(plain)
        assert second["query"].startswith(f"{plain} - 0.5 x ")
        assert "no such file" in third["error"]
        piped = subprocess.run(
            [sys.executable, "-m", "imagesearch", "search", "--queries", "-", "--uri", library.uri, "--csv"],
            input=f"{plain}\n", capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert piped.stdout.splitlines()[0] == "query,rank,score,path"
        assert piped.stdout.splitlines()[1].startswith(f"{plain},1,1.0,")

    def test_names_and_words_as_they_come(self, run: Run, library: Library, plain: Path, tmp_path: Path) -> None:
        odd = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"))
        shutil.copy(plain, odd)
        lines = b"\xef\xbb\xbf" + b"\n".join([os.fsencode(plain), os.fsencode(odd), b"an owl's eye", b"it's.png"])
        (tmp_path / "queries.txt").write_bytes(lines)
        ran = run("search", "--queries", tmp_path / "queries.txt", "-k", "1", "--uri", library.uri, "--json")
        first, second, third, fourth = json.loads(ran.out)
        assert first["hits"][0]["path"] == second["hits"][0]["path"] == str(plain)
        assert second["query"] == odd
        assert third["query"] == '"an owl\'s eye"'  # words
        assert "no such file" in fourth["error"]
        piped = subprocess.run(
            [sys.executable, "-m", "imagesearch", "search", "--queries", "-", "--uri", library.uri, "--json"],
            input=os.fsencode(odd), capture_output=True, check=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert json.loads(piped.stdout)[0]["query"] == odd

    def test_of_a_folder(self, run: Run, library: Library) -> None:
        ran = run("search", "--queries", library.folder, "-k", "1", "--uri", library.uri, "--json")
        answers = json.loads(ran.out)
        assert ran.code == 0
        assert len(answers) == 6
        assert all(answer["hits"][0]["path"] == answer["query"] for answer in answers)

    def test_of_a_folder_with_a_region(self, run: Run, library: Library) -> None:
        crop = ("--crop", "0,0,5,5")
        ran = run("search", "--queries", library.folder, *crop, "-k", "1", "--uri", library.uri, "--json")
        assert all(answer["query"].endswith(" [0,0,5,5]") for answer in json.loads(ran.out))

    def test_what_does_not_go_together(self, run: Run, library: Library, plain: Path) -> None:
        assert run("search", plain, "--queries", library.folder, "--uri", library.uri).code == 2
        assert run("search", "--queries", "nowhere.txt", "--uri", library.uri).code == 1
        assert run("search", "--uri", library.uri).code == 2

    @pytest.mark.parametrize("flag", ["--copy-to", "--link-to", "--html", "--save"])
    def test_places_without_a_name(self, run: Run, library: Library, plain: Path, flag: str) -> None:
        ran = run("search", plain, flag, "", "--uri", library.uri)
        assert (ran.code, ran.out, list(Path().iterdir())) == (2, "", [])


class TestAnswers:
    def test_remarks_are_of_all_queries(self, run: Run, library: Library, plain: Path) -> None:
        ran = run("search", plain, "text:dog", "--only-confident", "--uri", library.uri)
        assert "dog: German shepherd" in ran.err
        assert "--only-confident: nothing is known" in ran.err
        ran = run("search", "nowhere.png", plain, "--under", library.folder, "--uri", library.uri)
        assert "no picture matches the filter" not in ran.err

    def test_paths_say_what_failed(self, run: Run, library: Library, plain: Path) -> None:
        ran = run("search", plain, "nowhere.png", "--paths", "-k", "1", "--uri", library.uri)
        assert (ran.code, ran.out) == (1, f"{plain}\n")
        assert "'nowhere.png': no such file" in ran.err

    def test_nothing_is_similar_enough(self, run: Run, library: Library, plain: Path) -> None:
        image = ["search", plain, "--crop", "0,0,5,5", "--uri", library.uri]
        ran = run(*image, "--threshold", "1")
        assert ran.code == 0
        assert ran.out.startswith("nothing in collection images_starter is similar enough")
        assert "the closest has 0." in ran.out
        assert json.loads(run(*image, "--threshold", "1", "--json").out) == []

    def test_pages(self, run: Run, library: Library, plain: Path) -> None:
        all_hits = json.loads(run("search", plain, "-k", "6", "--uri", library.uri, "--json").out)
        page = json.loads(run("search", plain, "-k", "2", "--offset", "2", "--uri", library.uri, "--json").out)
        assert page == all_hits[2:4]
        assert page[0]["rank"] == 3

    def test_newest_first(self, run: Run, library: Library, plain: Path) -> None:
        hits = json.loads(run("search", plain, "--sort", "date", "--uri", library.uri, "--json").out)
        times = [hit["mtime_ns"] // 10**9 for hit in hits]
        assert times == sorted(times, reverse=True)

    @pytest.mark.parametrize("flags", [("--sort", "size"), ("--after", "yesterday"), ("--near", "91,0,1")])
    def test_flags_that_make_no_sense_are_wrong_usage(
        self, run: Run, library: Library, plain: Path, flags: tuple[str, str]
    ) -> None:
        ran = run("search", plain, *flags, "--uri", library.uri)
        assert ran.code == 2
        assert flags[1].split(",")[0] in ran.err


class TestDelivery:
    def test_a_page(self, run: Run, library: Library, plain: Path, tmp_path: Path) -> None:
        ran = run("search", plain, "--html", tmp_path / "hits.html", "-k", "3", "--uri", library.uri)
        assert f"page saved to {tmp_path / 'hits.html'}" in ran.err
        text = (tmp_path / "hits.html").read_text(encoding="utf-8")
        assert text.count("<img ") == 1 + 3
        assert "plain.png" in text

    def test_copies_and_links(self, run: Run, library: Library, plain: Path, tmp_path: Path) -> None:
        ran = run(
            *("search", plain, "-k", "2", "--uri", library.uri),
            *("--copy-to", tmp_path / "copies", "--link-to", tmp_path / "links"),
        )
        assert ran.code == 0
        assert "2 pictures copied to" in ran.err
        assert (tmp_path / "copies" / "01-plain.png").read_bytes() == plain.read_bytes()
        assert os.path.samefile(tmp_path / "links" / "01-plain.png", plain)

    def test_paths_for_other_programs(self, run: Run, library: Library, plain: Path) -> None:
        ran = run("search", plain, "-k", "6", "--paths", "--uri", library.uri)
        assert ran.out.splitlines()[0] == str(plain)
        command = [
            sys.executable,
            "-m",
            "imagesearch",
            "search",
            str(plain),
            "-k",
            "6",
            "-0",
            "--uri",
            library.uri,
        ]
        done = subprocess.run(command, capture_output=True, check=True)
        found = done.stdout.split(b"\0")
        assert found[-1] == b""
        assert {os.path.basename(path) for path in found[:-1]} == set(os.listdir(os.fsencode(library.folder)))

    def test_previews_need_a_terminal(self, run: Run, library: Library, plain: Path) -> None:
        ran = run("search", plain, "--preview", "--uri", library.uri)
        assert "no previews: stdout is no terminal" in ran.err

    def test_one_kind_of_output(self, run: Run, library: Library, plain: Path) -> None:
        for flags in (["--paths", "--json"], ["-0", "--csv"], ["--preview", "--paths"]):
            assert run("search", plain, *flags, "--uri", library.uri).code == 2

    def test_near_identical_pictures_count_as_one(self, run: Run, library: Library, tmp_path: Path) -> None:
        folder = tmp_path / "pictures"
        shutil.copytree(library.folder, folder)
        shutil.copy(library.folder / "plain.png", folder / "copy.png")
        uri = tmp_path / "p.db"
        assert run("index", folder, "--uri", uri).code == 0
        query = folder / "plain.png"
        hits = json.loads(run("search", query, "--group", "-k", "3", "--uri", uri, "--json").out)
        assert len(hits) == 3
        assert {hits[0]["path"], *hits[0]["others"]} >= {str(query), str(folder / "copy.png")}
        shown = run("search", query, "--group", "--uri", uri).out
        assert "nearly the same" in shown
        diverse = paths(run("search", query, "--diverse", "-k", "2", "--uri", uri, "--json").out)
        assert len(diverse) == 2
        assert len({str(folder / "copy.png"), str(query)} & set(diverse)) == 1
