"""One question each, in folders by family: a frozen `Config`, `run(config)`, `main()`. The docstring states claim, command, expected numbers, cost.

What they share is in the library: `jxai.evaluate.record` keeps results, `jxai.models.ordinary` trains small networks.
"""
