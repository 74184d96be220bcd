# make run       the gateway, with a Mosquitto of its own (CONFIG=file.toml for yours)
# make test      everything that must hold: style, types, layers, tests
# make check     the fast part of it: style, types, layers, unit tests
# make bench     side by side with nginx, HAProxy and bare Mosquitto (ARGS="--rounds 9")
# make sanitize  the compiled modules under ASan and UBSan (part of make test)
# make fuzz      every parser against a fuzzer (SECONDS=60 each)
# make soak      what takes minutes: the plugin in other Mosquittos, kill -9, limits under attack and reload, memory
# make screenshots  the pictures of the documentation, measured anew (docs/images)
# make clean     remove what was built

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml meson.build $(shell find src plugin -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' -o -name '*.toml' -o -name meson.build)
SECONDS ?= 60

.PHONY: help run test check sanitize bench fuzz soak screenshots clean

help:
	@sed -n 's/^# //p' Makefile | head -9

# What a fresh machine lacks is installed through apt where that is allowed, else named with its command.
.venv/.tools: pyproject.toml tools/need
	@tools/need gcc:gcc libc:libc6-dev $(PYTHON):python3 pydev:python3-dev venv:python3-venv
	@# Without Mosquitto's headers the plugin is left out, and the build says so.
	@tools/need --soft plugin-headers:mosquitto-dev mosquitto-headers:libmosquitto-dev
	@echo "tidegate: making .venv and fetching the build's tools ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'meson-python>=0.17' 'meson>=1.3' ninja 'cython>=3.1'
	@touch $@

.venv/.built: .venv/.tools $(SOURCES)
	@echo "tidegate: compiling and installing into .venv (a minute the first time) ..."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --verbose --disable-pip-version-check \
		--no-build-isolation --config-settings build-dir=build . > .venv/build.log 2>&1 & \
	pid=$$!; while kill -0 $$pid 2>/dev/null; do printf .; sleep 1; done; echo; \
	wait $$pid || { grep -E -B2 -A12 'rror' .venv/build.log | tail -n 60; echo "tidegate: the build failed; all of it is in .venv/build.log" >&2; exit 1; }
	@grep -h -o 'WARNING: no mosquitto.*' .venv/build.log | sed 's/^WARNING/tidegate/' | sort -u || true
	@touch $@

.venv/.dev: .venv/.built
	@echo "tidegate: fetching what the tests need ..."
	@$(BIN)/python tools/extras.py dev | xargs -d '\n' $(BIN)/python -m pip install --quiet --disable-pip-version-check
	@touch $@

node_modules/.installed: package.json
	@tools/need node:nodejs npm:npm
	@echo "tidegate: fetching MQTT.js for the tests ..."
	@npm install --no-audit --no-fund --silent
	@touch $@

run: .venv/.built
	@tools/need --soft mosquitto:mosquitto
	@exec $(BIN)/tidegate serve $(if $(CONFIG),-c $(CONFIG))

check: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2 tests/unit

# The compiled modules once more, with AddressSanitizer and UndefinedBehaviorSanitizer, under the tests of all that
# reads bytes from the network. Python's own allocator would hide what they look for, hence PYTHONMALLOC.
SANITIZED := build-sanitized/root$(CURDIR)/.venv/lib
sanitize: .venv/.dev
	@echo "tidegate: compiling with sanitizers ..."
	@export PATH="$(CURDIR)/$(BIN):$$PATH"; \
	test -e build-sanitized/build.ninja || meson setup build-sanitized --buildtype plain -Dc_args='-O0 -g1' \
		-Db_sanitize=address,undefined -Db_lundef=false -Dpython.install_env=venv > /dev/null; \
	ninja -C build-sanitized --quiet; \
	DESTDIR="$(CURDIR)/build-sanitized/root" meson install -C build-sanitized --quiet > /dev/null
	@LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		PYTHONPATH="$$(echo $(SANITIZED)/python*/site-packages)" \
		$(BIN)/python -m pytest -q -n 2 -p no:cacheprovider --no-header tests/unit/mqtt tests/unit/engine tests/unit/gateway/test_connection*.py \
		tests/unit/gateway/test_hold.py tests/unit/gateway/test_relay.py tests/property

test: .venv/.dev node_modules/.installed
	@tools/need mosquitto:mosquitto mosquitto_pub:mosquitto-clients openssl:openssl
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory sanitize
	@# More than cores: tests of live servers wait half of the time.
	@$(BIN)/pytest -q -n 3 tests

bench: .venv/.dev
	@tools/need mosquitto:mosquitto haproxy:haproxy nginx:nginx nginx-stream:libnginx-mod-stream
	@$(BIN)/python -m benchmarks.compare $(ARGS)

fuzz: .venv/.dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3'
	@echo "tidegate: the sources, with coverage to guide the fuzzer ..."
	@PYTHONPATH=src $(BIN)/python fuzz/fuzz_mqtt.py -max_total_time=$(SECONDS)
	@echo "tidegate: the compiled modules, blindly ..."
	@$(BIN)/python fuzz/fuzz_mqtt.py -max_total_time=$(SECONDS)

PLUGIN_TESTS := $(wildcard tests/integration/test_plugin_*.py)
soak: .venv/.dev
	@tools/need mosquitto:mosquitto haproxy:haproxy
	@# In the Mosquitto that is installed, make test has tested the plugin.
	@brokers=$$($(BIN)/python tools/brokers.py); for broker in $$brokers; do \
		TIDEGATE_TEST_MOSQUITTO=$$broker $(BIN)/pytest -q -n 2 $(PLUGIN_TESTS); \
		$(BIN)/python -m benchmarks.plugin budget shared reload memory --mosquitto $$broker; done
	@$(BIN)/python -m benchmarks.kill
	@$(BIN)/python -m benchmarks.kill --limits drop
	@$(BIN)/python -m benchmarks.kill --limits reject --protocol 5
	@$(BIN)/python -m benchmarks.kill --limits delay
	@$(BIN)/python -m benchmarks.rates
	@$(BIN)/python -m benchmarks.shaping
	@$(BIN)/python -m benchmarks.flood
	@$(BIN)/python -m benchmarks.connections
	@$(BIN)/python -m benchmarks.subscribers
	@$(BIN)/python -m benchmarks.reload
	@$(BIN)/python -m benchmarks.keys --seconds 20 --engine-clients 2000000
	@$(BIN)/python -m benchmarks.memory
	@$(BIN)/python -m benchmarks.big_packets
	@$(BIN)/python -m benchmarks.plugin

screenshots: .venv/.built
	@tools/need mosquitto:mosquitto
	@$(BIN)/python tools/screenshots.py

clean:
	rm -rf .venv .brokers build build-sanitized node_modules
