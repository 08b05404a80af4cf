"""What the README says is true."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S) if kind == language]


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scenes = runpy.run_path(str(ROOT / "docs" / "make_picture.py"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    scenes["draw_all"](pictures, each=2)
    (pictures / "sunset-1.png").rename(pictures / "sunset.png")
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {}
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), variables)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 indexed, 0 skipped"
    assert lines[1] == f"1.000 {pictures / 'sunset.png'}"
    assert lines[2].endswith("sunset-2.png")
    assert len(lines) == 1 + 3 + 3
    assert variables["vectors"].shape == (1, 320)


def test_the_tree_names_what_is_there() -> None:
    (tree,) = (block for block in blocks("") if "src/imagesearch/" in block)
    folder = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT if not line.startswith(" ") else ROOT / "src" / "imagesearch"
        assert list(folder.glob(name.rstrip("/"))), f"the README names {name}, which is not in {folder}"


def test_every_module_is_in_the_tree() -> None:
    (tree,) = (block for block in blocks("") if "src/imagesearch/" in block)
    package = ROOT / "src" / "imagesearch"
    named = {path for line in tree.splitlines() for path in package.glob(line.split()[0].rstrip("/"))}
    for module in package.rglob("*.py"):
        if module.name not in ("__init__.py", "__main__.py"):
            assert named & {module, *module.parents}, f"{module.relative_to(package)} is not in the README's tree"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_commands_exist() -> None:
    import typer.main

    from imagesearch.frontends.cli.app import app

    commands = typer.main.get_command(app).commands
    for name in re.findall(r"^imagesearch (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert name in commands
