"""Colour scales."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from clearhead.show.palette import CIVIDIS, Scale


def test_the_amounts_are_coloured_as_matplotlib_colours_cividis() -> None:
    values = np.linspace(0, 1, 257)
    ours = Scale(0.0, 1.0, CIVIDIS).rgb(values).astype(int)
    theirs = np.round(colormaps["cividis"](values)[:, :3] * 255).astype(int)
    assert np.abs(ours - theirs).max() <= 9
    reversed_map = np.round(colormaps["cividis_r"](values)[:, :3] * 255).astype(int)
    assert np.abs(ours - reversed_map).max() > 9


def test_a_negative_value_makes_the_scale_symmetric() -> None:
    scale = Scale.of(np.array([-3.0, 1.0, np.nan]))
    assert (scale.low, scale.high, scale.signed) == (-3.0, 3.0, True)
    blue, middle, orange = scale.rgb(np.array([-3.0, 0.0, 3.0])).astype(int)
    assert blue[2] > blue[0]
    assert orange[0] > orange[2]
    assert middle.min() > 230


def test_amounts_begin_at_zero_and_nothing_at_all_still_has_a_scale() -> None:
    assert Scale.of(np.array([0.2, 0.7])).high == 0.7
    assert (Scale.of(np.array([0.0])).high, Scale.of(np.array([np.nan])).high) == (1.0, 1.0)
