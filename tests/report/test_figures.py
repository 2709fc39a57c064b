"""Plots where there is something that draws them."""

import sys
import xml.etree.ElementTree as ET

import pytest

from mtdnn.report.figures import Curve, Panel, draw

CURVES = [
    Curve(name="a line", x=[0.0, 1.0], y=[1.0, 2.0]),
    Curve(name="with bars", x=[0.0, 1.0], y=[2.0, 1.0], spread=[0.1, 0.2]),
    Curve(name="a level", x=[], y=[1.5], level=True),
]
PANEL = Panel(title="t", x_label="x", y_label="y", curves=CURVES, ticks={0.0: "embed", 1.0: "1"})


def test_a_plot_is_a_png_and_an_svg_and_the_same_numbers_give_the_same_bytes(tmp_path):
    pytest.importorskip("matplotlib")
    paths = draw([PANEL, PANEL], tmp_path / "r_0.1")
    assert [path.name for path in paths] == ["r_0.1.png", "r_0.1.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in paths[1].read_bytes()
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in draw([PANEL, PANEL], tmp_path / "r_0.1")] == first


def test_many_panels_take_several_rows(tmp_path):
    pytest.importorskip("matplotlib")
    widths = []
    for count in (3, 7):
        size = ET.parse(draw([PANEL] * count, tmp_path / f"{count}")[1]).getroot().attrib["viewBox"].split()
        widths.append((float(size[2]), float(size[3])))
    assert widths[1][0] == widths[0][0]
    assert widths[1][1] == pytest.approx(3 * widths[0][1])


def test_without_matplotlib_there_is_no_plot_and_no_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw([PANEL], tmp_path / "a") == []
    assert list(tmp_path.iterdir()) == []
