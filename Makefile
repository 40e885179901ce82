# The ways in. Every target sets up what it needs in .venv (VENV=... for another place).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: incident system setup demo serve test lint types imports pytest audit fuzz testbed results clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[transformers,demo,dev]"
	touch $@

demo: setup           ## start the service, ask about held-out images and photographs, print the table, stop
	$(BIN)/vlm-gate demo

serve: setup          ## serve the embedded model on 127.0.0.1:8080 until interrupted
	$(BIN)/vlm-gate serve

test: system lint types imports audit pytest   ## everything that CI runs

system:               ## Debian packages that the tests need: installs what is missing, or names it
	deploy/debian-packages.sh

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

pytest: setup
	$(BIN)/pytest --cov --cov-report=term --cov-fail-under=85

audit: setup          ## requirements not met or not pinned, and versions with a hole known here
	$(BIN)/pip check
	$(BIN)/python -m deploy.audit

audit-online: setup   ## the same by a vulnerability service, where one can be reached
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

fuzz: setup           ## 3,000 generated requests per operation against the OpenAPI document
	FUZZ_CASES=3000 $(BIN)/pytest -s tests/service/security/test_openapi.py

incident: system setup  ## an incident with the real programs, as long as deployed (25 minutes); pictures
	mkdir -p docs/results
	OMP_NUM_THREADS=1 $(BIN)/python -m deploy.incident.run --out docs/images --report docs/results/incident.md

# The embedded models, the bundle and docs/results/embedded.md, from nothing. Each step writes a new
# folder under runs/. The three models train at once, and want a GPU. `make results` took about 20
# minutes on 2 cores.
MINUTES ?= 7

testbed: setup
	$(BIN)/python -m testbed.train_all --out testbed/models --minutes $(MINUTES) --workers 4

runs/%-data: | setup
	$(BIN)/python -m testbed.dataset $* --out $@ --scenes $(if $(filter line,$*),2400,400)

runs/line: runs/line-data
	$(BIN)/vlm-gate collect $</questions.jsonl --out $@

runs/catalog: runs/catalog-data
	$(BIN)/vlm-gate collect $</questions.jsonl --out $@

results: runs/line runs/catalog
	rm -rf runs/bundle runs/report testbed/bundles/llava docs/results/embedded
	$(BIN)/vlm-gate train runs/line --out runs/bundle
	$(BIN)/vlm-gate certify runs/line runs/bundle --out testbed/bundles/llava --alpha 0.10
	$(BIN)/vlm-gate evaluate runs/line testbed/bundles/llava --out docs/results/embedded --domain catalog=runs/catalog
	$(BIN)/vlm-gate report docs/results/embedded --out runs/report
	cp runs/report/report.md docs/results/embedded.md

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
