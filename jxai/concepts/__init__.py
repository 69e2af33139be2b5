"""Concepts: what the channels of a layer stand for, as pictures, as examples, and as what decides a class.

- pictures: `visualization` makes them; `parametrisations` is what is optimised, `transformations` how it is looked at, `objectives` what is excited, `colours` how
  channels go together.

What may be touched: a way to make pictures is a class with `start` and `buffer`, a view of them a callable; both are frozen registered dataclasses. What takes
relevances takes arrays, never a model and a loader at once; runs over data sets go by `jxai.evaluate`'s means.
"""

from jxai.concepts.colours import colour_correlation
from jxai.concepts.objectives import Channel, channel
from jxai.concepts.parametrisations import Fourier, Maco, Parametrisation, Pixel, magnitude_spectrum
from jxai.concepts.transformations import Crops, Transformation, Views
from jxai.concepts.visualization import Visualization, visualize

__all__ = [
    "Channel",
    "Crops",
    "Fourier",
    "Maco",
    "Parametrisation",
    "Pixel",
    "Transformation",
    "Views",
    "Visualization",
    "channel",
    "colour_correlation",
    "magnitude_spectrum",
    "visualize",
]
