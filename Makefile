# `make setup` makes the environment; so do `demo`, `check`, `test` and `docs` when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A script that fails in a pipe fails its target. `sh` cannot say so everywhere.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
INSTALLED := $(VENV)/installed

.PHONY: help setup demo docs site reference check-reference check check-lowest test lint names types imports protos release-protos check-protos check-languages lint-protos breaking unit integration crash-test mutants bench bench-learning bench-flywheel clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make the environment in .venv

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable ".[server,miner,trainer]"
	touch $(INSTALLED)

demo: setup ## The whole loop on the shipped sample: index, search, click, mine, train, judge, promote
	quarry demo

CHECKS := unit types names imports site check-languages check-protos check-reference lint lint-protos breaking

check: setup ## What is quick: all but the integration tests, two at a time
	$(MAKE) --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(CHECKS)

test: check integration ## All checks; what CI runs

lint:
	ruff check core server miner trainer cli tests benchmarks examples tools
	ruff format --check core server miner trainer cli tests benchmarks examples tools

names: ## Fail on functions that no verb names, and on docstrings that are fragments
	python tools/names.py

types:
	mypy

imports:
	lint-imports

unit: ## The unit and contract tests, side by side
	python -m pytest --numprocesses auto --dist loadfile tests/unit tests/contract

# Two workers at most: a server, its store and its job are several processes already. A worker gets the next file
# when it has two tests left, so the files that take longest come first.
LONGEST := tests/integration/api/learning/test_poisoned_loop.py \
	tests/integration/api/learning/test_real_training.py tests/integration/recovery/test_crashes.py
# These measure time, or count what the whole machine does.
ONE_BY_ONE := tests/integration/liveness tests/integration/network tests/integration/test_hot_swap.py \
	tests/integration/test_server_log.py
SIDE_BY_SIDE := $(LONGEST) $(filter-out $(LONGEST) $(ONE_BY_ONE), $(wildcard tests/e2e/test_*.py \
	tests/integration/api/*/test_*.py tests/integration/bm25/test_*.py tests/integration/recovery/test_*.py \
	tests/integration/test_*.py))

integration: ## The tests with servers and real jobs
	python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(SIDE_BY_SIDE)
	python -m pytest $(ONE_BY_ONE)

check-lowest: setup ## Run the unit and contract tests with the lowest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group lowest
	python tools/lowest.py build/lowest $(PINS)

protos: setup ## Regenerate core/quarry/v1 from protos/
	python tools/protos.py generate

reference: setup ## Write docs/reference from the code: command line, settings, API, limits, presets
	python tools/reference.py

check-reference: ## Fail if docs/reference is not what the code says
	rm -rf build/reference
	python tools/reference.py build/reference
	for page in build/reference/*.md; do diff $$page docs/reference/$${page##*/} || exit 1; done

docs: setup reference site ## Build the site of docs/ in build/site, with every link checked

site:
	NO_MKDOCS_2_WARNING=1 mkdocs build

release-protos: setup ## Make the API as it is now the one that must not break
	python tools/protos.py image protos/quarry.v1.binpb

check-protos: ## Fail if regenerating would change a file
	rm -rf build/protos && mkdir -p build/protos
	python tools/protos.py generate build/protos
	diff -r -x __init__.py -x __pycache__ build/protos/quarry/v1 core/quarry/v1

check-languages: ## Fail if protoc cannot generate the API for a language, or warns
	rm -rf build/languages
	python tools/protos.py languages build/languages

lint-protos:
	buf lint

breaking: ## Fail if the API breaks clients of what protos/quarry.v1.binpb holds
	mkdir -p build && buf build -o build/image.binpb
	buf breaking build/image.binpb --against protos/quarry.v1.binpb --path quarry/v1

crash-test: setup ## Kill and restart a server for HOURS (default 1)
	python -m pytest tests/integration/recovery/test_crashes.py --crash-hours $(or $(HOURS),1)

mutants: setup ## Plant faults, all or those of FAULTS, one at a time, and fail if the tests miss too many
	python tools/mutants.py $(FAULTS)

bench-learning: setup ## The figures on feedback and mining, into build/learning.jsonl (half an hour)
	mkdir -p build
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	for script in "quality/click_models" "speed/feedback_ingest" "speed/mining_load" \
			"learning/mining_agreement --data build/mining" "learning/mining_quality --data build/mining" \
			"learning/mining_speed --data build/mining"; do \
		python benchmarks/$${script%% *}.py $${script#$${script%% *}} | tee -a build/learning.jsonl || exit 1; done

bench-flywheel: setup ## The table of docs/explanation/flywheel.md, into build/flywheel.jsonl (many hours; goes on where it was)
	mkdir -p build
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	python benchmarks/learning/manual_pages.py --out build/manual-pages
	python benchmarks/learning/flywheel.py --data build/flywheel --out build/flywheel.jsonl
	python benchmarks/learning/flywheel_table.py build/flywheel.jsonl --plot build/flywheel.svg

bench: setup ## The figures of docs/explanation/benchmarks.md, as JSON lines in build/benchmarks.jsonl (an hour or two)
	mkdir -p build
	for script in speed/search_latency speed/loop_gaps speed/rerank_throughput speed/split_serving \
			speed/split_quality speed/ingest quality/filtered_recall quality/quality; do \
		python benchmarks/$$script.py | tee -a build/benchmarks.jsonl || exit 1; done

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
