from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kleiber.errors import UsageError
from kleiber.report import write_picture
from kleiber.report.theme import DARK, LIGHT


def test_png_and_svg(study: Path, tmp_path: Path) -> None:
    png = write_picture(study, tmp_path / "law.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert (width > 1500, height > 800) == (True, True)
    light = write_picture(study, tmp_path / "law.svg").read_text()
    dark = write_picture(study, tmp_path / "dark.svg", dark=True, lang="zh").read_text()
    assert light.startswith("<svg")
    assert "loss [nats/token]" in light
    assert LIGHT.truth in light
    assert DARK.truth in dark
    assert "训练计算量" in dark


def test_other_suffixes_and_empty_studies_are_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A picture is written as \.png or \.svg. Got 'law\.jpg'"):
        write_picture(study, tmp_path / "law.jpg")
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match="has no finished run to draw"):
        write_picture(tmp_path, tmp_path / "law.png")


def test_neither_torch_nor_scipy_is_imported(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from kleiber.report import write_report;"
        f"write_report([Path({str(study)!r})], Path({str(tmp_path / 'r.html')!r}));"
        "print([name for name in ('torch', 'scipy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
