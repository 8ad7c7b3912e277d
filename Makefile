# make help lists the targets. Each target does its own set-up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUNTIME := $(VENV)/.ready-runtime
OUT    ?= outputs

# One thread per process: several share the machine, and Ray places processes, not threads.
export OMP_NUM_THREADS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1

.DEFAULT_GOAL := help
.PHONY: help install install-runtime demo results test test-long test-gpu mutants reliability golden schema media lint format bench bench-data bench-encode bench-train bench-cluster bench-search bench-predict cluster cluster-stop ui dashboard clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

install: $(READY) ## create .venv with everything (about 3 minutes); TORCH_INDEX=URL: prefer the builds of torch there

install-runtime: $(RUNTIME) ## create .venv with what jobs need; TORCH_INDEX as for install

define make_venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }; \
	$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
	  $(PYTHON) -m pip install -q --target .venv-bootstrap virtualenv && PYTHONPATH=.venv-bootstrap $(PYTHON) -m virtualenv -q $(VENV); }
endef
# A build such as 2.15.0+cpu is newer than 2.15.0 in pip's eyes, and equal in those of constraints.txt: it is taken where
# an index has it.
PIP_INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
define say_cuda
set -- $(VENV)/lib/python3*/site-packages/nvidia; if [ ! -e /dev/nvidiactl ] && [ -d "$$1" ]; then \
	  echo "no NVIDIA GPU here, and torch brought $$(du -sh "$$1" | cut -f1) of libraries for one; without them:"; \
	  echo "  make clean install TORCH_INDEX=https://download.pytorch.org/whl/cpu"; fi
endef

$(READY): pyproject.toml constraints.txt
	@start=$$(date +%s); $(make_venv) && echo "installing into $(VENV) ..." && \
	$(PIP_INSTALL) -e '.[dev,dashboard]' && \
	touch $(READY) $(RUNTIME) && echo "install: $$(( $$(date +%s) - start )) s"
	@$(say_cuda)

$(RUNTIME): pyproject.toml constraints.txt
	@start=$$(date +%s); $(make_venv) && echo "installing into $(VENV) ..." && \
	$(PIP_INSTALL) -e '.[runtime]' && \
	touch $(RUNTIME) && echo "install-runtime: $$(( $$(date +%s) - start )) s"
	@$(say_cuda)

demo: $(READY) ## render, encode and search on the rendered corpus; then a table and an MLflow database
	@start=$$(date +%s); $(BIN)/python jobs/tune.py --out $(OUT) && echo "demo: $$(( $$(date +%s) - start )) s"

results: $(READY) ## the README's table: arms with three seeds each
	$(BIN)/python jobs/tune.py --space search_spaces/arms.yaml --out $(OUT)

PUSHED := -q -m 'not long and not benchmark'
test: lint media ## lint, types, import direction and every test but the long ones
	$(BIN)/python -m pytest $(PUSHED) -n 2 --dist worksteal tests/unit tests/data
	$(BIN)/python -m pytest $(PUSHED) tests/integration tests/faults tests/cluster

test-long: media ## the long suite
	$(BIN)/python -m pytest -q -m long

test-gpu: $(READY) ## what needs CUDA: parity with the CPU, exact resume, speed; skipped where there is none
	$(BIN)/python -m pytest -q -s tests/gpu -m "benchmark or not benchmark"

mutants: $(READY) ## make three dozen mistakes in a copy of the package; every one must be noticed (about 6 minutes)
	$(BIN)/python tests/mutation/check.py

reliability: $(READY) ## docs/reliability.md, with the results in REPORTS, which pytest --junitxml has written
	$(BIN)/python tests/reliability.py $(REPORTS)

golden: $(READY) ## train the golden run again, say how far arithmetic moves it, and write its scores
	$(BIN)/python tests/golden/regenerate.py

schema: $(READY) ## write search_spaces/schema.json anew, with which editors complete search spaces
	$(BIN)/python -c 'from affectgrid.search.space import schema_text; print(schema_text(), end="")' > search_spaces/schema.json

media: $(READY) ## fetch the real videos and weights that tests use (kept outside the repository)
	@$(BIN)/python tests/fetch_media.py || echo "real media could not be fetched: the tests that need it will be skipped"

lint: $(READY) ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## fix and format what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## speed, as ratios against a baseline or a limit in the same run
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark

bench-data: $(READY) ## the speed of reading labels, of checking a data set and of finding faces (about 5 minutes)
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark -k data

bench-encode: $(READY) ## the speed of encoding alone (about 15 minutes on 2 cores)
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark -k encode

bench-train: $(READY) ## the speed and memory of training alone (about 25 minutes on 2 cores, 8 GB of disk)
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark -k train

bench-cluster: $(READY) ## a study on private disks and a bucket over one on a shared disk (about 10 minutes; Linux, as root)
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark -k cluster

bench-predict: $(READY) media ## how long a prediction takes: of a clip, by stage, and live (about 2 minutes on 2 cores)
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark -k predict

bench-search: $(READY) ## the speed of a search, and what it finds (about 10 minutes on 2 cores)
	$(BIN)/python -m pytest -q tests/benchmarks -m benchmark -k search

cluster: $(READY) ## start a local Ray head from this folder: `ray job submit -- python jobs/tune.py`
	@bash .ci/local_cluster.sh start

cluster-stop: ## end the head that `make cluster` started
	@bash .ci/local_cluster.sh stop

ui: $(READY) ## serve the MLflow pages on http://127.0.0.1:5000, and print the studies' addresses
	@$(BIN)/python -m affectgrid.tracking.links sqlite:///$(abspath $(OUT))/mlflow.db
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --workers 1 --host 127.0.0.1 --port 5000 \
	  --backend-store-uri sqlite:///$(abspath $(OUT))/mlflow.db --artifacts-destination $(abspath $(OUT))/mlartifacts

dashboard: $(READY) ## open Optuna's dashboard of the newest study
	@newest=$$(ls -t $(abspath $(OUT))/studies/*/study.journal 2>/dev/null | head -1); \
	[ -n "$$newest" ] || { echo "no study under $(abspath $(OUT))/studies yet: make demo runs one"; exit 1; }; \
	$(BIN)/optuna-dashboard "$$newest"

clean: ## remove the environment and caches; outputs/ stays
	rm -rf $(VENV) .venv-bootstrap .pytest_cache .mypy_cache .ruff_cache .hypothesis platform/*.egg-info
