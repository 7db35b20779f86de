# Everything a developer does here; see CONTRIBUTING.md. Needs only Python 3.11 or later and make.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS ?= auto
CODE := $(wildcard securecfg tests benchmarks examples docs)

.DEFAULT_GOAL := help
.PHONY: help demo demo-keys demo-facade demo-rotation test coverage lint types format bench docs crash soak fuzz mutants lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# --- installation: from the locks alone, each once; they are complete, so nothing is left to resolve ---

.venv/dev: requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/bench: requirements/bench.txt .venv/dev
	@$(PIP) install --no-deps --require-hashes -r requirements/bench.txt
	@touch $@

.venv/docs: requirements/docs.txt .venv/dev
	@$(PIP) install --no-deps --require-hashes -r requirements/docs.txt
	@touch $@

# --- what is asked for daily ---

demo: .venv/dev ## walk through the example shop
	@PYTHONPATH=. $(BIN)/python examples/shop/demo.py

demo-keys: .venv/dev ## walk through the life of keys (needs SoftHSM)
	@PYTHONPATH=. $(BIN)/python examples/keys/demo.py

demo-facade: .venv/dev ## walk through one application over four stores of others
	@PYTHONPATH=. $(BIN)/python examples/facade/demo.py

demo-rotation: .venv/dev ## watch a database password change under load (needs PostgreSQL)
	@PYTHONPATH=. $(BIN)/python examples/rotation/demo.py

# No test needs what it writes to outlive the machine, and waiting for a disk thousands of times takes minutes: the folders
# of the tests are in memory, where there is room for them and programs may be run. They are a gigabyte, and go at the end.
MEMORY := $(shell awk '$$2 == "/dev/shm" && $$3 == "tmpfs" && $$4 !~ /noexec/' /proc/mounts 2>/dev/null | grep -q . && \
	df --output=avail --block-size=1M /dev/shm | awk 'NR == 2 && $$1 >= 4096 { print "/dev/shm" }')
IN_MEMORY := $(if $(MEMORY),folder=$$(mktemp -d $(MEMORY)/tests-XXXXXX) && trap 'rm -rf "$$folder"' EXIT INT TERM && TMPDIR=$(MEMORY))

# A worker gets tests that follow each other, so that what a module shares is made once, and takes over what another has
# left to do. What is covered is looked at once, below.
test: .venv/dev ## run the tests with branch coverage
	@$(IN_MEMORY) $(BIN)/python -m pytest $(if $(MEMORY),--basetemp "$$folder") -n $(JOBS) --dist worksteal \
		--cov --cov-report= --cov-fail-under=0 $(ARGS)
	@$(MAKE) --no-print-directory coverage

# The overall floor is `fail_under` in pyproject.toml. What decides about secrets is held to every branch.
EVERY_BRANCH := securecfg/crypto/*,securecfg/policy/*,securecfg/audit/merkle.py,securecfg/audit/note.py
EVERY_BRANCH := $(EVERY_BRANCH),securecfg/audit/checkpoint.py,securecfg/audit/proof.py,securecfg/audit/verify.py
coverage: .venv/dev ## report the coverage of the last test run
	@$(BIN)/coverage report --sort=cover
	@$(BIN)/coverage report --fail-under=100 --include='$(EVERY_BRANCH)'

lint: .venv/dev ## check style, layers and the house's rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: .venv/dev ## check types, strictly
	@$(BIN)/mypy $(CODE)

format: .venv/dev ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# --- exhaustive runs ---

bench: .venv/bench ## measure every row of the speed table
	@$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/docs ## build the documentation into build/docs
	@$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

crash: .venv/dev ## reopen 100,000 crash images, and 9,000 of backups and restores; die at every step of long changes
	@$(BIN)/python -m tests.reliability.crash --images 100000 $(ARGS)
	@$(BIN)/python -m tests.reliability.backup_crash --images 9000 $(ARGS)
	@SECURECFG_EXHAUSTIVE=1 $(BIN)/python -m pytest -q tests/vault tests/reliability/test_kill_migration.py -k "dies or died"

# The tests print figures, which are shown behind all of them.
soak: .venv/dev ## rotate 1,000 secrets for a year, log in through 100 rotations, cut rotations off wherever they can be
	@$(IN_MEMORY) SECURECFG_EXHAUSTIVE=1 $(BIN)/python -m pytest -q -rP $(if $(MEMORY),--basetemp "$$folder") -n $(JOBS) \
		--dist worksteal --timeout 7200 tests/reliability/test_rotation_soak.py tests/reliability/test_rotation_readers.py \
		tests/rotation/test_walks.py tests/rotation/test_kill_matrix*.py $(ARGS)

fuzz: .venv/dev ## feed hostile bytes to every parser
	@$(BIN)/python -m tests.fuzz $(ARGS)

mutants: .venv/dev ## plant defects and see each one found
	@$(BIN)/python -m tests.mutants $(ARGS)

# --- upkeep ---

# The locks hold for every supported Python and platform, and name no index.
COMPILE ?= uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet $(UPGRADE)
lock: ## bring the locks in requirements/ up to date with pyproject.toml (needs uv; UPGRADE=--upgrade renews them)
	$(COMPILE) pyproject.toml --group dev --extra pydantic -o requirements/dev.txt
	$(COMPILE) pyproject.toml --group build --group test-core -c requirements/dev.txt -o requirements/core.txt
	$(COMPILE) pyproject.toml --group bench -c requirements/dev.txt -o requirements/bench.txt
	$(COMPILE) --group docs -c requirements/dev.txt -o requirements/docs.txt

clean: ## remove what can be made again, the virtual environment included
	@rm -rf .venv build dist .coverage .coverage.* coverage.xml
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
