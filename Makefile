# Two commands on a fresh machine with Python 3.11+: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench bench-cost bench-training bench-compress bench-infer bench-laws bench-ladders bench-serve docs format clean

demo: $(STAMP)
	$(BIN)/kleiber demo

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not gpu"

check: $(STAMP)
	$(BIN)/ruff format --check src tests bench docs
	$(BIN)/ruff check src tests bench docs
	$(BIN)/mypy
	$(BIN)/pytest tests/test_arrows.py

# DATA=folder adds what needs public data: folder/scaling_laws/epoch_chinchilla.csv.
bench: $(STAMP)
	$(BIN)/python bench/demo_runs.py --runs 5
	$(BIN)/python bench/coverage.py --ladders 100
	KLEIBER_DATA=$(and $(DATA),$(DATA)/scaling_laws) $(BIN)/pytest -m "slow and not gpu"

# Laws of public runs beside what is published of them; DATA=folder has scaling_laws/*.csv.
bench-laws: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python bench/laws/run.py $(DATA)/scaling_laws

# Ladders and the recipe that makes them cheap, on English novels: many hours on two cores; every script goes on where it stopped, and
# says with --help how to make it smaller. Nothing else may run beside it.
bench-ladders: $(STAMP)
	mkdir -p build/ladders && ln -sfn $(abspath $(DATA)) build/ladders/data
	cd build/ladders && for bench in time_to_loss ablation transfer forecast horizons designed interrupted; do \
		$(abspath $(BIN))/python $(abspath bench/ladders)/$$bench.py --folder $$bench || exit 1; done

# Predicted beside measured: memory of a grid of cells and of a billion parameters, step time, published GPU runs; half an hour.
# Nothing else may run beside it.
bench-cost: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python bench/published_runs.py
	$(BIN)/python bench/cost_grid.py
	$(BIN)/python bench/local_time.py
	$(BIN)/python bench/billion.py

# The loop of `kleiber train` beside a plain one; with DATA=folder every recipe beside its classical baselines: two hours.
bench-training: $(STAMP)
	$(BIN)/python bench/train_loop.py $(if $(DATA),--data $(DATA))
ifdef DATA
	mkdir -p build/recipes && ln -sfn $(abspath $(DATA)) build/recipes/data
	cd build/recipes && $(abspath $(BIN))/python $(abspath bench/recipes.py)
endif

# Methods of compression side by side on a trained and a published language model: two hours. Nothing else may run beside it.
bench-compress: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
ifdef DATA
	mkdir -p build/compress && ln -sfn $(abspath $(DATA)) build/compress/data
	cd build/compress && $(abspath $(BIN))/python $(abspath bench/compress/language.py)
	cd build/compress && $(abspath $(BIN))/python $(abspath bench/compress/vision.py)
else
	@echo "make bench-compress DATA=folder   wants the texts and models of public data"
endif

# Every engine beside transformers, llama.cpp (where llama-cpp-python is installed) and this machine's limits; with DATA=folder trained models too:
# an hour, more where bench-compress has trained none. Nothing else may run beside it.
bench-infer: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	mkdir -p build/infer
	cd build/infer && $(abspath $(BIN))/python $(abspath bench/infer/language.py)
ifdef DATA
	mkdir -p build/compress && ln -sfn $(abspath $(DATA)) build/compress/data
	cd build/compress && $(abspath $(BIN))/python $(abspath bench/infer/trained.py)
endif

# A server under load, under malformed requests, and beside other servers, on the demo's model or RUN=folder; a quarter of an hour.
RUN ?= runs/demo/target
bench-serve: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python bench/serve/load.py $(RUN)
	$(BIN)/python bench/serve/malformed.py $(RUN)
	$(BIN)/python bench/serve/streams.py $(RUN)

docs: $(STAMP)
	$(BIN)/python docs/make_reference.py

format: $(STAMP)
	$(BIN)/ruff format src tests bench docs
	$(BIN)/ruff check --fix src tests bench docs

clean:
	rm -rf $(VENV) build dist

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)
