"""Pictures as text for terminals, read back as a terminal would."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch.frontends.cli.graphics import iterm2, kitty, print_blocks, sixel

from ...conftest import draw_picture


def seen(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def draw_sixels(text: str) -> np.ndarray:
    """What a VT340 makes of a sequence: RGBA; the grammar as in the manual, nothing of the encoder's."""
    head = re.match('\x1bP0;1q"1;1;([0-9]+);([0-9]+)', text)
    assert head
    assert text.endswith("\x1b\\")
    width, height = int(head[1]), int(head[2])
    canvas = np.zeros((height + 6, width, 4), np.uint8)
    palette: dict[int, list[int]] = {}
    colour, x, y = -1, 0, 0
    for token in re.finditer(
        r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|(\$)|(-)", text[head.end() : -2]
    ):
        number, red, green, blue, times, repeated, single, back, down = token.groups()
        if number and red:
            palette[int(number)] = [round(int(value) * 2.55) for value in (red, green, blue)]
        elif number:
            colour = int(number)
        elif back:
            x = 0
        elif down:
            x, y = 0, y + 6
        else:
            bits, count = ord(repeated or single) - 63, int(times or 1)
            for row in range(6):
                if bits >> row & 1:
                    canvas[y + row, x : x + count] = [*palette[colour], 255]
            x += count
            assert x <= width
    assert not canvas[height:].any()
    return canvas[:height]


class TestKitty:
    def test_chunks_make_one_png(self) -> None:
        picture = draw_picture(3, (300, 200)).effect_spread(20)
        commands = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", kitty(picture, 30, 10))
        assert len(commands) > 2
        assert all(len(data) <= 4096 for _, data in commands)
        assert commands[0][0] == "a=T,f=100,q=2,c=30,r=10,m=1"
        assert {control for control, _ in commands[1:-1]} == {"m=1"}
        assert commands[-1][0] == "m=0"
        assert all(len(data) % 4 == 0 for _, data in commands[:-1])
        data = base64.b64decode("".join(data for _, data in commands), validate=True)
        np.testing.assert_array_equal(seen(data), picture)

    def test_a_small_one_is_one_command(self) -> None:
        assert kitty(Image.new("RGB", (4, 4)), 1, 1).count("\x1b_G") == 1
        assert "r=1,m=0;" in kitty(Image.new("RGB", (4, 4)), 1, 1)


def test_iterm2() -> None:
    picture = draw_picture(3)
    found = re.fullmatch(
        "\x1b]1337;File=inline=1;size=([0-9]+);width=30;height=10;preserveAspectRatio=0:(.*)\x07",
        iterm2(picture, 30, 10),
    )
    assert found
    data = base64.b64decode(found[2], validate=True)
    assert len(data) == int(found[1])
    np.testing.assert_array_equal(seen(data), picture)


class TestSixel:
    @pytest.mark.parametrize("size", [(1, 1), (5, 6), (7, 13), (96, 64), (3, 12)])
    def test_what_is_drawn(self, size: tuple[int, int]) -> None:
        picture = draw_picture(3, (96, 64)).resize(size)
        drawn = draw_sixels(sixel(picture))
        assert drawn.shape == (size[1], size[0], 4)
        assert (drawn[..., 3] == 255).all()
        wanted = np.asarray(picture.quantize(250).convert("RGB")).astype(int)
        assert np.abs(drawn[..., :3].astype(int) - wanted).max() <= 2  # registers hold percent

    def test_what_is_transparent_is_not_drawn(self) -> None:
        picture = Image.new("RGBA", (10, 10), (255, 0, 0, 255))
        picture.paste((0, 0, 0, 0), (2, 3, 9, 10))
        drawn = draw_sixels(sixel(picture))
        np.testing.assert_array_equal(drawn[..., 3], np.asarray(picture)[..., 3])

    def test_nothing_to_draw(self) -> None:
        assert not draw_sixels(sixel(Image.new("RGBA", (5, 7)))).any()

    def test_runs_are_short(self) -> None:
        assert len(sixel(Image.new("RGB", (1000, 60), "red"))) < 200

    def test_another_reader(self, tmp_path: Path) -> None:
        program = shutil.which("sixel2png")
        if program is None:
            pytest.skip("sixel2png of libsixel is not here")
        text = sixel(draw_picture(3))
        (tmp_path / "a.six").write_text(text, "ascii")
        subprocess.run([program, "-i", tmp_path / "a.six", "-o", tmp_path / "a.png"], check=True)
        other = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
        assert np.abs(other - draw_sixels(text)[..., :3]).max() <= 2


class TestBlocks:
    def drawn(self, picture: Image.Image) -> str:
        out = io.StringIO()
        print_blocks(picture, out)
        return out.getvalue()

    def test_two_pixels_a_character(self) -> None:
        picture = Image.new("RGB", (1, 2), (1, 2, 3))
        picture.putpixel((0, 1), (4, 5, 6))
        assert self.drawn(picture) == "\x1b[38;2;1;2;3;48;2;4;5;6m▀\x1b[0m\n"

    def test_what_is_transparent_is_left_as_it_is(self) -> None:
        picture = Image.new("RGBA", (3, 2))
        picture.putpixel((0, 0), (1, 2, 3, 255))
        picture.putpixel((1, 1), (4, 5, 6, 255))
        assert self.drawn(picture) == "\x1b[38;2;1;2;3m▀\x1b[0m\x1b[38;2;4;5;6m▄\x1b[0m \n"

    def test_an_odd_number_of_rows(self) -> None:
        assert self.drawn(Image.new("RGB", (1, 3), (1, 2, 3))).splitlines()[1] == "\x1b[38;2;1;2;3m▀\x1b[0m"

    def test_a_line_of_characters_is_a_line(self) -> None:
        lines = self.drawn(draw_picture(3, (200, 8))).splitlines()
        assert [len(re.sub("\x1b\\[[0-9;]*m", "", line)) for line in lines] == [200] * 4
