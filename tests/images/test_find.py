"""Finding picture files: every one once, in order, whatever the folders are like."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from imagesearch.errors import PictureError, UsageError
from imagesearch.images.files import examine
from imagesearch.images.find import EXTENSIONS, RAW_EXTENSIONS, FoundFile, Selection, Walk, find_pictures
from imagesearch.images.sources import load_image
from imagesearch.records import Skipped

from ..conftest import draw_picture


def tree(root: Path, *names: str) -> Path:
    """Empty files below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(root: Path, selection: Selection = Selection()) -> list[str]:  # noqa: B008 - it is frozen
    """Found paths below a folder."""
    return [os.path.relpath(path, root) for path in find_pictures(root, selection)]


class TestFind:
    def test_sorted_folder_by_folder_with_extensions_of_any_case(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "in", "b.JPG", "a.png", "notes.txt", "z/1.webp", "m/2.HEIC", "m/k/3.tif", "n.MPO")
        assert names(root) == ["a.png", "b.JPG", "n.MPO", "m/2.HEIC", "m/k/3.tif", "z/1.webp"]

    def test_relative_roots_give_absolute_paths(self, tmp_path: Path) -> None:
        Path("here").mkdir()
        Path("here/a.jpg").touch()
        assert list(find_pictures("here")) == [os.path.abspath("here/a.jpg")]

    def test_hidden_files_and_folders_on_request_only(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        (root / ".cache").mkdir(parents=True)
        for name in (".a.jpg", ".cache/b.jpg", "c.jpg"):
            (root / name).touch()
        assert list(find_pictures(root)) == [str(root / "c.jpg")]
        assert len(list(find_pictures(root, Selection(include_hidden=True)))) == 3

    def test_a_hidden_root_is_entered(self, tmp_path: Path) -> None:
        (tmp_path / ".hidden").mkdir()
        (tmp_path / ".hidden" / "a.jpg").touch()
        assert len(list(find_pictures(tmp_path / ".hidden"))) == 1

    def test_loops_of_symbolic_links_end(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "a.jpg").touch()
        (root / "sub" / "up").symlink_to(root, target_is_directory=True)
        (root / "again").symlink_to(root / "sub", target_is_directory=True)
        assert len(list(find_pictures(root))) == 1

    def test_a_link_to_itself_or_to_nothing_is_found_and_then_skipped(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        root.mkdir()
        (root / "self.jpg").symlink_to(root / "self.jpg")
        (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
        (root / "loop").symlink_to(root / "loop")
        paths = list(find_pictures(root))
        assert [os.path.basename(path) for path in paths] == ["gone.jpg", "self.jpg"]
        for path in paths:
            with pytest.raises(PictureError):
                load_image(path)

    def test_linked_files_are_found(self, tmp_path: Path) -> None:
        (tmp_path / "real.jpg").touch()
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "real.jpg")
        assert list(find_pictures(tmp_path / "in")) == [str(tmp_path / "in" / "link.jpg")]

    def test_closed_folders_are_told_and_the_rest_goes_on(
        self, picture_folder: Path, closed: Callable[[Path], None]
    ) -> None:
        closed(picture_folder / "sub")
        walk = Walk.of([picture_folder])
        found = list(walk)
        (picture_folder / "sub").chmod(0o700)
        assert len(found) == 5
        assert walk.closed == [Skipped(str(picture_folder / "sub"), "permission denied", retryable=True)]
        assert walk.missing == {}

    @pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        root.mkdir()
        raw = os.fsencode(root) + b"/caf\xe9\n'\" \xf0\x9f\x90\xb1.png"
        with open(raw, "wb") as file:
            draw_picture(1, (60, 40)).save(file, "PNG")
        (found,) = find_pictures(root)
        assert os.fsencode(found) == raw
        assert load_image(found).size == (60, 40)
        assert examine(found).id == examine(found).id

    def test_a_file_as_root_is_yielded_whatever_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "scan").touch()
        assert list(find_pictures(tmp_path / "scan")) == [str(tmp_path / "scan")]

    @pytest.mark.parametrize("root", ["missing", "a\0b", "file.txt/below"])
    def test_roots_that_are_not_there(self, root: str) -> None:
        Path("file.txt").touch()
        with pytest.raises(UsageError, match="cannot read"):
            list(find_pictures(root))

    def test_extensions_are_written_one_way(self) -> None:
        every = EXTENSIONS | RAW_EXTENSIONS
        assert all(extension == extension.lower() and extension[0] == "." for extension in every)
        assert not EXTENSIONS & RAW_EXTENSIONS


class TestWalk:
    def test_what_the_file_system_says(self, tmp_path: Path) -> None:
        path = tmp_path / "in" / "a.jpg"
        path.parent.mkdir()
        path.write_bytes(b"12345")
        os.utime(path, ns=(1, 2_000_000_007))
        (path.parent / "b.jpg").symlink_to("nowhere")
        root = str(path.parent)
        assert list(Walk.of([root])) == [
            FoundFile(str(path), root, 5, 2_000_000_007),
            FoundFile(str(path.parent / "b.jpg"), root, -1, 0),
        ]

    def test_overlapping_roots(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "in", "a.jpg", "sub/b.jpg", "sub/deep/c.jpg")
        found = [(file.path, file.root) for file in Walk.of([root / "sub", root, root / "a.jpg", root / "sub"])]
        assert sorted(found) == [
            (str(root / "a.jpg"), ""),
            (str(root / "sub" / "b.jpg"), str(root / "sub")),
            (str(root / "sub" / "deep" / "c.jpg"), str(root / "sub")),
        ]

    def test_a_folder_is_known_by_its_real_path_if_it_can_be(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "in", "z/1.jpg")
        (root / "a").symlink_to(root / "z", target_is_directory=True)
        assert names(root) == ["z/1.jpg"]
        tree(tmp_path / "elsewhere", "2.jpg")
        (root / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        assert names(root) == ["z/1.jpg", "b/2.jpg"]
        both = [file.path for file in Walk.of([root, tmp_path / "elsewhere"])]
        assert both == [str(root / "z" / "1.jpg"), str(tmp_path / "elsewhere" / "2.jpg")]

    def test_a_root_that_is_a_link_stands_for_its_folder(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "in", "a.jpg")
        (tmp_path / "link").symlink_to(root, target_is_directory=True)
        walk = Walk.of([tmp_path / "link", root])
        assert walk.roots == (str(root),)
        assert [file.path for file in walk] == [str(root / "a.jpg")]

    def test_missing_roots_are_told(self, tmp_path: Path, closed: Callable[[Path], None]) -> None:
        root = tree(tmp_path / "in", "a.jpg")
        closed(root)
        walk = Walk.of([tmp_path / "gone", root, "a\0b"])
        found = list(walk)
        root.chmod(0o700)
        assert found == []
        assert walk.missing[str(tmp_path / "gone")] == "no such file or directory"
        assert walk.missing[str(root)] == "permission denied"
        assert len(walk.missing) == 3


class TestSelection:
    FILES = ("a.jpg", "b.gif", "raw/c.jpg", "2019/raw/d.jpg", "2019/e.jpg", "@eaDir/a.jpg")

    @pytest.mark.parametrize(
        ("patterns", "left"),
        [
            ([], ["@eaDir/a.jpg", "2019/e.jpg", "2019/raw/d.jpg", "a.jpg", "b.gif", "raw/c.jpg"]),
            (["@eaDir"], ["2019/e.jpg", "2019/raw/d.jpg", "a.jpg", "b.gif", "raw/c.jpg"]),
            (["raw", "@*"], ["2019/e.jpg", "a.jpg", "b.gif"]),
            (["raw/", "@*"], ["2019/e.jpg", "a.jpg", "b.gif"]),
            (["2019/raw", "@*"], ["2019/e.jpg", "a.jpg", "b.gif", "raw/c.jpg"]),
            (["*.gif", "?.jpg"], []),
            (["*/[cd].jpg", "@*"], ["2019/e.jpg", "a.jpg", "b.gif"]),
        ],
    )
    def test_patterns(self, tmp_path: Path, patterns: list[str], left: list[str]) -> None:
        root = tree(tmp_path / "in", *self.FILES)
        assert sorted(names(root, Selection(exclude=tuple(patterns)))) == sorted(left)

    def test_folders_of_systems_are_left_out(self, tmp_path: Path) -> None:
        assert "@eaDir/a.jpg" not in names(tree(tmp_path / "in", *self.FILES))


class TestRaw:
    def test_beside_a_processed_file_it_is_left_out(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "in", "1.CR2", "1.jpg", "2.cr2", "sub/2.jpg", "3.nef", "3.HEIC", "4.dng", "4.txt")
        assert names(root) == ["1.jpg", "2.cr2", "3.HEIC", "4.dng", "sub/2.jpg"]

    def test_unless_the_processed_file_is_left_out(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "in", "1.cr2", "1.jpg")
        assert names(root, Selection(exclude=("*.jpg",))) == ["1.cr2"]


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="no /proc here")
@pytest.mark.timeout(20)
def test_links_out_of_the_tree_do_not_lead_into_the_system(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "processes").symlink_to("/proc")
    (tmp_path / "devices").symlink_to("/dev")
    walk = Walk.of([tmp_path])
    assert [os.path.basename(found.path) for found in walk] == ["a.png"]
    assert {skip.path for skip in walk.closed} == {str(tmp_path / "processes"), str(tmp_path / "devices")}
    assert all("belongs to the system" in skip.reason for skip in walk.closed)
    assert not Walk.of(["/proc"]).closed  # as a root somebody wants it
