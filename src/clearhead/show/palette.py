"""The colours of heat maps: cividis for amounts, blue over near-white to orange for signed values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

Stops = tuple[tuple[int, int, int], ...]

# Eleven equally spaced colours of cividis, which reads the same with every kind of colour vision.
# Source: Nunez, Anderton and Renslow 2018, "Optimizing colormaps with consideration for color vision deficiency".
# Departs: straight lines between the eleven, at most 9 of 255 away from the published map.
CIVIDIS: Stops = (
    (0, 34, 78),
    (8, 51, 112),
    (53, 69, 108),
    (79, 87, 108),
    (102, 105, 112),
    (125, 124, 120),
    (148, 142, 119),
    (174, 163, 113),
    (200, 184, 102),
    (229, 207, 82),
    (254, 232, 56),
)
BLUE_ORANGE: Stops = (
    (18, 62, 117),
    (54, 111, 172),
    (132, 172, 212),
    (244, 242, 238),
    (240, 180, 126),
    (208, 113, 34),
    (132, 58, 4),
)

LINES = ("#3f83c6", "#d8702b", "#58986a", "#9d6cb8", "#8b8881")
"""Colours of lines and bars, legible on white and on black, told apart with most kinds of colour vision."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values and the colours along it."""

    low: float
    high: float
    stops: Stops

    @classmethod
    def of(cls, values: Float[np.ndarray, " N"]) -> Scale:
        """Choose the scale of an array: 0 to its largest value, or symmetric about 0 if any is negative."""
        finite = values[np.isfinite(values)]
        if finite.size and finite.min() < 0:
            limit = float(np.abs(finite).max())
            return cls(-limit, limit, BLUE_ORANGE)
        highest = float(finite.max()) if finite.size else 0.0
        return cls(0.0, highest or 1.0, CIVIDIS)

    @property
    def signed(self) -> bool:
        """Whether 0 stands in the middle."""
        return self.low < 0

    def fraction(self, values: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
        """Return where each value lies between low (0) and high (1); what is not finite stays so."""
        return np.clip((values - self.low) / (self.high - self.low), 0, 1)

    def rgb(self, values: Float[np.ndarray, "*N"]) -> UInt8[np.ndarray, "*N 3"]:
        """Return each value's colour; a value that is not a number gets the colour of `low`."""
        place = np.nan_to_num(self.fraction(values), nan=0.0)
        knots = np.linspace(0, 1, len(self.stops))
        channels = [np.interp(place, knots, channel) for channel in zip(*self.stops, strict=True)]
        return np.stack(channels, axis=-1).round().astype(np.uint8)

    def hex(self, value: float) -> str:
        """Return one value's colour as "#rrggbb"."""
        red, green, blue = self.rgb(np.array([value]))[0]
        return f"#{red:02x}{green:02x}{blue:02x}"

    def ink(self, value: float) -> str:
        """Return "black" or "white", whichever is easier to read on a value's colour.

        Source: relative luminance, WCAG 2.1; the two contrast equally at 0.179.
        """
        channels = self.rgb(np.array([value]))[0] / 255.0
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return "black" if float(linear @ np.array([0.2126, 0.7152, 0.0722])) > 0.179 else "white"
