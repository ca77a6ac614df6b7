# make figures   the main job, from nothing to figures/tiny/; MODEL= and PRESET= for another model, ARGS= for more flags
# make test      every check and every test; each stage runs even if an earlier one failed
# make bench     how far engines are apart; what capture, padding, fitting, tests, the job and the evaluations of its checkpoints cost here, and how often tests err, to benchmarks/results/ and benchmarks/README.md
.DEFAULT_GOAL := figures
MODEL ?= tiny
PRESET ?=
ARGS ?=
PYTHON ?= python3.11
BIN := .venv/bin
# One thread: two make trl many times slower on two cores. No hub: nothing is downloaded unasked.
RUN := OMP_NUM_THREADS=1 HF_HUB_DISABLE_TELEMETRY=1

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.PHONY: figures test bench clean
figures: .venv/installed
	$(RUN) $(BIN)/python experiments/reproduce.py --model $(MODEL) $(if $(PRESET),--preset $(PRESET)) $(ARGS)

test: .venv/installed
	$(RUN) HF_HUB_OFFLINE=1 $(BIN)/python tests/check_all.py

# Fitting is given all cores: it is matrix products alone.
bench: .venv/installed
	$(RUN) HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/capture_overhead.py
	$(RUN) HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/padding_waste.py
	$(RUN) HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/engine_parity.py
	$(BIN)/python benchmarks/fit_time.py
	$(BIN)/python benchmarks/fit_time.py --shape qwen3-30b-a3b
	$(RUN) $(BIN)/python benchmarks/flip_time.py --shape qwen3-30b-a3b
	$(RUN) $(BIN)/python benchmarks/calibration.py
	$(RUN) HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/job_time.py
	$(RUN) HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/evals_time.py

clean:
	rm -rf .venv runs
