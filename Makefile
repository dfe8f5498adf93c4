# Runs in the environment that is active; CONTRIBUTING.md says how to make one.
.PHONY: test fast faults lint types bench
PHOTOS ?= examples/photos
CASES ?= 50

test:  # everything
	python -m pytest

fast:  # all but the slow tests
	python -m pytest -m "not slow"

faults:  # kills, full disks, damaged and made-up files: CASES times as many as `make test` tries, for a night
	GROUNDCLI_FAULTS=1 GROUNDCLI_CASES=$(CASES) python -m pytest tests/faults -s

lint:
	ruff check .
	ruff format --check .

types:
	mypy

bench:  # what annotate takes on a folder, over the bare forward of the backbone: make bench PHOTOS=FOLDER
	python benchmarks/annotate.py $(PHOTOS)
