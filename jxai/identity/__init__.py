"""What a result depends on, as JSON, so that one of something else is never taken up for it: by value and by code, not by name.

- `values`: `described`, any value: numbers as they are, arrays by digest, functions by their code and all that they close over. `code`: what a function is.
- `programs`: what a model computes, by its trace. `checks`: what it answered on a few examples, which must come out again.
- `versions`: packages and checkouts. `compare`: where two descriptions differ, in words.

What may be touched: a new kind of value is a line of `values`. Comments, line numbers and names of local variables are not in it, and neither is the
code of installed packages, for which their version stands.
"""

__all__ = ["checks", "code", "compare", "programs", "values", "versions"]
