"""Concepts: what the channels of a layer stand for, as pictures, as examples, and as what decides a class.

- pictures: `visualization` makes them; `parametrisations` is what is optimised, `transformations` how it is looked at, `objectives` what is excited, `colours` how
  channels go together.
- of a data set's relevances by channel: `prototypes`, the strategies by which classes are decided; `atlas`, which channels belong together.
- relevance: `conditional` is the part of an explanation that runs through chosen channels (CRP).

What may be touched: a way to make pictures is a class with `start` and `buffer`, a view of them a callable; both are frozen registered dataclasses. What takes
relevances takes arrays, never a model and a loader at once; runs over data sets go by `jxai.evaluate`'s means.
"""

from jxai.concepts.atlas import Atlas, ClassRanking, atlas, class_ranking
from jxai.concepts.colours import colour_correlation
from jxai.concepts.conditional import conditional
from jxai.concepts.objectives import Channel, channel
from jxai.concepts.parametrisations import Fourier, Maco, Parametrisation, Pixel, magnitude_spectrum
from jxai.concepts.prototypes import Difference, Prototypes, difference, log_likelihood, prototypes, unexpectedness
from jxai.concepts.transformations import Crops, Transformation, Views
from jxai.concepts.visualization import Visualization, visualize

__all__ = [
    "Atlas",
    "Channel",
    "ClassRanking",
    "Crops",
    "Difference",
    "Fourier",
    "Maco",
    "Parametrisation",
    "Pixel",
    "Prototypes",
    "Transformation",
    "Views",
    "Visualization",
    "atlas",
    "channel",
    "class_ranking",
    "colour_correlation",
    "conditional",
    "difference",
    "log_likelihood",
    "magnitude_spectrum",
    "prototypes",
    "unexpectedness",
    "visualize",
]
