# Every target sets up .venv by itself: it needs Python 3.11 or newer with pip, and a package index that pip can reach.
#
#   make demo             the main job in half a minute: offline, no key, no model
#   make serve            a server on http://127.0.0.1:8321/v1          (make serve ARGS="--port 9000")
#   make test             all tests; with ARGS, the server's own       (make test ARGS="-k conversations")
#   make test-old-client  the official client's tests, with the client of October 2025 (openai 2.5.0)
#   make test-clients     agent frameworks drive it: openai-agents, langgraph, pydantic-ai, llama-stack-client, Vercel's AI SDK
#   make check            lint, format, types, who may import whom, size
#   make bench            CPU per request and per event, as a ratio to the model host alone
#   make crash            kills processes under load, and looks at what is left (make crash ARGS="--postgres --kills 100")
#   make docs             write docs/reference from routes, settings and errors
#   make demo-recording   record anew what the demo plays
#   make lock             pin all dependencies anew, after a change of pyproject.toml
#   make setup            .venv and nothing else
#   make clean            remove .venv and what the tools leave behind

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-old-client test-clients check bench crash docs demo-recording lock clean

BIN := .venv/bin
READY := .venv/.ready

# The first of these that is 3.11 or newer; `make PYTHON=/path/to/python3.12 test` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)

help:
	@sed -n 's/^#   //p' Makefile

setup: $(READY)

# Everything is pinned and hashed in requirements.lock, the build backend included, so nothing is resolved here. pip
# installs, since pip knows how this machine reaches its package index; where venv lacks ensurepip, pip comes from outside.
$(READY): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Setting up .venv, once: about half a minute" >&2
	@rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv --without-pip .venv \
		&& $(PYTHON) -m pip --python .venv/bin/python install -qq pip; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/antiphon demo $(ARGS)

serve: $(READY)
	@$(BIN)/antiphon serve $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -q -n 2 $(ARGS)
	$(if $(strip $(ARGS)),,@.ci/test-clients)

test-old-client: $(READY)
	@.ci/test-old-client

test-clients: $(READY)
	@.ci/test-clients

check: $(READY)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/size.py | tail -1

bench: $(READY)
	@$(BIN)/python bench/run.py $(ARGS)

crash: $(READY)
	@PYTHONPATH=tests/contract $(BIN)/python bench/crash/crash.py $(ARGS)

docs: $(READY)
	@$(BIN)/python scripts/docs.py --write

demo-recording: $(READY)
	@$(BIN)/python scripts/record_demo.py

COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-index-url \
	--no-emit-find-links --upgrade

# llama-stack-client asks for Python 3.12, uses nothing of it, and wants much that its agents do without: hence --no-deps.
lock: $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(COMPILE) --universal --group dev pyproject.toml --output-file requirements.lock
	@$(COMPILE) --universal pyproject.toml tests/clients/requirements.in --output-file requirements-clients.lock
	@echo "llama-stack-client>=0.7" | $(COMPILE) --python-version 3.12 --no-deps - >> requirements-clients.lock
	@cd tests/clients/vercel && npm update --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean:
	@rm -rf .venv tests/clients/vercel/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
