"""Every command: what it prints where, its exit codes, and what it does with bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import threadpoolctl
from PIL import Image

from imagesearch import __version__
from imagesearch.errors import ModelError
from imagesearch.frontends.cli.app import app
from imagesearch.search.answers import Answer
from imagesearch.search.query import Query

from ...conftest import draw_picture
from ..conftest import ODD_NAMES, Library, Run

ALL = ("plain.png", *ODD_NAMES)


# --- start-up ---


def test_help_imports_nothing_heavy() -> None:
    heavy = {
        "torch",
        "transformers",
        "pymilvus",
        "milvus_lite",
        "matplotlib",
        "huggingface_hub",
        "numpy",
        "pydantic",
        "pyarrow",
        "watchfiles",
        "PIL",
    }
    program = [sys.executable, "-X", "importtime", "-m", "imagesearch", "--help"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not heavy & imported
    assert "similar pictures" in done.stdout


class TestLeaving:
    """The process ends quickly, and yet as Python promises."""

    @staticmethod
    def leave(before: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        start = "from imagesearch.frontends.cli.app import main; main()"
        program = f"import atexit, sys, threading, time; {before}; {start}"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            **({"stdout": subprocess.PIPE} | options),
        )

    @pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["search", "no.jpg"], 1), (["--no"], 2)])
    def test_exit_codes_exit_functions_and_whole_output(self, arguments: list[str], code: int) -> None:
        done = self.leave("atexit.register(print, 'the end')", *arguments)
        assert done.returncode == code
        assert done.stdout.endswith("the end\n")
        assert "Traceback" not in done.stderr

    def test_only_the_command_tunes_its_process(self) -> None:
        show = "import gc; atexit.register(lambda: print(gc.get_threshold()[0]))"
        assert self.leave(show, "--version").stdout.endswith("\n10000\n")
        inside = (
            "import gc; from imagesearch.frontends.cli.app import app; app(['--version'], standalone_mode=False)"
        )
        program = [sys.executable, "-c", f"{inside}; print(gc.get_threshold()[0])"]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.splitlines()[-1] != "10000"

    @pytest.mark.parametrize(("told", "threads"), [("", "1"), ("2", "2")])
    def test_numpy_multiplies_in_one_thread_unless_told_otherwise(
        self, told: str, threads: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not any(one["internal_api"] == "openblas" for one in threadpoolctl.threadpool_info()):
            pytest.skip("this NumPy multiplies by another library")
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        if told:
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", told)
        count = "__import__('numpy'), __import__('threadpoolctl').threadpool_info()[0]['num_threads']"
        done = self.leave(f"atexit.register(lambda: print(({count})[1]))", "--version")
        assert done.stdout.endswith(f"\n{threads}\n")

    def test_threads_are_waited_for(self) -> None:
        """The thread ends only once the main thread has."""
        work = "threading.Thread(target=lambda: (threading.main_thread().join(), print('done'))).start()"
        assert self.leave(work, "--version").stdout.endswith("done\n")

    def test_nobody_reads_the_output(self) -> None:
        program = [sys.executable, "-m", "imagesearch", "models", "--csv"]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""

    @pytest.mark.skipif(os.name != "posix", reason="of POSIX shells")
    @pytest.mark.parametrize("closed", [0, 1, 2])
    def test_streams_that_the_shell_closed(self, closed: int) -> None:
        lacking = "sum(stream is None for stream in (sys.stdin, sys.stdout, sys.stderr))"
        before = f"import os; atexit.register(lambda: os._exit({lacking}))"
        assert self.leave(before, "config", preexec_fn=lambda: os.close(closed)).returncode == 0

    def test_a_profiler_gets_to_write(self, tmp_path: Path) -> None:
        program = ["-m", "cProfile", "-o", str(tmp_path / "profile"), "-m", "imagesearch", "--version"]
        subprocess.run([sys.executable, *program], timeout=60, check=True, capture_output=True)
        assert (tmp_path / "profile").stat().st_size > 0

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("arguments", [["--version"], ["models"], ["models", "--csv"]])
    def test_output_to_a_full_disk(self, arguments: list[str], unbuffered: str) -> None:
        with open("/dev/full", "w") as full:
            environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
            done = self.leave("pass", *arguments, stdout=full, env=environment)
        assert done.returncode == 1
        assert done.stderr == "imagesearch: error: cannot write: No space left on device\n"


def test_version(run: Run) -> None:
    assert run("--version").out == f"imagesearch {__version__}\n"


def test_unknown_command_and_flag_are_wrong_usage(run: Run) -> None:
    assert run("serch", "x").code == 2
    assert run("search", "x.png", "--colour").code == 2


COMMANDS = (
    *(
        "index",
        "search",
        "classify",
        "watch",
        "annotate",
        "forget",
        "evaluate",
        "label",
        "train",
        "extract",
        "build",
        "info",
        "collections",
        "copy",
        "rename",
    ),
    *("drop", "export", "import", "migrate", "check", "serve", "mcp", "models", "config", "demo"),
)


def test_these_are_all_commands() -> None:
    assert [command.name for command in app.registered_commands] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    shown = run(command, "--help")
    assert shown.code == 0
    assert command in shown.out


# --- index ---


def test_index_reports_and_names_each_skipped_file(run: Run, picture_folder: Path, tmp_path: Path) -> None:
    (picture_folder / "text.jpg").write_text("no picture")
    (picture_folder / "zero.png").touch()
    ran = run("index", picture_folder, "--uri", tmp_path / "a.db")
    facts = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert ran.code == 0
    assert (facts["found"], facts["indexed"], facts["skipped"]) == ("8", "6", "2")
    assert facts["collection"] == "images_starter"
    assert str(tmp_path / "a.db") in facts["database"]
    assert f"skipped {picture_folder / 'text.jpg'}: is not a picture" in ran.err
    assert f"skipped {picture_folder / 'zero.png'}: is empty" in ran.err
    again = run("index", picture_folder, "--uri", tmp_path / "a.db", "--json")
    report = json.loads(again.out)
    assert (report["indexed"], report["unchanged"], len(report["skipped"])) == (0, 6, 2)
    assert again.code == 0


def test_index_of_nothing_readable_fails(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(25):
        (folder / f"{number:02}.jpg").write_bytes(b"nonsense")
    ran = run("index", folder, "--uri", tmp_path / "a.db")
    assert ran.code == 1
    assert ran.err.count("skipped /") == 20
    assert "and 5 more files skipped" in ran.err
    assert len(json.loads(run("index", folder, "--uri", tmp_path / "a.db", "--json").out)["skipped"]) == 25


def test_index_takes_its_folder_from_the_settings(run: Run, picture_folder: Path) -> None:
    Path("config.yaml").write_text(f"data: {{raw_dir: {picture_folder}}}\nmilvus: {{uri: here.db}}\n")
    assert json.loads(run("index", "--json").out)["indexed"] == 6
    assert Path("here.db").exists()


def test_index_without_any_folder_is_wrong_usage(run: Run) -> None:
    ran = run("index")
    assert ran.code == 2
    assert "data.raw_dir" in ran.err


@pytest.mark.parametrize("command", ["index", "extract"])
def test_missing_and_empty_folders(run: Run, tmp_path: Path, command: str) -> None:
    prefix = ["-o", "x"] if command == "extract" else ["--uri", tmp_path / "a.db"]
    missing = run(command, tmp_path / "nowhere", *prefix)
    (tmp_path / "empty").mkdir()
    empty = run(command, tmp_path / "empty", *prefix)
    assert (missing.code, empty.code) == (1, 1)
    assert "nowhere" in missing.err
    assert "no pictures" in empty.err
    assert missing.out == empty.out == ""


def test_interruption_while_modules_are_imported() -> None:
    program = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from imagesearch.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "imagesearch: interrupted\n")


def test_interruption_says_what_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch, picture_folder: Path, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imagesearch.service.ImageSearch.index", interrupt)
    ran = run("index", picture_folder, "--uri", tmp_path / "a.db")
    assert ran.code == 130
    first, last = ran.err.splitlines()
    assert first.startswith("starter is the small bundled model; --model vit")
    assert last == "imagesearch: interrupted; what was indexed so far is kept: run the same command again to go on"


# --- search ---


@pytest.mark.parametrize("name", ALL)
def test_every_picture_finds_itself_whatever_its_name(run: Run, library: Library, name: str) -> None:
    ran = run("search", library.folder / name, "-k", "3", "--uri", library.uri, "--json")
    hits = json.loads(ran.out)
    assert ran.code == 0
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["path"] == str(library.folder / name)
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert all(hits[0]["score"] > hit["score"] for hit in hits[1:])


def test_search_prints_whole_paths_harmlessly(run: Run, library: Library) -> None:
    ran = run("search", library.folder / "plain.png", "-k", "6", "--uri", library.uri)
    lines = ran.out.splitlines()
    assert "cosine" in lines[1]
    assert f"   1   1.000  {library.folder / 'plain.png'}" in lines
    assert len(lines) == 2 + 6
    paths = {line.split(maxsplit=2)[2] for line in lines[2:]}
    assert f"{library.folder}/new\\nline.png" in paths
    assert f"{library.folder}/caf\\udce9.png" in paths
    assert f"{library.folder}/emoji 😀.png" in paths


def test_search_tells_how_long_its_stages_took(run: Run, library: Library) -> None:
    plain = run("search", library.folder / "plain.png", "--uri", library.uri)
    timed = run("search", library.folder / "plain.png", "--uri", library.uri, "--timings")
    assert timed.out == plain.out
    (line,) = [line for line in timed.err.splitlines() if line not in plain.err.splitlines()]
    stages = r"timings: settings .* s, database .* s, model .* s, search .* s; together [\d.]+ s"
    assert re.fullmatch(stages, line)
    many = run("search", "--queries", library.folder, "--uri", library.uri, "--timings", "--csv")
    assert re.fullmatch(stages, many.err.strip())


def test_escape_sequences_in_names_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    draw_picture(1).save(folder / "\x1b]0;owned\x07\x1b[2J.png")
    (folder / "\x1b[31mbroken.png").write_bytes(b"x")
    uri = tmp_path / "evil.db"
    texts = [run("index", folder, "--uri", uri), run("search", next(folder.glob("*2J.png")), "--uri", uri)]
    assert all("\x1b" not in ran.out + ran.err and "\x07" not in ran.out + ran.err for ran in texts)
    assert "\\x1b[31mbroken.png" in texts[0].err


def test_search_csv_is_a_table(run: Run, library: Library) -> None:
    ran = run("search", library.folder / "plain.png", "--uri", library.uri, "--csv")
    rows = list(csv.reader(io.StringIO(ran.out)))
    assert rows[0] == ["rank", "score", "path"]
    assert rows[1][2] == str(library.folder / "plain.png")
    assert str(library.folder / "new\nline.png") in {row[2] for row in rows}
    assert len(rows) == 1 + 6


def test_k_beyond_the_collection_is_capped_and_said(run: Run, library: Library) -> None:
    ran = run("search", library.folder / "plain.png", "-k", "50", "--uri", library.uri, "--json")
    assert len(json.loads(ran.out)) == 6
    assert "collection holds only 6 pictures" in ran.err
    assert ran.code == 0


@pytest.mark.parametrize("k", ["0", "-3", "many"])
def test_senseless_k_is_wrong_usage(run: Run, library: Library, k: str) -> None:
    ran = run("search", library.folder / "plain.png", "-k", k, "--uri", library.uri)
    assert (ran.code, ran.out) == (2, "")


def test_search_for_what_is_no_picture(run: Run, library: Library, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for path, reason in (
        (tmp_path / "gone.png", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "text.jpg", "is not a picture"),
    ):
        ran = run("search", path, "--uri", library.uri, "--json")
        assert (ran.code, ran.out) == (1, "")
        assert len(ran.err.splitlines()) == 1
        assert ran.err.startswith("imagesearch: error: ")
        assert reason in ran.err


def test_search_before_indexing(run: Run, library: Library, tmp_path: Path) -> None:
    ran = run("search", library.folder / "plain.png", "--uri", tmp_path / "new.db")
    assert (ran.code, ran.out) == (1, "")
    assert "images_starter" in ran.err


def test_several_pictures_are_searched_for_in_one_go(run: Run, library: Library) -> None:
    first, second = library.folder / "plain.png", library.folder / "two words.png"
    alone = [
        json.loads(run("search", path, "-k", "2", "--uri", library.uri, "--json").out) for path in (first, second)
    ]
    together = run("search", first, second, "-k", "2", "--uri", library.uri, "--json")
    assert json.loads(together.out) == [
        {"query": str(first), "meanings": [], "hits": alone[0]},
        {"query": str(second), "meanings": [], "hits": alone[1]},
    ]
    rows = list(csv.DictReader(io.StringIO(run("search", first, second, "--uri", library.uri, "--csv").out)))
    assert {row["query"] for row in rows} == {str(first), str(second)}
    assert [row["path"] for row in rows if row["rank"] == "1"] == [str(first), str(second)]
    text = run("search", first, second, "-k", "1", "--uri", library.uri).out
    assert text.index(f"most like {first}") < text.index(f"most like {second}")
    refused = run("search", first, second, "--uri", library.uri, "--save", "a.png")
    assert refused.code == 2
    assert "a figure shows one search" in refused.err


def test_json_and_csv_exclude_each_other(run: Run, library: Library) -> None:
    assert run("search", library.folder / "plain.png", "--json", "--csv").code == 2


def test_visualize_without_display_saves_a_figure(
    run: Run, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    ran = run("search", library.folder / "plain.png", "--uri", library.uri, "--visualize", "--json")
    assert len(json.loads(ran.out)) == 6
    assert "imagesearch-search-plain.png" in ran.err
    with Image.open("imagesearch-search-plain.png") as figure:
        assert figure.width > 1000


def test_save_writes_where_it_is_told(run: Run, library: Library) -> None:
    ran = run("search", library.folder / "plain.png", "--uri", library.uri, "--save", "out/figure.jpg")
    assert ran.code == 0
    with Image.open("out/figure.jpg") as figure:
        assert figure.format == "JPEG"


def test_save_refuses_unknown_endings_before_working(run: Run, library: Library) -> None:
    ran = run("search", library.folder / "plain.png", "--uri", library.uri, "--save", "figure.xls")
    assert (ran.code, ran.out) == (2, "")
    assert ".png" in ran.err


# --- classify ---


def test_classify_prints_a_block_for_each_picture(run: Run, library: Library) -> None:
    ran = run("classify", library.folder / "plain.png", library.folder / "two words.png", "--top", "2")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0] == str(library.folder / "plain.png")
    assert lines[3] == str(library.folder / "two words.png")
    assert all("%" in lines[place] for place in (1, 2, 4, 5))
    assert len(lines) == 6


def test_classify_goes_on_after_a_bad_picture(run: Run, library: Library, tmp_path: Path) -> None:
    ran = run("classify", tmp_path / "gone.png", library.folder / "plain.png", "--json")
    gone, plain = json.loads(ran.out)
    assert ran.code == 1
    assert gone == {"path": str(tmp_path / "gone.png"), "error": "no such file or directory"}
    assert len(plain["predictions"]) == 5
    assert sum(label["score"] for label in plain["predictions"]) <= 1.0
    assert "gone.png: no such file" in ran.err


def test_classify_enters_folders(run: Run, library: Library, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("classify", library.folder, tmp_path / "empty", "--top", "1", "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert ran.code == 1
    assert "no pictures in this folder" in ran.err
    assert sorted(row["path"] for row in rows) == sorted(
        str(library.folder / name).replace("\udce9", "\\udce9") for name in ALL
    )


def test_classify_saves_one_figure_of_all_pictures(run: Run, library: Library) -> None:
    assert run("classify", library.folder, "--save", "labels").code == 0
    with Image.open("labels.png") as figure:
        assert figure.height > 6 * 300


def test_classify_with_a_model_that_is_not_here(run: Run, library: Library) -> None:
    ran = run("classify", library.folder / "plain.png", "--model", "no/such/folder")
    assert (ran.code, ran.out) == (1, "")
    assert "no/such/folder" in ran.err
    assert run("classify", library.folder / "plain.png", "--top", "0").code == 2


# --- extract and build ---


def test_extract_then_build_then_search(run: Run, picture_folder: Path, tmp_path: Path) -> None:
    extracted = json.loads(run("extract", picture_folder, "-o", tmp_path / "out" / "mine", "--json").out)
    assert extracted["features"] == str(tmp_path / "out" / "mine_features.npy")
    assert extracted["extracted"] == 6
    uri = tmp_path / "b.db"
    built = run("build", "-f", extracted["features"], "-p", extracted["paths"], "--uri", uri)
    assert built.code == 0
    assert "indexed     6" in built.out
    hits = json.loads(run("search", picture_folder / "0.png", "-k", "1", "--uri", uri, "--json").out)
    assert hits[0]["path"] == str(picture_folder / "0.png")


def test_build_refuses_files_that_do_not_belong_together(run: Run, picture_folder: Path, tmp_path: Path) -> None:
    run("extract", picture_folder, "-o", tmp_path / "a")
    (tmp_path / "paths.txt").write_text("only one line\n")
    ran = run("build", "-f", tmp_path / "a_features.npy", "-p", tmp_path / "paths.txt", "--uri", tmp_path / "b.db")
    assert ran.code == 1
    assert ran.err.startswith("imagesearch: error: ")
    assert not (tmp_path / "b.db").exists()
    assert run("build", "-f", tmp_path / "none.npy", "-p", tmp_path / "none.txt").code == 1
    assert run("build").code == 2


def test_extract_without_a_prefix(run: Run, picture_folder: Path) -> None:
    assert run("extract", picture_folder).code == 2
    Path("config.yaml").write_text("data: {processed_dir: processed}\n")
    assert run("extract", picture_folder).code == 0
    assert Path("processed/pictures_starter_features.npy").is_file()


# --- info, models, config ---


def test_info_describes_all_collections(run: Run, library: Library) -> None:
    report = json.loads(run("info", "--uri", library.uri, "--json").out)
    (collection,) = report["collections"]
    assert (collection["name"], collection["rows"], collection["configured"]) == ("images_starter", 6, True)
    assert (collection["model"], collection["metric"], collection["index"]) == ("starter", "COSINE", "FLAT")
    shown = run("info", "--uri", library.uri, "--collection", "other")
    assert "images_starter" in shown.out
    assert "no collection other yet" in shown.err


def test_info_tells_what_a_report_of_a_problem_needs(run: Run, library: Library) -> None:
    report = json.loads(run("info", "--uri", library.uri, "--json").out)
    assert list(report) == ["database", "collection", "skipped", "collections", "versions", "system"]
    versions = report["versions"]
    assert versions["imagesearch"] == __version__
    assert {"python", "torch", "transformers", "milvus-lite", "pymilvus", "faiss-cpu", "pillow"} <= versions.keys()
    assert report["system"].keys() == {"platform", "machine", "cpus"}
    assert str(Path.home()) not in json.dumps([versions, report["system"]])


def test_info_makes_no_database(run: Run, tmp_path: Path) -> None:
    ran = run("info", "--uri", tmp_path / "none.db")
    assert ran.code == 0
    assert "not there yet" in ran.out
    assert not (tmp_path / "none.db").exists()


def test_models(run: Run) -> None:
    listed = {model["preset"]: model for model in json.loads(run("models", "--json").out)}
    assert listed["starter"]["here"] is True
    assert listed["vit"]["here"] is False
    shown = run("models").out
    assert all(preset in shown for preset in listed)
    assert "--model path/to/checkpoint" in shown
    assert len(list(csv.reader(io.StringIO(run("models", "--csv").out)))) == 1 + len(listed)


def test_models_can_be_prepared_for_this_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def optimize(images: Any, labels: bool = False, progress: Any = None) -> bool:
        asked.append((images.config.model.name, images.config.model.classifier, labels))
        progress("optimize", 1, 2)
        if images.config.model.name == "headless" and labels:
            raise ModelError("headless has no trained classification head")
        return not labels

    monkeypatch.setattr("imagesearch.service.ImageSearch.optimize", optimize)
    monkeypatch.setenv("IMAGESEARCH_MODEL__CLASSIFIER", "vit")
    both = run("models", "--optimize", "starter", "--json")
    assert json.loads(both.out) == {"model": "starter", "features": True, "labels": False}
    assert asked == [("starter", "starter", False), ("starter", "starter", True)]
    assert json.loads(run("models", "--optimize", "clip", "--json").out)["labels"] is None  # the preset has none
    headless = run("models", "--optimize", "headless")
    assert (headless.code, headless.out) == (0, "headless, vectors: prepared for this machine\n")
    assert "no trained classification head" in headless.err
    assert run("models", "--optimize", "starter", "--csv").code == 2


def test_words_that_models_know(run: Run) -> None:
    listed = run("models", "--words")
    assert listed.out.splitlines()[0] == "goldfish, Carassius auratus"
    assert len(listed.out.splitlines()) == 200
    assert "starter knows 200 labels" in listed.err
    known = json.loads(run("models", "--words", "--json").out)
    assert known == {"model": "starter", "free_text": False, "words": listed.out.splitlines()}
    free = run("models", "--words", "--model", "clip", "--json")
    assert json.loads(free.out) == {"model": "clip", "free_text": True, "words": None}
    assert "clip understands free text" in run("models", "--words", "--model", "clip").out
    none = run("models", "--words", "--model", "vit")
    assert (none.code, none.out) == (1, "")
    assert "its labels come from another network" in none.err


@pytest.mark.parametrize(
    "extra", [["--words", "--csv"], ["--words", "--optimize", "starter"], ["--model", "clip"]]
)
def test_words_go_with_a_model_and_json_only(run: Run, extra: list[str]) -> None:
    assert run("models", *extra).code == 2


def test_preparing_a_model_that_is_not_here(run: Run) -> None:
    ran = run("models", "--optimize", "no/such/folder")
    assert (ran.code, ran.out) == (1, "")
    assert "no/such/folder" in ran.err


def test_config_names_sources_and_hides_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.yaml").write_text("search: {top_k: 7}\nmilvus: {uri: 'https://me:pw@example.org:19530'}\n")
    monkeypatch.setenv("IMAGESEARCH_MILVUS__TOKEN", "root:secret")
    ran = run("config", "--device", "cpu")
    assert f"  top_k: 7  # {Path.cwd() / 'config.yaml'}" in ran.out
    assert "  device: cpu  # flag" in ran.out
    assert "  token: '***'  # environment IMAGESEARCH_MILVUS__TOKEN" in ran.out
    assert "  name: starter  # default" in ran.out
    everything = ran.out + run("config", "--json").out
    assert "secret" not in everything
    assert "pw" not in everything


def test_wrong_settings_are_wrong_usage(run: Run) -> None:
    Path("config.yaml").write_text("search: {top_k: 0}\nmodel: {nmae: vit}\n")
    ran = run("config")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 2
    assert all(line.startswith("imagesearch: error: ") for line in ran.err.splitlines())
    assert run("config", "--config", "none.yaml").code == 2


# --- streams ---


def test_streams_that_cannot_hold_a_name(library: Library) -> None:
    """Names that no encoding holds end neither the listing nor the program, and libraries print elsewhere."""
    program = [
        sys.executable,
        "-m",
        "imagesearch",
        "search",
        str(library.folder / "plain.png"),
        "--uri",
        library.uri,
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(program, capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert b"emoji \\U0001f600.png" in done.stdout
    assert len(done.stdout.splitlines()) == 2 + 6
    assert b"Traceback" not in done.stderr


def test_what_libraries_print_goes_to_stderr(run: Run, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*_: object, **__: object) -> list[Answer]:
        print("Downloading shards: 100%")
        return [Answer(Query.words("dog"))]

    monkeypatch.setattr("imagesearch.service.ImageSearch.answer", noisy)
    ran = run("search", library.folder / "plain.png", "--uri", library.uri, "--json")
    assert json.loads(ran.out) == []
    assert "Downloading" in ran.err


def test_words_are_not_taken_for_a_missing_file(run: Run, library: Library) -> None:
    ran = run("search", "a red car", "--uri", library.uri)
    assert ran.code == 1
    assert "starter does not know 'a red car'" in ran.err
    assert "no such file" in run("search", "a red car.jpg", "--uri", library.uri).err


@pytest.mark.parametrize(("model", "is_said"), [("starter", True), ("/nowhere", False)])
def test_classify_says_how_little_the_bundled_model_knows(
    run: Run, library: Library, model: str, is_said: bool
) -> None:
    ran = run("classify", library.folder / "plain.png", "--model", model, "--json")
    assert ("knows 200 labels" in ran.err) == is_said
