# make figures: set up and regenerate all figures.   make test: set up and pass the tests.
# make docs: set up and build the pages of theory_notes/.
PYTHON ?= python3
VENV := .venv
CORE := $(VENV)/.core
READY := $(VENV)/.ready
COMPILED := $(VENV)/.compiled

.PHONY: figures docs test coverage installed versions check lint bench faults clean

figures: $(READY) $(COMPILED)
	$(VENV)/bin/vitdyn figures --out figures --results results $(FIGURES)

test: $(READY) $(COMPILED)
	$(NICE) $(VENV)/bin/python -m pytest -n 2 --dist loadgroup

# to count lines takes as long again as the tests
coverage: $(READY) $(COMPILED)
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered --cov-fail-under=95

# with the pictures of the figures that are there; where figures are asked for as well, when they are drawn
docs: $(READY) $(COMPILED) | $(filter figures,$(MAKECMDGOALS))
	rm -rf theory_notes/_build
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m sphinx -W --keep-going -q theory_notes theory_notes/_build/html
	@echo "pages    theory_notes/_build/html/index.html"

# wheel and sdist, used from an empty folder without extras
installed: $(READY)
	$(NICE) $(VENV)/bin/python tests/installed.py

# oldest and newest versions of what vitdyn needs, under every Python here; needs uv, gigabytes and half an hour
versions:
	$(PYTHON) tests/versions.py $(VERSIONS)

check: $(READY)
	$(VENV)/bin/vitdyn check --results results

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/ruff check --select D1 --ignore D105,D107 vitdyn sims

# one thread each; the allocator keeps freed pages, or the large contenders would make the small ones pay for page faults
bench: $(READY)
	$(VENV)/bin/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev,bench]'
	OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864 \
		$(VENV)/bin/python -m pytest tests/benchmarks --benchmark-only --benchmark-disable-gc -p no:xdist
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/benchmarks/cost_table.py

# a sweep whose workers, scheduler, disk and client are lost, against one that nothing disturbs; ten minutes on idle cores
faults: $(COMPILED)
	$(VENV)/bin/python tests/faults/faults.py
	$(VENV)/bin/python tests/faults/overhead.py

# without bytecode of all that is installed: it takes longer than the rest, and what is imported is compiled then
$(CORE): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile -c constraints.txt -e .
	touch $(CORE)

# what kernels need not, while they compile; the package itself stays where it is
$(READY): $(CORE)
	$(VENV)/bin/python -m pip install --quiet --no-compile -c constraints.txt 'vitdyn[dev]'
	touch $(READY)

$(COMPILED): $(CORE) tests/compile_kernels.py $(wildcard vitdyn/data/*.py vitdyn/kernels/cpu/*.py vitdyn/observables/*.py)
	$(VENV)/bin/python tests/compile_kernels.py
	touch $(COMPILED)

clean:
	rm -rf $(VENV) figures results theory_notes/_build
