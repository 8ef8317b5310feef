# `make refresh` runs a day, `make test` runs every test. Each sets up what it needs once, and again only after a change of the files from
# which that is made. `make help` lists all targets.

PYTHON ?= python3
VENV ?= .venv

# The variables of a refresh; DAY= and RETRAIN= are read below. A sample shop of another size (CUSTOMERS=) has a lake of its own.
SOURCE := $(or $(SOURCE),$(SHOAL_SOURCE),sample)
HERE := var/$(notdir $(basename $(SOURCE)))$(if $(CUSTOMERS),_$(CUSTOMERS))
INPUT := $(or $(INPUT),$(SHOAL_INPUT),$(if $(filter sample,$(SOURCE)),$(HERE)/input))
LAKE := $(or $(LAKE),$(SHOAL_LAKE),$(HERE)/lake)
MODELS := $(or $(MODELS),$(SHOAL_MODELS),$(HERE)/models)
REPORTS := $(or $(REPORTS),$(SHOAL_REPORTS),$(HERE)/reports)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
MAKEFLAGS += --no-print-directory

ifneq ($(words $(CURDIR)),1)
$(error This folder's path has a space, which Spark's scripts cannot work with; move the project)
endif

TOOLS := $(VENV)/tools
SPARK := $(VENV)/spark/bin
TRAIN := $(VENV)/train/bin
AIRFLOW := $(VENV)/airflow/bin
DONE := $(VENV)/.done
ENVIRONMENTS := $(DONE)/spark $(DONE)/train $(DONE)/airflow

UV := requirements/uv.sh
export VENV

.PHONY: help setup refresh test up down worker bi serve bench minilm lint format lock clean environments spark-home secret sample

help: ## Show this list
	@echo "make TARGET [SOURCE=... INPUT=... DAY=YYYY-MM-DD] [LAKE=... MODELS=... REPORTS=...] [ENGINE=spark] [RETRAIN=1] [CUSTOMERS=2000] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: environments spark-home ## Set up the three environments, Java and Delta (other targets do this when needed)

refresh: ## Run the whole flow for one day: the sample shop, or SOURCE= INPUT= DAY=
test: ## Check the style and run every test of all three environments
up: ## Start Airflow with the daily schedule and its web page on localhost
down: ## Stop Airflow
worker: ## Train for an Airflow that may run elsewhere: API=http://localhost:8080, the same LAKE= and MODELS= as there
bi: ## Serve the marts of a lake to BI tools over JDBC until Ctrl-C: LAKE=, PORT=10000
serve: ## Serve the latest published day over HTTP until Ctrl-C: SHOAL_API_TOKEN, LAKE=, PORT=8090
bench: ## Measure time and memory, also of what one would use instead: PARTS="features daily" EVENTS=1000000
minilm: ## Fetch the small transformer for texts, which text.model = minilm uses
lint: ## Check the style
format: ## Format the sources
lock: ## Pin the newest allowed versions again, with hashes
clean: ## Remove the environments and caches; tables, models and reports stay

# --- Set-up

environments: $(ENVIRONMENTS)

$(DONE)/tools: requirements/tools.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "set-up: there is no $(PYTHON) here; install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo unknown); \
	case "$$version" in 3.11|3.12|3.13) ;; *) \
	  echo "set-up: $(PYTHON) is Python $$version; Shoal needs 3.11, 3.12 or 3.13, name one: make PYTHON=python3.12" >&2; exit 1;; esac
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "set-up: $(PYTHON) has no venv module; install it (Debian: apt install python3-venv) or name another: make PYTHON=..." >&2; exit 1; }
	@echo "set-up: tools"
	@rm -rf $(TOOLS); "$(PYTHON)" -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@mkdir -p $(DONE); touch $@

# All environments use the Python that made `tools`.
$(ENVIRONMENTS): $(DONE)/%: requirements/%.txt $(DONE)/tools pyproject.toml
	@echo "set-up: environment $* ($$(grep -c == $<) pinned packages)"
	@[ "$$($(VENV)/$*/bin/python -V 2>/dev/null)" = "$$($(TOOLS)/bin/python -V)" ] || { \
	  rm -rf $(VENV)/$*; $(UV) venv --quiet --python $(TOOLS)/bin/python $(VENV)/$*; }
	@$(UV) pip sync --quiet --require-hashes --python $(VENV)/$*/bin/python $<
	@[ $* = airflow ] || { wheel=$$(mktemp -d); trap 'rm -rf "$$wheel"' EXIT; \
	  $(TOOLS)/bin/python -m hatchling build -t wheel:editable -d "$$wheel" >/dev/null 2>"$$wheel/log" || { cat "$$wheel/log" >&2; exit 1; }; \
	  $(UV) pip install --quiet --no-deps --no-index --python $(VENV)/$*/bin/python "$$wheel"/*.whl; }
	@mkdir -p $(DONE); touch $@

# Runs every time, in a fraction of a second, because another Java may have been installed.
spark-home: $(DONE)/spark
	@$(SPARK)/python -m setup --uv $(UV)

minilm: $(DONE)/spark
	@$(SPARK)/python -m setup --uv $(UV) --minilm

# Personal fields are hashed with SHOAL_SECRET, or with a secret that is made here once. It is never printed.
secret: $(DONE)/spark
	@[ -n "$${SHOAL_SECRET:-}" ] || [ -s .secret ] || { umask 077; \
	  $(SPARK)/python -c 'import secrets; print(secrets.token_hex(32))' > .secret.new; mv .secret.new .secret; \
	  echo "set-up: made .secret, the key under which personal fields are hashed; keep it with the lake"; }

# --- A day

refresh up down worker: export SHOAL_SOURCE = $(SOURCE)
refresh up down worker: export SHOAL_INPUT = $(INPUT)
refresh up down worker bi serve: export SHOAL_LAKE = $(LAKE)
refresh up down worker: export SHOAL_MODELS = $(MODELS)
refresh up down worker: export SHOAL_REPORTS = $(REPORTS)
ifneq ($(ENGINE),)
refresh up: export SHOAL_ENGINE = $(ENGINE)
endif
ifneq ($(VENV),.venv)
refresh up down worker: export SHOAL_SPARK_HOME = $(shell ls -d $(abspath $(VENV))/spark/lib/python3*/site-packages/pyspark 2>/dev/null)
refresh up down worker: export SHOAL_SPARK_PYTHON = $(abspath $(SPARK)/python)
refresh up down worker: export SHOAL_TRAIN_PYTHON = $(abspath $(TRAIN)/python)
endif
WITH_SECRET = export SHOAL_SECRET="$${SHOAL_SECRET:-$$(cat .secret)}";

refresh: check-input setup secret sample
	@day="$(DAY)"; [ -n "$$day" ] || day=$$($(SPARK)/shoal sample --out $(INPUT) --print-last-day); $(WITH_SECRET) \
	$(SPARK)/python -m jobs.config.locations --files; \
	$(AIRFLOW)/python -m dags.local run --day "$$day" $(if $(filter-out 0 no false,$(RETRAIN)),--retrain); \
	$(SPARK)/shoal segments; \
	echo "report: $(REPORTS)/$$day/"

.PHONY: check-input
check-input:
ifneq ($(SOURCE),sample)
	@[ -n "$(INPUT)" ] && [ -n "$(DAY)" ] || { \
	  echo "refresh: SOURCE=$(SOURCE) also needs INPUT=<folder or URI> and DAY=<YYYY-MM-DD>" >&2; exit 1; }
endif

# The sample shop is written only to its default folder, and never to an INPUT= of the user.
sample: setup
ifeq ($(SOURCE)|$(INPUT),sample|$(HERE)/input)
	@[ -e $(INPUT)/truth/truth.json ] || { echo "sample: making the shop in $(INPUT)"; \
	  $(SPARK)/shoal sample --out $(INPUT) $(if $(CUSTOMERS),--customers $(CUSTOMERS)); }
endif

up: setup secret sample
	@$(WITH_SECRET) $(SPARK)/python -m jobs.config.locations; $(AIRFLOW)/python -m dags.local up

down: $(DONE)/airflow
	@$(AIRFLOW)/python -m dags.local down

# A worker only trains: it needs neither Spark nor Java.
worker: $(DONE)/airflow $(DONE)/train
	@exec $(AIRFLOW)/python -m dags.local worker $(if $(API),--api $(API))

bi: $(DONE)/spark spark-home
	@exec $(SPARK)/shoal bi $(if $(PORT),--port $(PORT))

serve: $(DONE)/spark
	@exec $(SPARK)/shoal serve $(if $(PORT),--port $(PORT))

# --- Quality

# Three groups run in parallel, because the Airflow suite mostly waits. Every suite runs even where another one fails, and a missing suite
# is a failure.
test: setup lint
	@failed=; results=$$(mktemp -d); trap 'rm -rf "$$results"' EXIT; \
	{ $(SPARK)/python -m pytest tests --ignore=tests/jobs --ignore=tests/dags || touch "$$results/spark"; \
	  $(TRAIN)/python -m pytest tests/jobs/autoencoder jobs/autoencoder --doctest-modules --confcutdir=tests/jobs/autoencoder || touch "$$results/train"; \
	} >"$$results/others.log" 2>&1 & \
	{ $(AIRFLOW)/python -m pytest tests/dags || touch "$$results/airflow"; } >"$$results/airflow.log" 2>&1 & \
	$(SPARK)/python -m pytest tests/jobs jobs --doctest-modules --ignore=tests/jobs/autoencoder --ignore=jobs/autoencoder \
	  || touch "$$results/spark"; \
	wait; cat "$$results"/*.log; \
	for name in spark train airflow; do [ ! -e "$$results/$$name" ] || failed="$$failed $$name"; done; \
	[ -z "$$failed" ] || { echo "test: failed in the environments:$$failed" >&2; exit 1; }

lint: $(DONE)/spark
	@$(SPARK)/ruff check --quiet .
	@$(SPARK)/ruff format --check --quiet . || { echo "lint: run make format" >&2; exit 1; }

format: $(DONE)/spark
	@$(SPARK)/ruff check --quiet --fix-only .
	@$(SPARK)/ruff format --quiet .

bench: setup secret
	@$(WITH_SECRET) $(SPARK)/python -m benchmarks $(PARTS) $(if $(EVENTS),--events $(EVENTS)) $(if $(WORK),--work $(WORK))

lock: $(DONE)/tools
	@for name in tools java spark train airflow; do echo "lock: requirements/$$name.txt"; \
	  $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url pyproject.toml --extra $$name --output-file requirements/$$name.txt; done

clean:
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
