"""A small uncertainty run for the tests: digits against noise, a net with fixed weights, scores of every kind."""

import runs

from jxai import data, evaluate, uncertainty

SCORES = {"max_softmax": None, "energy": None, "knn": (uncertainty.knn, {"num_neighbours": 5}), "odin": None}


def run(out, scale=1.0, **options):
    options = {"limit": 21, "block": 8, "batch_size": 4, "scores": SCORES, "fit_limit": 30, "label": "digits", **options}
    options = {"against": {"noise": data.Noise((8, 8, 1), 11)}, "fit_on": data.Digits("train"), **options}
    return evaluate.uncertainty(runs.model(scale), data.Digits("test"), out, **options)
