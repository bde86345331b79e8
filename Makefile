# Each target does its own set-up. `make demo` shows the main job; `make test` runs everything that CI runs.
.PHONY: demo test lookalikes false-proofs lint bench install deb lock clean
.DEFAULT_GOAL := demo

demo:
	@packaging/setup run
	@.venv/bin/epoll-watchdog demo $(ARGS)

test: lint
	.venv/bin/pytest $(ARGS)

# Each look-alike condition REPEAT times; BUSY=1 keeps every core busy meanwhile.
lookalikes:
	@packaging/setup test
	REPEAT=$(or $(REPEAT),1) BUSY=$(BUSY) .venv/bin/pytest tests/lookalikes/test_lookalikes.py $(ARGS)

# How often a healthy program under load is proven to have lost a wake-up: never, in 10,000 readings.
false-proofs:
	@packaging/setup test
	.venv/bin/python -m tests.lookalikes.false_proofs $(ARGS)

lint:
	@packaging/setup test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench:
	@packaging/setup bench
	.venv/bin/python -m bench $(ARGS)

# The whole tree below DESTDIR, or into this system.
install:
	@packaging/setup deb
	@packaging/install "$(DESTDIR)"

# dist/epoll-watchdog_VERSION-REVISION_ARCH.deb, for the Debian that this machine runs.
deb:
	@packaging/setup deb
	@packaging/deb $(ARGS)

# The lock files, made anew from the ranges in pyproject.toml.
lock:
	@packaging/setup run
	.tools/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml -o requirements.lock
	.tools/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv .tools .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
