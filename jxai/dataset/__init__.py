"""What is said of a data set or of a model rather than of one example. Needs scikit-learn.

- `spectral`: SpRAy, clusters of explanations. `graph`: nearest neighbours and the least eigenvalues of their graph. `features`: maps as rows, checked and made smaller.
- `significance`: whether a spectrum or a cluster says anything: `eigengap_test` against data without clusters, `enrichment` of a cluster with marked examples.

What may be touched: a routine here is a function of arrays over n examples (features, maps, logits, labels), never of a model and a loader at once; runs over data
sets are `evaluate`'s. It works on the host, draws by a `key`, and returns a registered dataclass of arrays; what scipy and scikit-learn have is theirs.
"""

from jxai.dataset.significance import EigengapTest, Enrichment, eigengap_test, enrichment
from jxai.dataset.spectral import Spectrum, spray

__all__ = ["EigengapTest", "Enrichment", "Spectrum", "eigengap_test", "enrichment", "spray"]
