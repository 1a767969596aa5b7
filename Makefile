# `make chat` starts the program from a fresh clone, `make test` runs every check. `make help` lists the rest.

PYTHON ?= python3
EXTRAS ?= dev train
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
SETUP := $(PYTHON) .ci/setup_venv.py

.DEFAULT_GOAL := help
.PHONY: help chat setup setup-dev test check lint format types unit messages picture pocket pocket-eval clean python
.PHONY: tokens logits haiku llm-inference

help:
	@echo "make chat     set everything up and start the chat      ARGS=\"--model model.gguf\""
	@echo "make tokens   what a text is to the model               ARGS='\"any text\"'"
	@echo "make logits   what the model would say next, how surely ARGS='\"The sky is\" -n 10'"
	@echo "make haiku    one prompt at four temperatures           ARGS=rain"
	@echo "make llm-inference  the whole pipeline, stage by stage  ARGS='\"What is a token?\"'"
	@echo "make test     lint, format, types and all tests         EXTRAS=dev leaves PyTorch out"
	@echo "make unit     the tests alone                           ARGS=\"tests/engine -k rewind\""
	@echo "make lint     ruff's rules and its format, checked"
	@echo "make format   the same, applied"
	@echo "make types    mypy, strict"
	@echo "make messages  gather the texts to translate, and compile tui_chat/locale"
	@echo "make picture  take the pictures in the README anew"
	@echo "make pocket   train the built-in model anew: over an hour on two cores   ARGS=--resume goes on"
	@echo "make pocket-eval  ask the built-in model what it was never trained on   ARGS=--json"
	@echo "make clean    remove caches and built packages"
	@echo
	@echo "PYTHON=python3.12 chooses the Python (3.11 or newer) for $(VENV);"
	@echo "CMAKE_ARGS=-DGGML_CUDA=on (GGML_METAL, GGML_VULKAN, GGML_HIP) how llama.cpp is built."

chat: setup
	@$(BIN)/tui-chat $(ARGS)

tokens logits haiku: setup
	@$(BIN)/tui-chat $@ $(ARGS)

llm-inference: setup
	@$(BIN)/tui-chat explain $(ARGS)

setup: python
	@$(SETUP)

setup-dev: python
	@$(SETUP) $(EXTRAS)

test: check
	$(BIN)/pytest -n 2 $(ARGS)

check: lint types

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

unit: setup-dev
	$(BIN)/pytest $(ARGS)

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

messages: setup-dev
	mkdir -p build
	$(BIN)/pybabel -q extract --mapping-file pyproject.toml --keyword n_:1,2 --project tui-chat --add-location file \
	  --sort-by-file --width 110 --output-file build/messages.pot tui_chat
	$(BIN)/pybabel -q update --domain tui_chat --input-file build/messages.pot --output-dir tui_chat/locale \
	  --width 110 --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date
	$(BIN)/pybabel -q compile --domain tui_chat --directory tui_chat/locale

picture: setup-dev
	$(BIN)/python -m tests.picture docs

pocket: setup-dev
	$(BIN)/tui-chat train builtin --preset pocket --out build/pocket $(ARGS)
	$(BIN)/python -m tests.pocket ship build/pocket

pocket-eval: setup-dev
	$(BIN)/python -m tests.pocket eval $(ARGS)

clean:
	rm -rf dist .hypothesis .mypy_cache .pytest_cache .ruff_cache snapshot_report.html
	find tui_chat tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@command -v $(PYTHON) >/dev/null 2>&1 \
	  || { echo "no $(PYTHON) was found: install Python 3.11 or newer, or name one: make chat PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "tui-chat needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version 2>&1`: make chat PYTHON=python3.12" >&2; exit 1; }
