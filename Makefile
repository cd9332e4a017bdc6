# Each target sets up what it needs in .venv by itself; `make` alone lists them.
PY := .venv/bin/python
# A stamp says that .venv holds the locked set as these files describe it.
LOCK := setup.cfg pyproject.toml constraints.txt .ci/venv.sh
# ... and is not believed when the folder was moved since, an installation was killed, or Python itself is gone.
STALE := $(shell [ "$$(cat .venv/.checkout 2>/dev/null)" = "$$(pwd -P)" ] && [ ! -e .venv/.unfinished ] && \
           [ -x .venv/bin/python ] || echo stale)
export PYTHON
# The fast tests, on all cores. Those of a file share what is costly to make, so it stays with one process (of 2 GB).
FAST := -m "not slow and not gpu" -n logical --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest test-newest check docs coverage mutation bench lock clean stale

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' Makefile

# One process, on the GPU where there is one; called again, it goes on with an interrupted run. Unless told otherwise,
# accelerate advises on each flag that was left out, and adds its own traceback to an error (-q).
demo: .venv/.ready-demo  ## set up, then pretrain and probe on the embedded data set (10 minutes on 2 CPU cores)
	$(PY) -m accelerate.commands.launch -q --num_processes 1 --num_machines 1 --mixed_precision no \
	  --dynamo_backend no recipes/esvit_speechcommands.py --run.out runs/demo --run.resume \
	  --run.epochs 16 --probe.quick

test: .venv/.ready-dev  ## set up, then the fast tests, on all cores
	$(PY) -m pytest $(FAST)

test-slow: .venv/.ready-dev  ## the tests that take minutes (and the GPU's, where there is one)
	$(PY) -m pytest -m "slow or gpu"

test-lowest:  ## the fast tests with the lowest versions that setup.cfg allows, in an environment of their own (6 GB)
	bash .ci/bounds.sh lowest $(FAST)

test-newest:  ## the same with the newest versions that there are
	bash .ci/bounds.sh newest $(FAST)

coverage: .venv/.ready-dev  ## the share of the lines that the fast tests run, the least covered files first
	rm -rf build/coverage
	mkdir -p build/coverage
	$(PY) -m coverage run -m pytest -q $(FAST)
	$(PY) -m coverage combine -q
	$(PY) -m coverage report --skip-covered --sort=cover

# All mutants of the losses, and some of the many of the front ends. Called again, it goes on where it was stopped.
mutation: .venv/.ready-dev  ## plant mistakes in losses/ and transforms/ and list those that no test notices (hours)
	$(PY) .ci/mutation.py losses --distributed --out build/mutation/losses.jsonl
	$(PY) .ci/mutation.py transforms --sample 300 --out build/mutation/transforms.jsonl

# Type checkers see the mapped packages (transforms, recipes, pretrained) only in an installed wheel.
check: .venv/.ready-dev  ## style, import directions, types on the installed wheel, and the site without a warning
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest -q tests/test_import_directions.py
	rm -rf build/check
	mkdir -p build/check
	$(PY) -m build --no-isolation --outdir build/check . > build/check/log 2>&1 || { cat build/check/log; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target build/check/installed build/check/*.whl
	cd build/check/installed && ../../../$(PY) -m mypy --config-file ../../../pyproject.toml --cache-dir ../../../.mypy_cache -p audiossl
	@$(MAKE) --no-print-directory docs

# A warning is an error: a link that leads nowhere, a page that no menu names, a docstring that cannot be read. What was
# read then is forgotten, or the next call would not look at it again and find nothing wrong.
docs: .venv/.ready-dev  ## the documentation as a site, in build/docs (about a minute)
	$(PY) -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs || { rm -rf build/doctrees; exit 1; }
	@echo "$(CURDIR)/build/docs/index.html"

bench: .venv/.ready-bench  ## speed beside the peers into docs/benchmarks.md, with date, commit and machine (some twenty minutes)
	$(PY) benchmarks/run.py --into docs/benchmarks.md

lock: .venv/.ready-dev  ## resolve constraints.txt anew
	$(PY) .ci/lock.py

clean:  ## remove what the targets made: .venv, build products and caches (runs/ stays)
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find audiossl transforms recipes pretrained docs tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready-demo: $(LOCK) $(STALE)
	@bash .ci/venv.sh speech $@

.venv/.ready-dev: $(LOCK) $(STALE)
	@bash .ci/venv.sh speech,dev $@

.venv/.ready-bench: $(LOCK) $(STALE)
	@bash .ci/venv.sh speech,dev,bench $@
