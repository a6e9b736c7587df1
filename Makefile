# make run | test | race | check | bench | docs | build | venv | clean. Everything but system packages stays in .venv and build.
PYTHON ?= python3
PYTEST_ARGS ?=
# The tests run in as many processes as there are processors where each can have a mount namespace to itself (tests/harness/parallel.py).
PYTEST_PROCESSES ?= $(shell unshare --mount true 2>/dev/null && nproc || echo 0)
export PYTHON

.PHONY: run test race check bench docs build venv clean format cpython git-tests ltp pjdfstest fuse-foreign
.DEFAULT_GOAL := build

run: .venv/.ready
	@tools/system-packages run
	@tools/build
	@examples/run.sh

test: .venv/.ready
	@tools/system-packages test
	@tools/build
	@.venv/bin/pytest -n $(PYTEST_PROCESSES) --dist=worksteal $(PYTEST_ARGS)

# A million tries of each call that a race could win in an enforcing view: hours. RACE_CALLS=open,stat and RACE_ARGS for less.
RACE_TRIES ?= 1000000
race: .venv/.ready build
	@tools/system-packages test
	@rm -f build/races
	@.venv/bin/pytest -q tests/enforce/test_race.py::test_nothing_is_got --race-tries=$(RACE_TRIES) \
		--race-calls=$(RACE_CALLS) --race-log=build/races $(RACE_ARGS)
	@cat build/races

check: .venv/.ready build
	.venv/bin/ruff check .
	.venv/bin/ruff format --check --quiet --diff . || echo "(ruff format is a suggestion)"
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror $$(git ls-files '*.c' '*.h')

bench: .venv/.ready
	@tools/system-packages test
	@tools/build
	@.venv/bin/python bench $(BENCH_ARGS)

# Other projects' tests, natively and in views, compared; none of them is part of this repository. FOREIGN_ARGS: see
# PYTHONPATH=tests .venv/bin/python -m foreign --help.
cpython: .venv/.ready build
	@PYTHONPATH=tests .venv/bin/python -m foreign cpython "$(or $(CPYTHON),$(shell .venv/bin/python -c 'import sys; print(sys._base_executable)'))" $(FOREIGN_ARGS)

ltp: .venv/.ready build
	@test -n "$(LTP)" || { echo "make ltp LTP=DIR: DIR is where the Linux Test Project is installed" >&2; exit 2; }
	@PYTHONPATH=tests .venv/bin/python -m foreign ltp "$(LTP)" $(FOREIGN_ARGS)

pjdfstest: .venv/.ready build
	@test -n "$(PJD)" || { echo "make pjdfstest PJD=DIR: DIR is where pjdfstest was built" >&2; exit 2; }
	@PYTHONPATH=tests .venv/bin/python -m foreign pjdfstest "$(PJD)" $(FOREIGN_ARGS)

git-tests: .venv/.ready build
	@test -n "$(GIT)" || { echo "make git-tests GIT=DIR: DIR is where git was built" >&2; exit 2; }
	@PYTHONPATH=tests .venv/bin/python -m foreign git "$(GIT)" $(FOREIGN_ARGS)

# FSX=PROGRAM: fsx as of xfstests; PJD=DIR: pjdfstest as well.
fuse-foreign: .venv/.ready build
	@test -n "$(LIBFUSE)" || { echo "make fuse-foreign LIBFUSE=DIR: DIR is where libfuse 3 was built, with tests and examples" >&2; exit 2; }
	@FSX="$(FSX)" PJD="$(PJD)" PYTHONPATH=tests .venv/bin/python -m foreign fuse "$(LIBFUSE)" $(FOREIGN_ARGS)

docs: .venv/.ready build
	.venv/bin/pip install -q --disable-pip-version-check '.[docs]' --no-build-isolation
	.venv/bin/sphinx-build -W -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

build: .venv/.ready
	@tools/build

venv: .venv/.ready

# Without the package itself: tools/build installs that. Only pyfuse3 is compiled, in half the time without optimising.
.venv/.ready: pyproject.toml tools/requirements.py
	@tools/system-packages run
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	@echo "installing Python packages into .venv"
	@.venv/bin/python tools/requirements.py dev > .venv/requirements.txt
	@CFLAGS="-O1 -g0" .venv/bin/pip install -q --disable-pip-version-check -r .venv/requirements.txt
	@touch $@

clean:
	rm -rf build dist .venv docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find vuosd -name '_engine*.so' -delete
