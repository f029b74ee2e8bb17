# The commands of cryptoflow's developers and newcomers; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests wait for a feed, a tick or a JVM half of their time, fast ones for most of it: more workers than processors.
WORKERS ?= 3
FAST_WORKERS ?= 6
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help setup java browser prometheus run test test-fast screenshots docs check format lock bench deaths faults clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: java $(READY) ## Virtual environment, locked packages, jars, Spark's class archive; on Debian as root also Java
	@$(BIN)/cryptoflow services jars

java:
	@command -v java >/dev/null || test -n "$$JAVA_HOME" || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; apt-get update -q && \
	    { apt-get install -y -q openjdk-17-jre-headless || apt-get install -y -q openjdk-21-jre-headless; }; \
	  else \
	    echo "There is no Java: install Java 17 or 21 (Debian: apt-get install -y openjdk-17-jre-headless)." >&2; exit 1; \
	  fi; }

# Only the tests need it, and it is large: so it is no part of `make setup`. Without it its test fails, the others run.
FIND_BROWSER := command -v chromium || command -v chromium-browser || command -v google-chrome
browser: java # not at once with it: both may call apt-get
	@{ $(FIND_BROWSER) || { test "$$(id -u)" = 0 && command -v apt-get && { \
	    echo "Installing chromium for the test of the UI: half a minute, once." >&2; \
	    export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes; apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends chromium; }; $(FIND_BROWSER); } || \
	  echo "There is no browser for the test of the UI: install Chromium (Debian: apt-get install -y chromium)." >&2; \
	} >/dev/null

# The same of Prometheus, which checks its rules and answers the dashboards' queries.
FIND_PROMETHEUS := command -v promtool
prometheus: browser # not at once with it
	@{ $(FIND_PROMETHEUS) || { test "$$(id -u)" = 0 && command -v apt-get && { \
	    echo "Installing prometheus for the tests of alerts and dashboards: half a minute, once." >&2; \
	    export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes; apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends prometheus; }; $(FIND_PROMETHEUS); } || \
	  echo "There is no promtool for the tests of alerts and dashboards: install Prometheus (Debian: apt-get install -y prometheus)." >&2; \
	} >/dev/null

# uv takes a third of pip's time; pip knows the mirrors of a pip.conf, which uv does not.
$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV): a minute or two, once."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^uv==/,!/\\$$/' requirements.lock > $(VENV)/uv.lock
	@$(PIP) -r $(VENV)/uv.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock || $(PIP) -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## Set up, start all it needs, show the candles (ARGS="--timeout 60 ..." for options)
	@$(BIN)/cryptoflow run $(ARGS)

test: setup browser prometheus ## Set up, and run every test, the ones on real Kafka, Spark and Cassandra included
	$(BIN)/pytest --numprocesses $(WORKERS) $(ARGS)

test-fast: $(READY) ## Run the tests that need no service and no JVM: a minute at most
	$(BIN)/pytest --fast --quiet --numprocesses $(FAST_WORKERS) --dist worksteal $(ARGS)

screenshots: setup browser ## Take the pictures of the documents anew
	CRYPTOFLOW_SCREENSHOTS=docs/images $(BIN)/pytest cryptoflow_tests/browser

docs: $(READY) ## The documents as a site, in build/site; every link is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open build/site/index.html"

check: $(READY) ## Formatter, linter, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	nice $(BIN)/mypy # tests may run beside it, and go first

format: $(READY) ## Format, and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY) ## Make requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --no-strip-extras --universal --python-version 3.11 --group dev --no-header --no-annotate \
	  --output-file requirements.lock pyproject.toml

bench: setup ## Catch-up against Flink SQL, and ingest; into benchmarks/results (ARGS="--help" for more)
	$(BIN)/python -m benchmarks $(ARGS)

deaths: setup ## Kill each part five times while trades stream; prints the times until all streams again
	$(BIN)/python -m benchmarks.deaths $(ARGS)

faults: setup ## Lose frames, cut sockets, refuse, kill: at full size, until all is exact again; an hour or two (ARGS="--only month")
	$(BIN)/python -m benchmarks.faults $(ARGS)

clean: ## Remove the environment and caches; data under .cryptoflow stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
