# Runs in the environment that is active; CONTRIBUTING.md says how to make one.
.PHONY: test fast faults lint types bench gpu
DEVICE ?= cuda
PHOTOS ?= examples/photos
CASES ?= 50

test:  # everything
	python -m pytest

fast:  # all but the slow tests, a core for each of two processes
	OMP_NUM_THREADS=1 python -m pytest -m "not slow" -n 2

faults:  # kills, full disks, damaged and made-up files: CASES times as many as `make test` tries, for a night
	GROUNDCLI_FAULTS=1 GROUNDCLI_CASES=$(CASES) python -m pytest tests/faults -s

lint:
	ruff check .
	ruff format --check .

types:
	mypy

bench:  # what annotate takes on a folder, over the bare forward of the backbone: make bench PHOTOS=FOLDER
	python benchmarks/annotate.py $(PHOTOS)

gpu:  # all that is worth knowing of a GPU before it is trusted with work: make gpu [PHOTOS=FOLDER] [DEVICE=cuda:1]
	python benchmarks/gpu.py $(PHOTOS) --device $(DEVICE)
