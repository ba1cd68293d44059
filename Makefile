# `make demo` and `make test` set up .venv by themselves; the second time they start at once.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint test-slow test-browser test-neuro docs benchmark clean

# VIDEO=my.mp4 looks through your own video
demo: .venv/ready
	$(BIN)/python examples/demo.py --out demo $(if $(VIDEO),--video "$(VIDEO)")

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
	$(MAKE) lint

# format, lint and types, as the newest versions of all packages have them
lint: .venv/ready
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# the page in a real browser (chromium on the path); pictures go to runs/browser
test-browser: .venv/browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s -m browser tests/browser

# Brain-Score and thingsvision pin older packages, so each gets an environment of its own
test-neuro: .venv-brainscore/ready .venv-thingsvision/ready
	OMP_NUM_THREADS=1 .venv-brainscore/bin/python -m pytest tests/neuro/test_brainscore.py
	OMP_NUM_THREADS=1 .venv-thingsvision/bin/python -m pytest tests/neuro/test_thingsvision.py

# brainscore_vision 2.4 wants xarray < 2022.6 and numpy < 2
.venv-brainscore/ready: pyproject.toml
	$(PYTHON) -m venv .venv-brainscore
	.venv-brainscore/bin/python -m pip install --quiet --disable-pip-version-check --editable . netCDF4 pytest 'brainscore_vision>=2.4'
	touch $@

# thingsvision 2.7 pins torchvision 0.15 and transformers 4.40, which no torch that we support comes with: it is installed without
# its own pins, beside what it imports
.venv-thingsvision/ready: pyproject.toml
	$(PYTHON) -m venv .venv-thingsvision
	.venv-thingsvision/bin/python -m pip install --quiet --disable-pip-version-check --editable . pytest 'numpy<2' \
	  'tensorflow-cpu<2.16' 'scikit-learn<1.6' 'scipy<1.16' 'pandas<3' h5py numba ftfy regex scikit-image open-clip-torch matplotlib \
	  torchtyping
	.venv-thingsvision/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'thingsvision==2.7.3'
	touch $@

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

benchmark: .venv/ready
	$(BIN)/python -m benchmarks forward

.venv/browser: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[app,browser]'
	touch $@

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-brainscore .venv-thingsvision demo site .pytest_cache .ruff_cache .mypy_cache
