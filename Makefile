# Every command of the project; `make` alone lists them. Whatever is installed goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
SAM := $(VENV)/sam/bin/sam
UV := $(VENV)/lock/bin/uv
CHECKS := $(VENV)/checks/bin

PORT ?= 3000
AWS_PORT ?= 4566
PROVIDERS_PORT ?= 4600
ARGS ?=
ENV ?= dev

export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo run invoke test soak simulate docs openapi browser check audit format bench peers cost wild build deploy e2e rehearse lock clean

help: ## show this list
	@echo "make COMMAND   (ARGS=... goes to pytest in test and soak, to the stack in run)"; echo
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------ the local stack
demo: $(VENV)/.ready ## fetch, renew and check a token of each of the five simulated providers
	@$(PYTHON) -m local demo

run: $(VENV)/.ready ## run the local stack until Ctrl-C (PORT, AWS_PORT, PROVIDERS_PORT, AUTH=none)
	@$(PYTHON) -m local run --port $(PORT) --aws-port $(AWS_PORT) --providers-port $(PROVIDERS_PORT) $(ARGS)

invoke: $(VENV)/.ready ## run one function on one event: make invoke FUNCTION=GetTokenFunction EVENT=events/get_token.json
	@$(PYTHON) -m local invoke $(if $(FUNCTION),--function "$(FUNCTION)") $(if $(EVENT),--event "$(EVENT)")

# ------------------------------------------------------------------ tests and checks
test: $(VENV)/.ready ## run all tests, or some: make test ARGS="tests/unit -k lease"
	@$(PYTHON) -m pytest -n auto $(ARGS)

soak: $(VENV)/.ready ## run races, simulation and fuzzing at full numbers, and services for three minutes
	@SOAK=1 $(PYTHON) -m pytest -m soak $(ARGS)

check: $(VENV)/.ready $(VENV)/sam/.ready $(VENV)/checks/.ready ## lint, types, import rules and template, as .ci/run does
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	PYTHONPATH=layers/broker:layers/client:functions:cli $(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/cfn-lint template.yaml
	$(SAM) validate --lint
	$(CHECKS)/checkov --config-file .ci/checkov.yaml
	@# 3: nothing new, but known lines have moved, and the baseline now says where.
	$(CHECKS)/detect-secrets-hook --baseline .secrets.baseline $$(git ls-files) || test $$? -eq 3

audit: $(VENV)/checks/.ready ## look the pins up among known weaknesses (needs PyPI's advisories; says what it could not look up)
	@for pins in layers/vendor/requirements.txt cli/agent/requirements.txt tests/requirements/*.txt; do \
		echo "$$pins"; $(CHECKS)/pip-audit --require-hashes --disable-pip --requirement "$$pins"; done

format: $(VENV)/.ready ## put the code into the one format, and fix what ruff can
	@$(VENV)/bin/ruff format
	@$(VENV)/bin/ruff check --fix

simulate: $(VENV)/.ready ## simulate days of 10,000 keys, print each limit with what was measured
	@PYTHONPATH=layers/broker $(PYTHON) -m tests.simulation $(ARGS)

docs: $(VENV)/.ready ## write the generated pages: docs/connections.md, docs/providers.md, docs/errors.md, docs/provider.schema.json
	@PYTHONPATH=layers/broker:layers/client:functions:. $(PYTHON) -m tests.docs

openapi: $(VENV)/.ready ## write docs/openapi.json anew, with its examples
	@PYTHONPATH=layers/broker:layers/client:functions:. $(PYTHON) -m tests.openapi >/dev/null

browser: $(VENV)/.ready $(VENV)/browser/.ready ## use /docs and the console in Chromium, screenshots in build/ (needs Chromium, npm)
	@$(PYTHON) -m pytest -m browser tests/openapi/test_docs_page.py tests/cli/test_console_walk.py $(ARGS)

wild: $(VENV)/.ready $(VENV)/wild/.ready ## get tokens of real servers: Debian's Doorkeeper, npm's oidc-provider (needs apt, Node.js 20)
	@$(PYTHON) -m pytest -m wild tests/wild $(ARGS)

# ------------------------------------------------------------------ speed
bench: $(VENV)/bench/.ready $(VENV)/e2e/.ready build ## print the figures of speed, write build/bench.json (needs Python 3.13)
	@PYTHONPATH=layers/broker:layers/client:functions:cli:. $(VENV)/bench/bin/python -m tests.bench $(ARGS)

peers: $(VENV)/bench/.ready $(VENV)/peers/.ready ## measure the broker beside libraries and proxies, write build/peers.json (needs Python 3.13)
	@PYTHONPATH=layers/broker:layers/client:functions:. $(VENV)/bench/bin/python -m tests.bench.peers $(ARGS)

cost: $(VENV)/.ready ## count calls and units, write docs/cost.md
	@PYTHONPATH=layers/broker:layers/client:functions:. $(PYTHON) -m tests.cost

# ------------------------------------------------------------------ the artefact
build: $(VENV)/sam/.ready ## build .aws-sam/build with compiled layers (needs Python 3.13)
	@SAM=$(abspath $(SAM)) .ci/build $(ARGS)

deploy: build ## build and deploy: make deploy ENV=dev (ARGS=... goes to sam deploy)
	@SAM=$(abspath $(SAM)) $(PYTHON) .ci/deploy $(ENV) $(ARGS)

e2e: $(VENV)/.ready $(VENV)/e2e/.ready build ## build, then run the built functions under Lambda's own runtime
	@$(PYTHON) -m pytest -m e2e tests/e2e tests/bench $(ARGS)

rehearse: $(VENV)/.ready $(VENV)/rehearse/.ready build ## build, deploy to an emulator of AWS, use what is deployed (ARGS=--full: release, restore, tear-down)
	@SAM=$(abspath $(SAM)) $(PYTHON) -m tests.rehearsal $(ARGS)

# ------------------------------------------------------------------ set-up
PIN := UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links
# What Lambda's runtime brings of aws-encryption-sdk's dependencies.
IN_RUNTIME := boto3 botocore jmespath python-dateutil s3transfer six urllib3

lock: $(VENV)/lock/.ready ## write the pins anew from the .in files (UPGRADE=--upgrade takes newer versions)
	@$(PIN) --python-version 3.13 --python-platform x86_64-manylinux_2_34 \
		$(IN_RUNTIME:%=--no-emit-package %) $(UPGRADE) \
		layers/vendor/requirements.in -o layers/vendor/requirements.txt
	@$(PIN) --universal --python-version 3.11 $(UPGRADE) tests/requirements/dev.in -o tests/requirements/dev.txt
	@$(PIN) --universal --python-version 3.13 --constraint tests/requirements/dev.txt $(UPGRADE) \
		cli/agent/requirements.in -o cli/agent/requirements.txt
	@$(PIN) --universal --python-version 3.11 $(UPGRADE) tests/requirements/sam.in -o tests/requirements/sam.txt
	@$(PIN) --universal --python-version 3.11 $(UPGRADE) tests/requirements/checks.in -o tests/requirements/checks.txt
	@$(PIN) --python-version 3.13 --python-platform x86_64-manylinux_2_34 $(UPGRADE) \
		tests/requirements/e2e.in -o tests/requirements/e2e.txt
	@$(PIN) --python-version 3.13 --python-platform x86_64-manylinux_2_34 $(UPGRADE) \
		tests/requirements/peers.in -o tests/requirements/peers.txt
	@$(PIN) --python-version 3.13 --python-platform x86_64-manylinux_2_34 $(UPGRADE) \
		tests/requirements/rehearse.in -o tests/requirements/rehearse.txt

clean: ## remove what was built and cached; .venv stays
	@rm -rf .aws-sam build .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# Pins are installed by hash and without their dependencies: nothing gets in that is not in the file.
comma := ,
# The Python of the tools, best first. Lambda's runtime is 3.13.
TOOLS_PYTHON := 3.13 3.12 3.11 3.14
NO_TOOLS_PYTHON := Python 3.11 or newer is needed, with venv: none on PATH$(comma) none under pyenv.
# $(call install,DIRECTORY,WHAT,PYTHON VERSIONS,MESSAGE IF THERE IS NONE,PIP ARGUMENTS). A venv that works keeps its Python.
define install
	@printf 'Setting up %s (%s) ... ' "$(1)" "$(2)"; started=$$SECONDS; \
	if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
		python=$$(.ci/find-python $(3)) || { echo; echo "$(4)"; exit 1; }; \
		"$$python" -m venv $$(test ! -e $(1)/pyvenv.cfg || echo --clear) $(1); \
	fi; \
	$(1)/bin/python -m pip install --quiet --no-input --no-deps $(5) 2>$(1)/pip.log || { echo; cat $(1)/pip.log; exit 1; }; \
	touch $(1)/.ready; echo "done in $$((SECONDS - started)) s"
endef
# $(call install-tools,DIRECTORY,WHAT,PIP ARGUMENTS): what runs on this machine only.
install-tools = $(call install,$(1),$(2),$(TOOLS_PYTHON),$(NO_TOOLS_PYTHON),$(3))
# $(call install-runtime,DIRECTORY,COMMAND,REQUIREMENTS): what runs on the Python of Lambda's runtime.
install-runtime = $(call install,$(1),once,3.13,make $(2) needs Python 3.13: none on PATH$(comma) none under pyenv.,--require-hashes --requirement $(3))

$(VENV)/.ready: tests/requirements/dev.txt layers/broker/pyproject.toml layers/client/pyproject.toml cli/pyproject.toml
	$(call install-tools,$(VENV),once$(comma) about a minute,--require-hashes --requirement $<)
	@$(PYTHON) -m pip install --quiet --no-deps --no-index --no-build-isolation \
		--editable layers/broker --editable layers/client --editable cli # .venv/bin/token-broker

# aws-sam-cli pins another boto3, click and werkzeug.
$(VENV)/sam/.ready: tests/requirements/sam.txt | $(VENV)/.ready
	$(call install-tools,$(VENV)/sam,aws-sam-cli$(comma) once$(comma) about a minute,--require-hashes --requirement $<)

$(VENV)/checks/.ready: tests/requirements/checks.txt | $(VENV)/.ready
	$(call install-tools,$(VENV)/checks,checkov and scanners$(comma) once$(comma) about a minute,--require-hashes --requirement $<)

$(VENV)/bench/.ready: tests/requirements/dev.txt | $(VENV)/.ready
	$(call install-runtime,$(VENV)/bench,bench,$<)

$(VENV)/e2e/.ready: tests/requirements/e2e.txt | $(VENV)/.ready
	$(call install-runtime,$(VENV)/e2e,e2e,$<)

$(VENV)/peers/.ready: tests/requirements/peers.txt | $(VENV)/.ready
	$(call install-runtime,$(VENV)/peers,peers,$<)

$(VENV)/rehearse/.ready: tests/requirements/rehearse.txt | $(VENV)/.ready
	$(call install-runtime,$(VENV)/rehearse,rehearse,$<)

$(VENV)/wild/.ready: .ci/fetch-servers tests/wild/oidc_provider/package.json tests/wild/oidc_provider/package-lock.json
	@echo "Fetching ruby-doorkeeper and oidc-provider into $(@D) (once, about half a minute)"
	@.ci/fetch-servers $(@D)
	@touch $@

$(VENV)/browser/.ready: tests/cli/console_axe/package.json tests/cli/console_axe/package-lock.json
	@command -v npm >/dev/null || { echo "make browser needs npm, for axe-core: it is not on PATH."; exit 1; }
	@echo "Fetching axe-core into $(@D) (once, a few seconds)"
	@mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --loglevel=error --ignore-scripts --no-audit --no-fund --prefix $(@D)
	@touch $@

$(VENV)/lock/.ready: | $(VENV)/.ready
	$(call install-tools,$(VENV)/lock,uv$(comma) once,uv==0.13.9)
