# make demo    set up, train on a made-up actor, solve a shot that nobody trained on, show the error (under 8 minutes)
# make test    set up and run the tests: test-core, test-bpy, test-extension and test-gui, each of which runs alone too
# make check   ruff and the tests
# make bench   measure this machine; prints and stores tables in benchmarks/
# make pictures  make the pictures of the documentation, from the demo
# make clean   remove what the targets made, but not .venv
#
# Everything is pinned and goes into .venv, once, and again when the pins change. It needs Python 3.11 or newer, found
# by name or given as PYTHON=. Torch comes as its CPU build; for a CUDA build choose the index when .venv is made:
#     rm -rf .venv && make demo TORCH_INDEX=https://download.pytorch.org/whl/cu130
# Where that index cannot be reached, pip takes the torch of its usual index.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3 python, \
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN = .venv/bin
READY = .venv/ready

BPY_4.2 = 4.2.0
BPY_5.0 = 5.0.1

.PHONY: demo test test-core test-bpy test-in-bpy test-extension test-gui check bench pictures clean

test: test-core test-bpy

test-core: $(READY)
	$(BIN)/python -m pytest -m "not slow" tests/unit tests/worker

# The bpy wheels of these versions exist for Python 3.11 alone.
test-bpy: $(READY)
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then $(MAKE) test-in-bpy; \
	else echo "tests/bpy is skipped: bpy $(BPY_4.2) and $(BPY_5.0) need Python 3.11, and .venv has another."; fi

test-in-bpy: .venv-bpy/4.2/ready .venv-bpy/5.0/ready
	.venv-bpy/4.2/bin/python -m pytest -m "not slow" tests/bpy
	.venv-bpy/5.0/bin/python -m pytest -m "not slow" tests/bpy

test-extension: test-bpy
	$(BIN)/python -m pytest -m "not slow" tests/extension

# In the real Blender; skips where none can be had.
test-gui: test-bpy
	$(BIN)/python -m pytest -m "not slow" tests/gui

demo: $(READY)
	rm -rf demo && mkdir demo
	$(BIN)/understudy sample demo/actor
	$(BIN)/understudy train demo/actor --minutes 4 --batch 16
	$(BIN)/understudy solve demo/actor demo/actor/footage/val_talk.mp4 --out demo/val_talk.pc2
	$(BIN)/understudy compare demo/actor val_talk demo/val_talk.pc2 --out demo/val_talk.mp4
	$(BIN)/understudy evaluate demo/actor --out demo/report
	@echo "Look at demo/val_talk.mp4, demo/val_talk.png and demo/report/report.html"

check: $(READY)
	$(BIN)/ruff check .
	$(MAKE) test

bench: $(READY)
	$(BIN)/python benchmarks/run.py

pictures: demo
	$(BIN)/python docs/pictures.py demo/actor

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; give it as: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --retries 1 --extra-index-url "$(TORCH_INDEX)" -c requirements-dev.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv-bpy/%/ready: requirements-bpy.txt requirements-dev.txt | $(READY)
	test -x .venv-bpy/$*/bin/python || $(BIN)/python -m venv .venv-bpy/$*
	.venv-bpy/$*/bin/python -m pip install --quiet -r requirements-bpy.txt -c requirements-dev.txt "bpy==$(BPY_$*)"
	touch $@
