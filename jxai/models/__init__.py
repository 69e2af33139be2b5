"""Classifiers to explain, and generators to search with: definitions in flax nnx, losses, and trained weights.

Every model is a pytree callable on ONE example, channels last, that takes pixels in [0, 1] (float), normalises inside,
and returns logits `[K]`; `jax.vmap(model)` takes a batch. `available()` lists the trained ones by name. A generator has
`decode(z) -> x` and `encode(x) -> z` instead; `generators()` lists the trained ones.

- classifiers: `simple`, `lenet`, `resnet`, `efficientnet`, `vit`, `digits`, `ddu` (held by `spectral`), `vnncomp`; of sentences, `minilm`. Generators: `vae`, `burgess`, `flows`, `gan`, `semantic`, `vcnet`.
- losses: `variational`, `adversarial`, `inversion`. Weights: `catalogue`, `weights`. `ordinary` trains small networks in seconds.

What may be touched: a trained model is a file and a line in `catalogue`, with its accuracy as a test. The methods, metrics and bounds never import this room.
"""

from jxai.data.images import load_image, preprocess
from jxai.models.adversarial import adversarial_autoencoder, wgan_gp
from jxai.models.burgess import BurgessVAE, btcvae
from jxai.models.catalogue import ModelInfo, Pretrained, available, imagenet_class_names
from jxai.models.ddu import DDUResNet
from jxai.models.digits import digits_cnn, digits_vae
from jxai.models.efficientnet import EfficientNetLite, efficientnet_lite
from jxai.models.flows import Glow, RealNVP, dequantised, initialised, likelihood_loss
from jxai.models.gan import GAN, AdversarialAutoencoder, ConditionalGAN, mnist_gan
from jxai.models.generators import generators
from jxai.models.inversion import Inverted, encoder_loss
from jxai.models.lenet import LeNet5, lenet5
from jxai.models.minilm import MiniLM, Tokenizer, Tokens, minilm
from jxai.models.resnet import CifarResNet, cifar_resnet
from jxai.models.semantic import SemanticAutoencoder
from jxai.models.simple import CNN, MLP, RobustCNN, robust_cnn
from jxai.models.spectral import SpectralNorm
from jxai.models.vae import VAE, ConditionalVAE, ConvVAE, mnist_vae
from jxai.models.variational import elbo, tc_vae_loss, vae_loss
from jxai.models.vcnet import VCNet
from jxai.models.vit import CifarViT, cifar_vit

__all__ = [
    "CNN",
    "GAN",
    "MLP",
    "VAE",
    "AdversarialAutoencoder",
    "BurgessVAE",
    "CifarResNet",
    "CifarViT",
    "ConditionalGAN",
    "ConditionalVAE",
    "ConvVAE",
    "DDUResNet",
    "EfficientNetLite",
    "Glow",
    "Inverted",
    "LeNet5",
    "MiniLM",
    "ModelInfo",
    "Pretrained",
    "RealNVP",
    "RobustCNN",
    "SemanticAutoencoder",
    "SpectralNorm",
    "Tokenizer",
    "Tokens",
    "VCNet",
    "adversarial_autoencoder",
    "available",
    "btcvae",
    "cifar_resnet",
    "cifar_vit",
    "dequantised",
    "digits_cnn",
    "digits_vae",
    "efficientnet_lite",
    "elbo",
    "encoder_loss",
    "generators",
    "imagenet_class_names",
    "initialised",
    "lenet5",
    "likelihood_loss",
    "load_image",
    "minilm",
    "mnist_gan",
    "mnist_vae",
    "preprocess",
    "robust_cnn",
    "tc_vae_loss",
    "vae_loss",
    "wgan_gp",
]
