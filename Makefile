# Two commands set everything up on Debian 12, Ubuntu 24.04 or later, as root or with sudo:
#
#   make run    install what mird needs, then listen to the microphone, or to the demonstration recording without one
#   make test   install what the tests need too, then run all of them
#
# And make screenshots takes the README's pictures anew, and make gpu-check runs all that needs an NVIDIA GPU.
#
# What is there already is left as it is. PYTHON names the interpreter to use, PYTEST_ARGS is handed to pytest.

.PHONY: run test screenshots gpu-check

BIN := .venv/bin
SET_UP := .ci/set-up setup.py pyproject.toml .ci/constraints.txt clients/examples/javascript/package.json

run: .venv/ready-to-run
	@$(BIN)/mird run --or-demo

test: .venv/ready-to-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@.ci/run-tests $(PYTEST_ARGS)

screenshots: .venv/ready-to-test
	$(BIN)/python tests/screenshots/take.py

# Installs nothing: it is for machines without a network, too.
gpu-check:
	@PYTHONPATH=.typing $(or $(wildcard $(BIN)/python),$(PYTHON),python3) tests/benchmarks/gpu_check.py

.venv/ready-to-%: $(SET_UP)
	@PYTHON="$(PYTHON)" .ci/set-up $*
	@touch $@
