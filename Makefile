# Needs Python 3.11 to 3.13, make and a package index. Paths are relative: the checkout's own may contain spaces.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test chaos check bench clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | while read -r target text; do printf '  make %-6s  %s\n' "$$target" "$$text"; done

demo: $(READY) ## 1,000 simulated people against the real thing, then a comparison with the tenant (1 to 2 minutes)
	@$(BIN)/python -m local.demo --exit-with-parent

test: $(READY) ## the whole test suite, on an embedded PostgreSQL and Redis for each core
	@# A file stays in one process: its tests share servers. Most tests wait for processes, so it is worth it on two cores.
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

chaos: $(READY) ## people act while everything breaks, then all must be right; longer: MINUTES=10, the same again: SEED=1
	@$(BIN)/python -m local.chaos --exit-with-parent $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

check: $(READY) ## ruff, mypy, the direction of imports, the commands in the docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# The commands and settings that the docs show are run and compared by the tests in this folder.
	test ! -d tests/docs || $(BIN)/pytest tests/docs -m "not journey"

bench: $(READY) ## the figures of docs/performance.md, also written to build/bench.json
	$(BIN)/python -m bench

venv: $(READY) ## the virtual environment alone, from the lock

clean: ## remove what make made; the data of `understudy dev` in .understudy/ stays
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python of the list that can run us makes the environment; the pinned uv installs the lock into it, trusting
# the certificates pip trusts (the system's, if it has any). Where HOME cannot hold a cache, uv does without. A .python-version (production's choice) must not make uv replace the environment.
$(READY): pyproject.toml uv.lock
	@set -eu; \
	if ! test -x $(BIN)/python || ! $(BIN)/python -c pass; then \
	  for python in '$(PYTHON)' python3 python3.13 python3.12 python3.11 /usr/bin/python3 none; do \
	    test "$$python" != none || { echo 'make: no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python3.13' >&2; exit 1; }; \
	    "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	    break; \
	  done; \
	  echo "making the virtual environment with $$("$$python" --version)"; \
	  "$$python" -m venv --clear .venv; \
	fi; \
	uv=$$(sed -n 's/.*"uv\(==[0-9.]*\)".*/\1/p' pyproject.toml); \
	test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$${uv#==}" || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv$$uv"; \
	for store in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do \
	  test ! -s $$store || export UV_SYSTEM_CERTS="$${UV_SYSTEM_CERTS:-true}"; \
	done; \
	test -w "$${HOME:-/nonexistent}" || export UV_NO_CACHE=1; \
	UV_LINK_MODE=$${UV_LINK_MODE:-copy} $(BIN)/uv sync --quiet --locked --no-python-downloads --python $(BIN)/python; \
	touch $(READY)
