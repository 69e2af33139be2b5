"""Layer-wise relevance propagation on any traced function: the score, shared out step by step among what made it.

- `propagation` is the public face: `propagate`, `propagate_each`, `propagate_from`, `assignments`; `plan` runs them; `composites` are the tables from kinds of steps to rules.
- `rules` are those of linear maps, sums and activations, `products` those of products and softmaxes: pure functions of arrays.
- `parts` reads a program as parts of these kinds (`chains`, `factors` and `linear` tell what belongs together), `passing` takes relevance through each, at the numbers of `evaluating`;
  `places` finds layers in them. DeepLIFT has a walk of its own, `differences`: `secants` are its rules, `reveal` those of RevealCancel.

Conventions, here and nowhere else: `absorbed` is added up equation by equation, never as a difference; `epsilon=` holds for every ε-type rule that sets none
of its own; products give half to each operand, all to the signal where the other is a gate; softmax and matrix products as in AttnLRP unless the composite says
otherwise; γ takes its sign from the unmodified output, bias included; the value of a linear step as a layer is what leaves it, after its bias and after a batch norm that
is folded into it; a number that the code adds just before a clip, a root or a logarithm belongs to that function, as does one added to an activation,
unless a linear map follows, into which it is folded.

What may be touched: a new rule is a function in `rules` or `products`, a new composite a row in `composites`; a primitive that moves, adds or picks
entries gets its name in `chains.MOVES` or `parts.SUMS`. What has no rule is an error, never a silent gradient.
"""

from jxai.relevance import products, rules
from jxai.relevance.composites import COMPOSITES, Composite
from jxai.relevance.plan import Relevance
from jxai.relevance.propagation import Assignment, assignments, propagate, propagate_each, propagate_from

__all__ = ["COMPOSITES", "Assignment", "Composite", "Relevance", "assignments", "products", "propagate", "propagate_each", "propagate_from", "rules"]
