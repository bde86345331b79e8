# Each target does its own set-up. `make demo` shows the main job; `make test` runs everything that CI runs.
.PHONY: demo test outbox lookalikes false-proofs lab drills lint bench install deb screenshots lock clean
.DEFAULT_GOAL := demo

demo:
	@packaging/setup run
	@.venv/bin/epoll-watchdog demo $(ARGS)

# What measures time, or looks at all processes of the host, has the machine to itself; the rest runs on two cores.
ALONE = tests/bench tests/demo tests/evidence tests/helper tests/lookalikes tests/page/test_how_fast.py tests/target \
	tests/test_hands.py tests/test_heart.py tests/test_stacks.py

test: lint
ifdef ARGS
	.venv/bin/pytest $(ARGS)
else
	@.venv/bin/python -m tests.kernel_lab.kernel  # minutes of both cores, which no test is to be measured beside
	@failed=0; export FAILURES=$(CURDIR)/.cache/failures; rm -f "$$FAILURES"; \
	.venv/bin/pytest -n 2 $(ALONE:%=--ignore=%) || failed=1; \
	.venv/bin/pytest $(ALONE) || failed=1; \
	cat "$$FAILURES"; \
	exit $$failed
endif

# 10,000 alerts through three channels, one of them down for half the time, and 50 SIGKILLs.
outbox:
	@packaging/setup test
	OUTBOX_EVENTS=10000 OUTBOX_KILLS=50 .venv/bin/pytest -s tests/alerts/test_outbox.py $(ARGS)

# Each look-alike condition REPEAT times; BUSY=1 keeps every core busy meanwhile.
lookalikes:
	@packaging/setup test
	REPEAT=$(or $(REPEAT),1) BUSY=$(BUSY) .venv/bin/pytest tests/lookalikes/test_lookalikes.py $(ARGS)

# How often a healthy program under load is proven to have lost a wake-up: never, in 10,000 readings.
false-proofs:
	@packaging/setup test
	.venv/bin/python -m tests.lookalikes.false_proofs $(ARGS)

# The kernel that loses wake-ups (docs/kernel-lab.md): each of five programs loses LAB_LOSSES of them beside the daemon,
# and as many without it, each of which stays for LAB_DARK seconds. Half an hour, with these numbers.
lab:
	@packaging/setup test
	@.venv/bin/python -m tests.kernel_lab.kernel
	LAB_LOSSES=$(or $(LAB_LOSSES),20) LAB_DARK=$(or $(LAB_DARK),60) .venv/bin/pytest -n 2 tests/kernel_lab $(ARGS)

# The drill on nginx, redis, haproxy, node, asyncio and Java NIO under load, DRILLS times each.
drills:
	@packaging/setup test
	DRILLS=$(or $(DRILLS),20) .venv/bin/pytest tests/drills $(ARGS)

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

# The pictures of the status page in docs/img.
screenshots:
	@packaging/setup test
	.venv/bin/python -m tests.page.screenshots

# The lock files, made anew from the ranges in pyproject.toml.
lock:
	@packaging/setup run
	.tools/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml -o requirements.lock
	.tools/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv .tools .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
