"""Concepts: what the channels of a layer stand for, as pictures, as examples, and as what decides a class.

- pictures: `visualization` makes them; `parametrisations` is what is optimised, `transformations` how it is looked at, `objectives` what is excited, `colours` how
  channels go together.
- of one example: `channels` says how relevant each was (and which axis of a layer's value they are), `conditional` is what runs through some of them alone (CRP),
  `reference_maps` what one place of one saw; `portraits` puts an image's channels beside what they saw elsewhere.
- over a data set: `collection` is a run that keeps every example's channel vector; `ranking` (the examples that speak most for a channel) and `means` (by class) read it
  block by block.
- of a data set's relevances by channel: `prototypes`, the strategies by which classes are decided; `atlas`, which channels belong together.

What may be touched: a way to make pictures is a class with `start` and `buffer`, a view of them a callable; both are frozen registered dataclasses. What takes
relevances takes arrays, never a model and a loader at once; runs over data sets go by `jxai.evaluate`'s means, and what reads one goes by `kept_blocks`.
"""

from jxai.concepts.atlas import Atlas, ClassRanking, atlas, class_ranking
from jxai.concepts.channels import channel_relevance, shares
from jxai.concepts.collection import Vectors, collect, vectors
from jxai.concepts.colours import colour_correlation
from jxai.concepts.conditional import channel_maps, conditional
from jxai.concepts.means import ClassMeans, class_means
from jxai.concepts.objectives import Channel, channel
from jxai.concepts.parametrisations import Fourier, Maco, Parametrisation, Pixel, Settings, magnitude_spectrum
from jxai.concepts.portraits import Portrait, portrait, reference_crops
from jxai.concepts.prototypes import Difference, Prototypes, difference, log_likelihood, prototypes, unexpectedness
from jxai.concepts.ranking import References, references, strongest
from jxai.concepts.reference_maps import ReferenceMap, crop, reference_map
from jxai.concepts.transformations import Crops, Transformation, Views
from jxai.concepts.visualization import Visualization, visualize

__all__ = [
    "Atlas",
    "Channel",
    "ClassMeans",
    "ClassRanking",
    "Crops",
    "Difference",
    "Fourier",
    "Maco",
    "Parametrisation",
    "Pixel",
    "Portrait",
    "Prototypes",
    "ReferenceMap",
    "References",
    "Settings",
    "Transformation",
    "Vectors",
    "Views",
    "Visualization",
    "atlas",
    "channel",
    "channel_maps",
    "channel_relevance",
    "class_means",
    "class_ranking",
    "collect",
    "colour_correlation",
    "conditional",
    "crop",
    "difference",
    "log_likelihood",
    "magnitude_spectrum",
    "portrait",
    "prototypes",
    "reference_crops",
    "reference_map",
    "references",
    "shares",
    "strongest",
    "unexpectedness",
    "vectors",
    "visualize",
]
