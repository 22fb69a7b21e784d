# make demo    set up, train on a made-up actor, solve a shot that nobody trained on, show the error (under 8 minutes)
# make test    set up and run the tests
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

.PHONY: demo test check bench pictures clean

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

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
	$(BIN)/python -m pytest -m "not slow"

bench: $(READY)
	$(BIN)/python benchmarks/run.py

pictures: demo
	$(BIN)/python docs/pictures.py demo/actor

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found; give it as: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --retries 1 --extra-index-url "$(TORCH_INDEX)" -c requirements-dev.txt "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
