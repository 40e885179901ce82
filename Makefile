# The ways in. Every target sets up what it needs in .venv (VENV=... for another place).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Tests at once: each may start a model and servers of its own.
WORKERS ?= 2

.PHONY: incident system setup demo serve test test-statistics lint types imports dependencies unused pytest audit fuzz neighbours testbed results clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,transformers,demo,dev]"
	touch $@

demo: setup           ## start the service, ask about held-out images and photographs, print the table, stop
	$(BIN)/vlm-gate demo

serve: setup          ## serve the embedded model on 127.0.0.1:8080 until interrupted
	$(BIN)/vlm-gate serve

test: system lint types imports dependencies unused audit pytest   ## everything that CI runs

system:               ## Debian packages that the tests need: installs what is missing, or names it
	deploy/debian-packages.sh

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

dependencies: setup   ## what is imported is declared, what is declared is imported
	$(BIN)/deptry service probes testbed
	$(BIN)/deptry tests deploy benchmarks --exclude '\.git' --ignore DEP002,DEP004

unused: setup         ## definitions that nothing uses, or tests alone
	$(BIN)/vulture

pytest: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not long" -n $(WORKERS) --dist worksteal --durations=40 --cov --cov-report=term --cov-fail-under=85

test-statistics: setup ## the simulations of the promise at full size
	OMP_NUM_THREADS=1 $(BIN)/pytest -m long --durations=0 tests/statistics

# vLLM's CPU build wants a torch of its own, so its engine is tested in an environment of its own.
VENV_VLLM ?= .venv-vllm

test-vllm: $(VENV_VLLM)/.installed   ## the engine on vLLM against the one on transformers
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_LOGGING_LEVEL=WARNING $(VENV_VLLM)/bin/python -m pytest -W default \
		--durations=5 tests/contract/test_engines.py tests/contract/test_vllm_qwen2vl.py \
		tests/contract/test_vllm_llava.py tests/contract/test_vllm_paligemma.py tests/contract/test_vllm_kernel.py \
		tests/contract/test_vllm_service.py

$(VENV_VLLM)/.installed: tests/vllm/requirements.txt tests/vllm/torchvision_ops.py pyproject.toml
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/vllm/requirements.txt
	$(VENV_VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	cp tests/vllm/torchvision_ops.py $$(echo $(VENV_VLLM)/lib/python3*/site-packages)/_torchvision_ops.py
	echo "import _torchvision_ops" > $$(echo $(VENV_VLLM)/lib/python3*/site-packages)/torchvision_ops.pth
	touch $@

audit: setup          ## requirements not met or not pinned, and versions with a hole known here
	$(BIN)/pip check
	$(BIN)/python -m deploy.audit

audit-online: setup   ## the same by a vulnerability service, where one can be reached
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

# atheris has no wheel for every machine, and nothing else needs it.
FUZZ_MINUTES ?= 60
fuzz: setup           ## readers under atheris, generated and damaged requests, for FUZZ_MINUTES in all
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt atheris
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --minutes $(FUZZ_MINUTES)

neighbours: setup     ## what a caller's answers cost while another attacks: 60 s of each attack
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python deploy/loadtest/neighbours.py --seconds 60

incident: system setup  ## an incident with the real programs, as long as deployed (25 minutes); pictures
	mkdir -p docs/results
	OMP_NUM_THREADS=1 $(BIN)/python -m deploy.incident.run --out docs/images --report docs/results/incident.md

# The embedded models, their bundles and docs/results, from nothing. Each step writes a new folder
# under runs/. The three models train at once, and all of it wants a GPU and some cores.
MINUTES ?= 7
FAMILIES := llava paligemma qwen2vl
LINE_SCENES ?= 4200
ALPHA ?= 0.05

testbed: setup
	$(BIN)/python -m testbed.train_all --out testbed/models --minutes $(MINUTES) --workers 4

runs/%-data: | setup
	$(BIN)/python -m testbed.dataset $* --out $@ --scenes $(if $(filter line,$*),$(LINE_SCENES),400)

runs/%/reproduction.json: | runs/line-data
	$(BIN)/vlm-gate reproduce --model testbed/models/$* --data runs/line-data/questions.jsonl --out runs/$* $(REPRODUCE)

# All layers, as reproduce reads: the bundle may use any of them.
runs/%-catalog: | runs/catalog-data
	VLM_GATE_MODEL=testbed/models/$* $(BIN)/vlm-gate collect runs/catalog-data/questions.jsonl --out $@ --max-tokens 16 --layers 1,2,3,4,5,6

results-%: runs/%/reproduction.json runs/%-catalog
	rm -rf testbed/bundles/$* docs/results/$* runs/$*-report
	$(BIN)/vlm-gate certify runs/$*/store runs/$*/trained --out testbed/bundles/$* --alpha $(ALPHA) || [ $$? -eq 3 ]
	$(BIN)/vlm-gate evaluate runs/$*/store testbed/bundles/$* --out docs/results/$* --blank runs/$*/blank --domain catalog=runs/$*-catalog
	VLM_GATE_MODEL=testbed/models/$* $(BIN)/vlm-gate report docs/results/$* --out runs/$*-report --store runs/$*/store
	cp runs/$*-report/report.md docs/results/$*.md
	cp runs/$*/reproduction.json docs/results/$*/

results: $(addprefix results-,$(FAMILIES))
	$(BIN)/vlm-gate merge-reproductions docs/results/*/reproduction.json --out docs/results/reproduction.md

.PRECIOUS: runs/%-data runs/%-catalog runs/%/reproduction.json

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
