# One verb a job; CI types the same. Every verb sets up what it needs, a second run is quick.
PYTHON ?= python3
export EGPU_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/effective-gpu

DEV := .venv
RUN := .venv-run
ENGINES := .engines
DEV_READY := $(DEV)/ready
RUN_READY := $(RUN)/ready
DECODER_SOURCES := $(wildcard collector/contract/*.[ch])
DECODER := collector/contract/libsamples.so
CODE := hook egpu_runtime collector pipeline advisor docs deploy tests hatch_build.py

.DEFAULT_GOAL := help
.PHONY: help demo check test e2e e2e-full conformance bench generate lock clean \
  engines engines-down engines-status engines-wipe \
  hook hook-test hook-accuracy hook-latency hook-oversubscription hook-bench

help: ## show the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN_READY) ## a fleet without GPUs through every stage: table, HTML page, commits (about a minute)
	$(RUN)/bin/python deploy/demo/demo.py --bin $(RUN)/bin --output demo-output

check: $(DEV_READY) ## style, types, import law, architecture
	$(DEV)/bin/ruff check $(CODE)
	$(DEV)/bin/ruff format --check $(CODE)
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/pytest tests/architecture

test: $(DEV_READY) ## unit and component tests (about eight minutes)
	$(DEV)/bin/pytest -rs -m "not end_to_end"

e2e: $(DEV_READY) ## real Prometheus, real traces, kills: the marked tests
	$(DEV)/bin/pytest -rs -m "end_to_end and not full"

e2e-full: $(DEV_READY) ## the long ones too: every engine killed in turn, real traces through Kafka, Flink and Hive
	$(DEV)/bin/pytest -rs -m end_to_end

conformance: $(DEV_READY) ## one input through the embedded and the full profile: equal tables
	$(DEV)/bin/pytest -rs -m "end_to_end and not full" tests/conformance

engines: $(RUN_READY) ## Kafka, Flink and Hive on this machine; the job again, if it ran before
	$(PYTHON) deploy/engines/engines.py up --home $(ENGINES)
	test ! -d $(ENGINES)/flink/checkpoints/egpu-series-windows || $(RUN)/bin/egpu-pipeline submit --config $(ENGINES)/pipeline.toml

engines-down: ## stop them, data stays
	$(PYTHON) deploy/engines/engines.py down --home $(ENGINES)

engines-status: ## what runs where
	$(PYTHON) deploy/engines/engines.py status --home $(ENGINES)

engines-wipe: ## stop them and remove their data
	$(PYTHON) deploy/engines/engines.py wipe --home $(ENGINES)

hook: ## the CUDA hook, and the simulated driver its tests use
	$(MAKE) -C hook
	$(MAKE) -C tests/hook/driver

hook-test: $(DEV_READY) hook ## the hook on the simulated driver: quota, priority, oversubscription, kills (part of make test)
	$(DEV)/bin/pytest -rs -m "not end_to_end" tests/hook

hook-accuracy: $(DEV_READY) hook ## error of the compute quota in points of card time, as a table
	$(DEV)/bin/python tests/hook/accuracy.py

hook-latency: $(DEV_READY) hook ## what high priority waits beside a flood of low priority
	$(DEV)/bin/python tests/hook/latency.py

hook-oversubscription: $(DEV_READY) hook ## two tasks that fill a card each, against perfect turns
	PYTHONPATH=tests $(DEV)/bin/python tests/hook/oversubscription.py

hook-bench: $(DEV_READY) hook ## what a call costs with the hook and without
	$(DEV)/bin/python tests/hook/bench.py

bench: $(DEV_READY) ## rates as ratios to a peer or a simple baseline
	$(DEV)/bin/python tests/bench/run.py

generate: $(DEV_READY) ## write the reference pages and the DDL anew
	$(DEV)/bin/python docs/generate.py
	$(DEV)/bin/python hook/generate_region.py
	$(DEV)/bin/python hook/generate.py coverage docs/reference/hook_coverage.md

lock: $(DEV_READY) ## choose the newest versions anew
	$(DEV)/bin/pip install -q uv
	$(DEV)/bin/uv pip compile -q -U --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --extra runtime --extra collector --extra pipeline --extra advisor pyproject.toml -o locks/run.txt
	$(DEV)/bin/uv pip compile -q -U --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  -c locks/run.txt --extra dev pyproject.toml -o locks/dev.txt
	$(DEV)/bin/uv pip compile -q -U --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  locks/build.in -o locks/build.txt

clean: ## remove what the verbs made here
	rm -rf $(DEV) $(RUN) demo-output build dist $(DECODER)

# --no-build-isolation: the build tools come from the lock as well.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install -q --disable-pip-version-check -r locks/$(2).txt -r locks/build.txt
	$(1)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(1)/ready
endef

$(DEV_READY): locks/dev.txt locks/build.txt pyproject.toml $(DECODER_SOURCES) hatch_build.py
	$(call install,$(DEV),dev)

$(RUN_READY): locks/run.txt locks/build.txt pyproject.toml $(DECODER_SOURCES) hatch_build.py
	$(call install,$(RUN),run)
