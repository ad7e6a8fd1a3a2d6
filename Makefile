# make help lists everything. What needs the environment makes it first (see make setup).

VENV ?= .venv
MMCV_WHEELS ?=
ARGS ?=
# The environment's own Python where there is one, else the first that fits, else any: the set-up
# script then says what is wrong with it.
PYTHON ?= $(shell for python in "$(VENV)/bin/python" python3.11 python3.12 python3.10 python3 python; do \
    "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
    && { echo "$$python"; exit; }; done; \
    command -v python3 || command -v python)

RUN = "$(VENV)/bin/python"
# Two processes, a test file stays in one: the session's networks are built twice, not for each file.
TEST = $(RUN) -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-browser chromium check bench docs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  VENV=PATH         keep the environment in PATH instead of .venv"
	@echo "  PYTHON=PATH       make it from this Python (3.10, 3.11 or 3.12)"
	@echo "  MMCV_WHEELS=PATH  take mmcv from this folder of wheels instead of compiling it"
	@echo '  ARGS="..."        more arguments for demo, test, test-slow, test-browser, bench and docs'

setup: ## Make the environment, or bring it up to date (seconds when there is nothing to do)
	@if ! command -v "$(PYTHON)" >/dev/null 2>&1; then \
	    echo 'error: no Python found (PYTHON="$(PYTHON)"): install Python 3.10, 3.11 or 3.12' \
	        '(Debian: apt-get install python3 python3-venv python3-dev)' \
	        'or name it with make PYTHON=/path/to/python3.11 setup.' >&2; exit 1; fi
	@"$(PYTHON)" tools/misc/setup_env.py --venv "$(VENV)" --mmcv-wheels "$(MMCV_WHEELS)"

demo: setup ## Train a small detector and a classifier that localizes, on drawn scenes (up to 8 minutes)
	@$(RUN) tools/demo.py $(ARGS)

test: setup ## Run the tests, without the slow ones (ARGS="-n 0": in one process)
	@$(TEST) $(ARGS)

test-slow: setup ## Run the slow tests
	@$(RUN) -m pytest -m slow $(ARGS)

test-browser: setup ## Look at the pages of the site and of reports in a real browser (make chromium)
	@$(RUN) -m pytest -m slow tests/browser $(ARGS)

chromium: ## Install Chromium with the system's package manager, where that is allowed
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	    { timeout 60 apt-get -q update && DEBIAN_FRONTEND=noninteractive timeout 200 \
	        apt-get install -y -q --no-install-recommends chromium; } >/dev/null 2>&1 || \
	    echo 'Chromium is not there and cannot be installed here: the browser tests will skip.'

docs: setup ## Build the documentation as a site in build/docs (no network; a warning is an error)
	@$(RUN) docs/build.py $(ARGS)

check: setup ## What a commit has to pass: lint, format, tests
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(TEST)

bench: setup ## Measure speed and memory beside the plain networks (up to 10 minutes)
	@$(RUN) benchmarks/all.py $(ARGS)
