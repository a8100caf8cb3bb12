# `make serve`, `make test`: nothing needs to be installed first but Python 3.10 to 3.14 with venv.

STUDIES ?=
PORT ?= 8000
HOST ?= 127.0.0.1
PYTHON ?=
PYTEST_ARGS ?=
JOBS ?= auto

SHELL := /bin/bash
VENV := .venv
RUN := $(VENV)/bin/python
SERVE := $(VENV)/.installed-requirements
TEST := $(VENV)/.installed-requirements-test
TRAIN := $(VENV)/.installed-requirements-train
MONAI_LABEL := $(VENV)/.installed-requirements-monailabel
UV ?= uv
SLICER := .venv-slicer
SLICER_STAMP := $(SLICER)/.installed
DOCS := .venv-docs
DOCS_STAMP := $(DOCS)/.installed
OHIF := .ohif
OHIF_STAMP := $(OHIF)/.installed
OHIF_SUM := tests/e2e/ohif_app.sha512
VIEWER := .viewer
VIEWER_STAMP := $(VIEWER)/.installed
VIEWER_SUM := clients/ohif/viewer.sha512
AUDIT := .venv-audit
AXE := .axe
AXE_STAMP := $(AXE)/.installed
AXE_SUM := tests/e2e/axe.sha512

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install train monailabel serve test e2e check audit docs lock viewer

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(SERVE) ## make .venv and install what serving needs into it (requirements.txt)

train: $(TRAIN) ## the same with what pre-training and fine-tuning on another machine need (requirements-train.txt)

monailabel: $(MONAI_LABEL) ## the same with what MONAI Label's own command line needs (requirements-monailabel.txt)

serve: $(SERVE) ## serve STUDIES=folder (demo studies without it) on PORT=8000 HOST=127.0.0.1
	@$(RUN) -m slem_app.cli serve $(if $(STUDIES),--studies "$(STUDIES)") --port "$(PORT)" --host "$(HOST)"

test: $(TEST) ## the tests, in a process a core, four at most (JOBS=0: in one); PYTEST_ARGS="-k grouping" for some of them
	$(RUN) -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

viewer: $(VIEWER_STAMP) ## fetch the newest OHIF that is tried (50 MB) into .viewer, for serve --conf ohif .viewer

e2e: $(TEST) $(SLICER_STAMP) $(OHIF_STAMP) $(VIEWER_STAMP) $(AXE_STAMP) ## real clients against a real server; fetches Slicer's core (1 GB) and two OHIFs (100 MB) once
	$(RUN) -m pytest -m e2e tests/e2e $(PYTEST_ARGS)

check: $(TEST) docs audit ## style, types, the documents as a site, and known vulnerabilities
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check --quiet
	$(RUN) -m mypy

# Looked up in OSV alone: where PyPI is a mirror, pip-audit's own choice finds no package there and passes.
audit: | $(VENV)/bin/python ## known vulnerabilities of the pinned packages, where api.osv.dev can be reached
	@if $(RUN) -c 'import socket; socket.create_connection(("api.osv.dev", 443), 5)' 2>/dev/null; then \
	  { [ -x $(AUDIT)/bin/pip-audit ] || { $(RUN) -m venv $(AUDIT) && $(AUDIT)/bin/pip install $(QUIETLY) pip-audit==2.10.1; }; } && \
	  for file in requirements.txt requirements-train.txt requirements-monailabel.txt requirements-test.txt; do \
	    $(AUDIT)/bin/pip-audit --vulnerability-service osv --no-deps --disable-pip --progress-spinner off -r $$file || exit 1; done; \
	else echo "make: no audit of known vulnerabilities: api.osv.dev cannot be reached from here"; fi

docs: $(DOCS_STAMP) ## the documents as a site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict --quiet

lock: ## write the requirements files anew from pyproject.toml; UV=path/to/uv, UPGRADE=1 for newer versions
	$(call lock,requirements.txt,$(SERVING))
	$(call lock,requirements-monailabel.txt,$(SERVING) --extra monailabel -c requirements.txt)
	$(call lock,requirements-test.txt,$(SERVING) --extra monailabel --extra pretrain --extra test -c requirements-monailabel.txt)
	$(call lock,requirements-train.txt,--extra compressed --extra pretrain -c requirements.txt)

SERVING := --extra compressed --extra nninteractive --extra report --extra seg --extra serve --extra viewer

# torch's own GPU libraries are left out: torch pins each, and its build for the CPU has none. What is true of every
# supported environment (Linux, Python below 3.15) is not said in each line.
define lock
$(UV) pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header $(if $(UPGRADE),--upgrade) \
  pyproject.toml $(2) --output-file $(1)
sed -i -E "/^(cuda|nvidia|triton)/d; \
  s/(python_full_version < '3\.15'|sys_platform == 'linux'|platform_machine != 'wasm32'|(platform_python_implementation|implementation_name) != 'PyPy')( and )?//g; \
  s/ (and|;) *$$//" $(1)
endef

# PYTHON if given, else the first of these that is 3.10 to 3.14 and can make an environment. A name on PATH may still not run (pyenv), so each is tried.
define find_python
found=""; without_venv=""; seen=""; \
for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python3.10); do \
  version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
  case "$$version" in 3.10|3.11|3.12|3.13|3.14) ;; *) seen="$$seen $$candidate is $$version,"; continue ;; esac; \
  if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then found="$$candidate"; break; fi; \
  without_venv="$$version"; \
done; \
if [ -z "$$found" ] && [ -n "$$without_venv" ]; then \
  echo "make: Python $$without_venv is here but cannot make environments. Install its venv: sudo apt-get install python$$without_venv-venv" >&2; exit 1; fi; \
if [ -z "$$found" ]; then \
  echo "make: Python 3.10 to 3.14 is needed;$${seen:- none was found,} so say where one is: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
endef

$(VENV)/bin/python:
	@$(find_python); echo "Making $(VENV) with $$found"; "$$found" -m venv $(VENV)

# The locks are whole, so nothing is resolved. Only torch is: it brings its GPU libraries, if its build has any.
$(VENV)/.installed-%: %.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing $< into $(VENV); the first time takes a few minutes"
	@$(RUN) -m pip install $(QUIETLY) -c $< torch numpy setuptools
	@$(RUN) -m pip install $(QUIETLY) --no-build-isolation --no-deps -r $<
	@$(RUN) -m pip install $(QUIETLY) --no-build-isolation --no-deps -e .
	@touch $@

QUIETLY := --quiet --disable-pip-version-check

# Slicer's core has its own dependencies, so it lives apart from ours.
$(SLICER)/bin/python:
	@$(find_python); echo "Making $(SLICER) with $$found"; "$$found" -m venv $(SLICER)

$(SLICER_STAMP): tests/e2e/slicer/requirements.txt | $(SLICER)/bin/python
	@echo "Installing Slicer's core into $(SLICER) (about 1 GB)"
	@$(SLICER)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# What builds the documents reads the package's sources and runs nothing of it, so it needs none of its dependencies.
$(DOCS)/bin/python:
	@$(find_python); echo "Making $(DOCS) with $$found"; "$$found" -m venv $(DOCS)

$(DOCS_STAMP): requirements-docs.txt | $(DOCS)/bin/python
	@echo "Installing $< into $(DOCS) (60 MB)"
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# OHIF as its makers publish it: an older one, without MONAI Label, which reads our results independently, and the newest, in which our mode is served.
# npm fetches the built viewer alone, none of what it was built from, and what comes must be what is pinned.
define fetch_ohif
@command -v npm >/dev/null || { echo "make: npm is needed to fetch OHIF$(2): sudo apt-get install npm" >&2; exit 1; }
@echo "Fetching OHIF into $(1) (50 MB)"
@rm -rf $(1) && mkdir $(1)
@cd $(1) && npm pack --silent "@ohif/app@$$(sed -n 's/.* ohif-app-\(.*\)\.tgz/\1/p' ../$<)" >/dev/null
@cd $(1) && sha512sum --check --strict --quiet ../$< && tar -xzf *.tgz --strip-components=2 package/dist && rm *.tgz
@touch $@
endef

$(OHIF_STAMP): $(OHIF_SUM)
	$(call fetch_ohif,$(OHIF), for the end-to-end tests)

$(VIEWER_STAMP): $(VIEWER_SUM)
	$(call fetch_ohif,$(VIEWER))

# axe-core, which looks for what keeps people out of the pages: one file, used by the tests alone.
$(AXE_STAMP): $(AXE_SUM)
	@command -v npm >/dev/null || { echo "make: npm is needed to fetch axe-core for the end-to-end tests: sudo apt-get install npm" >&2; exit 1; }
	@rm -rf $(AXE) && mkdir $(AXE)
	@cd $(AXE) && npm pack --silent "axe-core@$$(sed -n 's/.* axe-core-\(.*\)\.tgz/\1/p' ../$<)" >/dev/null
	@cd $(AXE) && sha512sum --check --strict --quiet ../$< && tar -xzf *.tgz --strip-components=1 package/axe.min.js && rm *.tgz
	@touch $@
