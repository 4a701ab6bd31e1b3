# make app | test | demo | bench | assets | pictures | lint | audit | clean
# Settings: make app PORT=8502 WORKSPACE=/data/studio DEVICE=cuda ADDRESS=0.0.0.0 LECTURE=1 ALLOW=@lab.edu    make test ARGS="tests/unit -k ced" JOBS=4

SHELL := /bin/bash
# engine/__init__.py says why; here for programs that load torch first
export GOMP_SPINCOUNT ?= 10000
VENV := .venv
RUN := $(VENV)/bin/python
PORT ?= 8501
# test files that run at the same time, a thread of torch each
JOBS ?= 2
# the first that is new enough; a pyenv shim may exist and still not run
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)

.PHONY: app test demo bench assets pictures lint audit clean

app: $(VENV)/installed
	@exec $(RUN) -m app --port $(PORT) $(if $(ADDRESS),--address $(ADDRESS)) \
		$(if $(WORKSPACE),--workspace "$(WORKSPACE)") $(if $(DEVICE),--device $(DEVICE)) \
		$(if $(LECTURE),--lecture) $(if $(ALLOW),--allow "$(ALLOW)")

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

demo: $(VENV)/installed
	$(RUN) -m engine demo $(ARGS)

bench: $(VENV)/installed-dev
	@for file in $(filter-out bench/cluster.py,$(wildcard bench/*.py)); do echo "== $$file"; $(RUN) $$file || exit 1; done

assets: $(VENV)/installed-dev
	$(RUN) assets/build.py $(ARGS)

pictures: $(VENV)/installed-dev
	$(RUN) docs/make_pictures.py $(ARGS)

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# exit code 0: nothing known; 1: weaknesses found; 2: couldn't look
audit: $(VENV)/installed
	@$(RUN) -m pip_audit --version >/dev/null 2>&1 || { echo "pip-audit isn't installed; get it with: $(RUN) -m pip install pip-audit"; exit 2; }
	@said=$$($(RUN) -m pip_audit --progress-spinner off -r requirements.txt -r requirements-auth.txt 2>&1); code=$$?; \
	if echo "$$said" | grep -qE "ConnectionError|Max retries|NameResolution|ConnectTimeout|service unavailable|Failed to upgrade|No matching distribution"; \
	then echo "the list of known weaknesses can't be reached from here; run make audit where there is internet"; exit 2; fi; \
	echo "$$said"; exit $$code

clean:
	rm -rf $(VENV) build artefacts .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The files "installed" mark a finished installation; they are older than changed requirements, which installs again.
$(VENV)/installed: requirements.txt
	@$(call install,requirements.txt)
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@$(call install,requirements-dev.txt)
	@touch $@

define install
	if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed and none was found; install it, or name one: make PYTHON=/path/to/python3.11"; exit 2; fi; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) is not a working Python 3.11 or newer; name one that is: make PYTHON=/path/to/python3.11"; exit 2; }; \
	$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || exit 1; \
	echo "Installing $(1) into $(VENV) (about 6 GB and a few minutes the first time)"; \
	$(RUN) -m pip install --disable-pip-version-check --progress-bar off -r $(1) | grep --line-buffered -v '^Requirement already satisfied'; \
	[ $${PIPESTATUS[0]} -eq 0 ]
endef
