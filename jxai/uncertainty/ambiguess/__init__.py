"""AmbiGuess: images that are truly ambiguous between two classes, with probabilities as labels, from a two-class adversarial autoencoder."""

from jxai.uncertainty.ambiguess.model import Acceptance, AmbiGuess, acceptance, critic_loss, encoder_loss, parts, reconstruction_loss, train_pair
from jxai.uncertainty.ambiguess.sampling import Ambiguous, Density, density, images, sample

__all__ = [
    "Acceptance",
    "AmbiGuess",
    "Ambiguous",
    "Density",
    "acceptance",
    "critic_loss",
    "density",
    "encoder_loss",
    "images",
    "parts",
    "reconstruction_loss",
    "sample",
    "train_pair",
]
