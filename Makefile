# `make` alone prints this help: what stands after `##` beside a target, below its section.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
# The environment that runs the first look is small; the developer's holds everything.
DEMO := .cache/venv-demo
VENV := .venv
BENCH := .cache/venv-bench
COMPOSE := docker compose
PERIOD ?= week
N ?= 3
SERVICE ?=
KUBECTL := kubectl
OVERLAY ?= k8s/overlays/local
# The suites that start workers on this machine: docs/performance.md says what is left out.
IN_LANE := $(addprefix tests/,canvas scope task_logs webhook mail telemetry watching)
# What finds most in a second: canvases, calls between tasks, replaced ones, scopes, dead letters.
IN_LANE_SHORT := tests/canvas/test_pools.py tests/scope/test_everywhere.py tests/scope/test_gone.py
# The folder's name is what kubectl shows where it is missing.
K8S_SECRETS := k8s/secrets/generated-by-make-k8s-secrets
comma := ,

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-zA-Z0-9_-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ A first look
.PHONY: demo
demo: $(DEMO)/ready ## the week's hottest repositories as CSV, without any server
	@$(DEMO)/bin/python -m examples.first_report

##@ The local cluster
.PHONY: up down ps logs scale report passwords base-images
up: ## start everything and wait until it is healthy; OFFLINE=1 where GitHub cannot be reached
	@$(if $(OFFLINE),GITHUB_API_URL=http://github:8080 $(COMPOSE) --profile offline,$(COMPOSE)) up -d --wait

down: ## stop everything; volumes, and what is in them, stay
	@$(COMPOSE) --profile '*' down

ps: ## what runs, and how it is
	@$(COMPOSE) --profile '*' ps --all

logs: ## follow the logs, of all or of SERVICE=reporter
	@$(COMPOSE) logs --follow --tail=100 $(SERVICE)

scale: ## run N=3 containers of SERVICE=reporter
	@[[ -n "$(SERVICE)" ]] || { echo "say which: make scale SERVICE=reporter N=3" >&2; exit 2; }
	@$(COMPOSE) up -d --wait --no-recreate --scale $(SERVICE)=$(N) $(SERVICE)

report: ## PERIOD=day, week or month: ask the cluster for a report, have it in ./reports
	@$(COMPOSE) run --rm cli report --period "$(PERIOD)"

passwords: ## show the passwords that a person needs (Flower, RabbitMQ)
	@$(COMPOSE) run --rm --no-deps setup /secrets --show

base-images: ## have every base image: what is there, else pulled, else built from Debian packages
	@$(PYTHON) compose/base-images/build.py

##@ A Kubernetes cluster
.PHONY: k8s-secrets k8s-up k8s-down k8s-scale k8s-logs k8s-passwords
k8s-secrets: ## make the passwords that are missing, in a folder that git ignores; those that are there stay
	@install -d -m 700 $(K8S_SECRETS)
	@$(PYTHON) -m shared.setup $(K8S_SECRETS)

k8s-up: k8s-secrets ## apply OVERLAY=k8s/overlays/local and wait until everything is ready
	@$(KUBECTL) apply -k $(OVERLAY)
	@$(KUBECTL) -n taskhouse get deployments,statefulsets -l app.kubernetes.io/part-of=taskhouse -o name | \
	  xargs -rn1 $(KUBECTL) -n taskhouse rollout status --timeout=10m

k8s-down: k8s-secrets ## remove it, with everything that is stored in its pods; the passwords stay
	@$(KUBECTL) delete -k $(OVERLAY) --ignore-not-found

k8s-scale: ## run N=3 pods of SERVICE=mailer, where nothing else scales them
	@[[ -n "$(SERVICE)" ]] || { echo "say which: make k8s-scale SERVICE=mailer N=5" >&2; exit 2; }
	@$(KUBECTL) -n taskhouse scale deployment/$(SERVICE) --replicas=$(N)
	@$(KUBECTL) -n taskhouse rollout status deployment/$(SERVICE) --timeout=10m

k8s-logs: ## follow the logs, of all or of SERVICE=mailer
	@$(KUBECTL) -n taskhouse logs --follow --tail=100 --prefix --max-log-requests=50 --ignore-errors \
	  -l app.kubernetes.io/part-of=taskhouse$(if $(SERVICE),$(comma)app.kubernetes.io/name=$(SERVICE))

k8s-passwords: ## show the passwords that a person needs, for what `kubectl port-forward` shows
	@$(PYTHON) -m shared.setup $(K8S_SECRETS) --show

##@ Services of your own
.PHONY: new-service remove-service dev hooks
# make hands on what stands behind it, as variables of the environment: no quote in them is the shell's.
new-service: $(VENV)/ready ## NAME=thumbnailer: write a service, and all that follows from it; docs/adding-a-service.md has the options
	@$(VENV)/bin/python -m scaffold new
	@# Who makes its password, and who calls it, must know it. Where there is no Docker, `up` builds it later.
	@! docker info >/dev/null 2>&1 || $(COMPOSE) --profile tools build --quiet cli

remove-service: $(VENV)/ready ## NAME=thumbnailer: take it away again
	@$(VENV)/bin/python -m scaffold remove

dev: $(VENV)/ready ## SERVICE=reporter: its worker on this machine, anew at each change; DEBUG=5678 lets a debugger attach
	@$(VENV)/bin/python -m scaffold dev

hooks: $(VENV)/ready ## have git run the quick checks before each commit
	@$(VENV)/bin/pre-commit install

##@ Work on it
.PHONY: test test-fast-lane lint chaos bench topology contract k8s-resources lock screenshots
test: $(VENV)/ready lint ## everything that can run here; container tests need Docker, and fail without it where CI=true; JOBS=2 in two processes
	@$(VENV)/bin/pytest $(if $(JOBS),--numprocesses=$(JOBS) --dist=loadscope --no-loadscope-reorder) $(PYTEST)

test-fast-lane: $(VENV)/ready ## the tests that run tasks, with each task in the fast lane; SHORT=1 the part that CI plays
	@$(VENV)/bin/pytest -p tests.in_lane.plugin $(if $(SHORT),$(IN_LANE_SHORT),$(IN_LANE)) $(PYTEST)

lint: $(VENV)/ready ## style, types, who imports whom
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy shared services tests examples bench
	@$(VENV)/bin/lint-imports --no-logo

chaos: $(VENV)/ready ## break the cluster and count; CASE=kill-child plays one, SEED=42 as it was, SHORT=1 its short form, LANE=1 all in the fast lane
	@CHAOS_LANE=$(LANE) CHAOS_FORM=$(if $(SHORT),short,long) CHAOS_SEED=$(SEED) CHAOS_RECORD=$(if $(SHORT)$(LANE),,tests/chaos/figures.json) \
	  $(VENV)/bin/pytest tests/chaos -s $(if $(CASE),-k "[$(CASE)]")
	@$(if $(SHORT)$(LANE),,$(VENV)/bin/python -m tests.chaos.table)

bench: $(BENCH)/ready ## measure the peers side by side, on a quiet machine: bench/results/<date>.md; SHORT=1 shows that it runs
	@$(BENCH)/bin/python -m bench.peers $(if $(SHORT),--short --rounds 1,--write)

screenshots: $(VENV)/ready ## take the README's pictures, with Chromium; Flower's needs Docker
	@SCREENSHOTS=docs/images $(VENV)/bin/pytest -q tests/browser/test_screenshots.py tests/browser/test_flower.py

topology: $(VENV)/ready ## write the files that follow from shared/topology.py
	@$(VENV)/bin/celery -A shared.app topology render

contract: $(VENV)/ready ## does this tree break who works by the contract of the last release (the last tag v*)?
	@tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) || { echo "there is no release so far"; exit 0; }; \
	  echo "since $$tag:"; git show "$$tag:shared/signatures/contract.json" | $(VENV)/bin/celery -A shared.app contract diff -

k8s-resources: $(VENV)/ready ## measure what each pod needs, in Docker: what `requests` and limits are taken from
	@$(VENV)/bin/python -m tests.k8s.measure

lock: $(VENV)/ready ## compile requirements/*.in to pinned, hashed *.txt; UPGRADE=1 takes newer versions
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" requirements/lock $(if $(UPGRADE),--upgrade)

##@ Environments
.PHONY: venv clean
venv: $(VENV)/ready ## make the developer's environment in .venv

clean: ## remove the environments and what the first look left
	@rm -rf $(VENV) .cache .local

$(DEMO)/ready: requirements/demo.txt pyproject.toml
	$(call environment,$(DEMO),requirements/demo.txt)

$(VENV)/ready: requirements/dev.txt pyproject.toml
	$(call environment,$(VENV),requirements/dev.txt)

$(BENCH)/ready: bench/requirements.txt pyproject.toml
	$(call environment,$(BENCH),bench/requirements.txt)

# Pinned and hash-checked; the project itself is installed editable, without the network.
OLD = f"Python 3.11 or newer is needed, but $(PYTHON) is {sys.version.split()[0]}: make PYTHON=python3.13 ..."
define environment
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit($(OLD))'
	@echo "making the environment $(1) from $(2)" >&2
	@$(PYTHON) -m venv --clear $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(2)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(1)/ready
endef
