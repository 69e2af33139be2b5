"""Runs that ask of every example of data sets how unsure a model is, and what of them is told.

- `run`: the run. `sets`: the data sets that it goes over, one after the other. `plan`: which scores, with what options; `fitting`: what of them is fitted, on which examples.
- `resampled`: numbers of a sample drawn again. `summary`: what a run says, as rows; `remarks`: what has to be known beside them; `texts`: these as CSV, JSON, Markdown and LaTeX; `curves`, `sheet`, `pictures` and `page`: what is looked at; `report`: all of it.
"""
