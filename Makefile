# `make book` and `make test` need nothing but Python 3.11 to 3.13 and make; `make help` lists the rest.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY     := $(BIN)/python
READY  := $(VENV)/.ready
LIRPA  := auto_LiRPA==0.3
# The ends of the ranges in pyproject.toml are tested in environments of their own. The newest
# versions ask for a newer Python than the oldest have wheels for. What pyenv installed is found even
# where it is not the version in use.
PYENV         := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
NEWEST        ?= _build/newest
NEWEST_PYTHON ?= $(call FIRST,python3.13 python3.12 \
	$(wildcard $(PYENV)/3.13.*/bin/python3.13 $(PYENV)/3.12.*/bin/python3.12))
LOWEST        ?= _build/lowest
LOWEST_PYTHON ?= $(call FIRST,python3.11)
FIRST  = $(shell for name in $(1); do if $$name -c '' 2>/dev/null; then echo $$name; break; fi; done)
# The programs that rpumap is compared with have an environment of their own; BENCH selects, as in
# BENCH="--data pancreas --methods rpumap UMAP".
PEERS    := _build/bench
PEERS_PY := $(PEERS)/venv/$(notdir $(BIN))/python
BENCH    ?=
# Two workers share the tests, one thread each. The notebooks run on simulated cells; on real ones,
# where they are, `make book` runs them.
TESTS  ?= -n 2 --dist worksteal --durations 10 tests rpumap
BOOKS  ?= -n 2 --dist worksteal --durations 0 --nbmake --nbmake-timeout 600 notebooks/*.ipynb

# Real data: a folder beside the checkout is used where there is one. RPUMAP_DATA_DIR, set to
# anything (even to nothing), goes before it.
ifeq ($(origin RPUMAP_DATA_DIR),undefined)
RPUMAP_DATA_DIR := $(abspath $(wildcard ../shared/data))
endif
ifeq ($(strip $(RPUMAP_DATA_DIR)),)
unexport RPUMAP_DATA_DIR
else
export RPUMAP_DATA_DIR
endif

# Notebooks run in this environment, whatever kernels the user has elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait sleep instead of spinning: on a busy machine a training step is ten times faster.
export OMP_WAIT_POLICY ?= PASSIVE

CHECK_PYTHON := import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and \
	"rpumap needs Python 3.11, 3.12 or 3.13, and this is %d.%d. Name another one: make PYTHON=python3.12" % v)

.PHONY: help environment book teaching scorecard test speed browser javascript newest lowest pairs notebooks lint format links bench lock clean
.NOTPARALLEL:

help:
	@echo "make book       run every chapter, build _build/html/index.html (FORCE=1: run all anew)"
	@echo "make teaching   after make book: slides, and notebooks for students and for instructors, in"
	@echo "                _build/teaching"
	@echo "make scorecard  measure the claims of book/claims.toml on the real cells, and keep the verdicts"
	@echo "                in book/scorecard.json: two hours on 2 cores; an interrupted run goes on"
	@echo "make test       run the tests, the doctests and every notebook"
	@echo "make speed      check ratios of times, which fail where they have halved"
	@echo "make browser    open every built page in Chromium, at two widths, light and dark"
	@echo "make javascript build the scripts of the pages that compute in the browser, after a change of"
	@echo "                rpumap/explorer/src, and test them (needs Node.js 20 and npm)"
	@echo "make newest     run the tests, not the notebooks, with the newest versions that pyproject.toml"
	@echo "                allows (NEWEST_PYTHON=python3.13); 'make lowest' with the lowest"
	@echo "make notebooks  write notebooks/*.ipynb from notebooks/*.py"
	@echo "make pairs      check that the two agree"
	@echo "make lint       check style and types; 'make format' mends style where it can"
	@echo "make links      check the links that leave the book (needs the network)"
	@echo "make bench      compare speed, memory and quality with other programs, in an environment of"
	@echo "                its own: under 2 hours on 2 cores; a quarter of an hour with"
	@echo "                BENCH='--data pancreas --repeats 1 --limit 200'; an interrupted run goes on"
	@echo "                (PUBLISH=1: keep the results in book/performance.json)"
	@echo "make lock       resolve requirements.lock anew (needs a package index)"
	@echo "make clean      remove what was built, but not $(VENV)"

# The stamp goes first and comes back last, and .installing tells an install that was cut short.
$(READY): requirements.lock pyproject.toml
	@rm -f $@
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	@if [ -e $(VENV)/.installing ] || ! $(PY) -c '$(CHECK_PYTHON)' 2>/dev/null \
		|| ! $(PY) -m pip --version >/dev/null 2>&1; then \
		echo "creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); fi
	@touch $(VENV)/.installing
	@echo "installing what requirements.lock names into $(VENV) (some minutes, once)"
	@$(PY) -m pip install --quiet -r requirements.lock
	@$(PY) -m pip install --quiet --no-deps "$(LIRPA)"
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installing
	@touch $@

environment: $(READY)
	@echo "The environment is in $(VENV)"

book: $(READY) pairs
	@$(PY) book/build.py html $(if $(FORCE),--force)

teaching: $(READY)
	@$(PY) book/convert_notebooks.py student _build/teaching/student
	@$(PY) book/convert_notebooks.py instructor _build/teaching/instructor
	@$(PY) book/slides.py
	@echo "The notebooks are in _build/teaching, the slides in _build/html/slides/index.html"

scorecard: $(READY)
	$(PY) book/measure_claims.py

test: $(READY)
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m pytest $(TESTS)
	RPUMAP_DATA_DIR= OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m pytest $(BOOKS)

# Times that the tests in parallel would disturb.
speed: $(READY)
	$(PY) -m pytest -m speed -p no:xdist -rP tests/test_speed.py

# After `make book`. Chromium must be there: apt install chromium.
browser: $(READY)
	$(PY) -m pytest -m browser -n 2 --dist loadgroup -q tests/browser

# The scripts are kept in the repository, so that nothing else needs Node.
javascript: $(READY)
	cd rpumap/explorer && npm ci --loglevel=error --no-fund --no-audit && npm run --silent build
	OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/explorer

# Both run no notebooks: what the book shows was made with the locked versions.
newest: ENV = $(NEWEST)/$(notdir $(BIN))/python
newest:
	@test -n "$(NEWEST_PYTHON)" || { echo "There is neither python3.13 nor python3.12 here." \
		"Name one: make newest NEWEST_PYTHON=path/to/python3.12"; exit 1; }
	@$(NEWEST_PYTHON) -c '$(CHECK_PYTHON)'
	$(NEWEST_PYTHON) -m venv $(NEWEST)
	$(ENV) -m pip install --quiet --upgrade pip
	$(ENV) -m pip install --quiet --upgrade --upgrade-strategy eager -e ".[book,test,lazy,onnx]"
	$(ENV) -m pip list
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(ENV) -m pytest -n 2 --dist worksteal tests rpumap

lowest: ENV = $(LOWEST)/$(notdir $(BIN))/python
lowest:
	@test -n "$(LOWEST_PYTHON)" || { echo "There is no python3.11 here." \
		"Name one: make lowest LOWEST_PYTHON=path/to/python3.11"; exit 1; }
	@$(LOWEST_PYTHON) -c '$(CHECK_PYTHON)'
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST)
	$(ENV) -m pip install --quiet --upgrade pip
	$(ENV) book/lowest_versions.py > $(LOWEST)/lowest.txt
	$(ENV) -m pip install --quiet -c $(LOWEST)/lowest.txt -e ".[test]"
	$(ENV) -m pip list
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(ENV) -m pytest -n 2 --dist worksteal tests rpumap

pairs: $(READY)
	@$(PY) book/notebook_pairs.py

notebooks: $(READY)
	$(PY) -m jupytext --to ipynb --update notebooks/*.py

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

links: $(READY)
	@$(PY) book/build.py linkcheck

# The scripts tests/benchmarks/bench_*.py look into one thing each and are called singly.
bench: $(PEERS)/.ready
	$(PY) tests/benchmarks/peers/run.py $(BENCH)
	$(PY) tests/benchmarks/peers/single.py
	@$(PY) book/performance_page.py $(if $(PUBLISH),--publish)

# TensorFlow needs an older h5py than the project's.
$(PEERS)/.ready: requirements.lock tests/benchmarks/peers/requirements.txt $(READY)
	@rm -f $@
	@echo "installing the programs to compare with into $(PEERS)/venv (some minutes, once)"
	@$(PY) -m venv --clear $(PEERS)/venv
	@grep -v '^h5py=' requirements.lock > $(PEERS)/constraints.txt
	@$(PEERS_PY) -m pip install --quiet -c $(PEERS)/constraints.txt \
		-r tests/benchmarks/peers/requirements.txt
	@$(PEERS_PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# soupsieve: 3.0 breaks on Python before 3.11.5, and Debian 12 has 3.11.2
lock:
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv --clear _build/lock
	_build/lock/bin/python -m pip install torch==2.13.0 "soupsieve<3" -e ".[book,test,lirpa,lazy,onnx,browser]"
	grep '^#' requirements.lock > _build/requirements.lock
	_build/lock/bin/python -m pip freeze --all --exclude-editable --exclude pip \
		| sed 's/+[a-z0-9.]*$$//' >> _build/requirements.lock
	echo 'appnope==0.1.4 ; sys_platform == "darwin"' >> _build/requirements.lock
	echo 'colorama==0.4.6 ; sys_platform == "win32"' >> _build/requirements.lock
	mv _build/requirements.lock requirements.lock

clean:
	rm -rf _build build *.egg-info .pytest_cache .hypothesis .benchmarks .ruff_cache .mypy_cache
