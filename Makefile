# Runs in the environment that is active; CONTRIBUTING.md says how to make one.
.PHONY: test fast lint types bench
PHOTOS ?= examples/photos

test:  # everything
	python -m pytest

fast:  # all but the slow tests
	python -m pytest -m "not slow"

lint:
	ruff check .
	ruff format --check .

types:
	mypy

bench:  # what annotate takes on a folder, over the bare forward of the backbone: make bench PHOTOS=FOLDER
	python benchmarks/annotate.py $(PHOTOS)
