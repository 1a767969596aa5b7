"""`tui-chat list`: models and trainings of this machine, and what the filters leave."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.trained import make_checkpoint
from tui_chat.checkpoints.facts import FACTS
from tui_chat.checkpoints.runs import LOCK, Run, list_runs, trainings_dir
from tui_chat.cli.program import run
from tui_chat.display.figures import size
from tui_chat.models.resolve import builtin_path

NUMBER_OR_NULL = {"type": ["number", "null"]}
TEXT_OR_NULL = {"type": ["string", "null"]}

MODEL = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "spec", "origin", "path", "size_bytes", "architecture", "quantization"],
    "properties": {
        "name": {"type": "string"},
        "spec": {"type": "string"},
        "origin": {"type": "string"},
        "path": {"type": "string"},
        "size_bytes": {"type": "integer", "minimum": 0},
        "architecture": TEXT_OR_NULL,
        "quantization": TEXT_OR_NULL,
        "n_parameters": {"type": ["integer", "null"]},
        "step": {"type": ["integer", "null"]},
        "loss": NUMBER_OR_NULL,
        "problem": TEXT_OR_NULL,
    },
}

CHECKPOINT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["spec", "path", "size_bytes", "step", "loss", "perplexity", "best", "latest", "created"],
    "properties": {
        "spec": {"type": "string"},
        "path": {"type": "string"},
        "size_bytes": {"type": "integer", "minimum": 1},
        "quantization": {"const": "F32"},
        "architecture": {"enum": ["llama", "gpt2"]},
        "n_parameters": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["text", "chat"]},
        "step": {"type": "integer", "minimum": 0},
        "n_steps": {"type": "integer", "minimum": 0},
        "n_tokens": {"type": "integer", "minimum": 0},
        "loss": NUMBER_OR_NULL,
        "train_loss": NUMBER_OR_NULL,
        "validation_loss": NUMBER_OR_NULL,
        "perplexity": NUMBER_OR_NULL,
        "created": {"type": "string"},
        "best": {"type": "boolean"},
        "latest": {"type": "boolean"},
        "metadata": {
            "type": "object",
            "required": ["corpus", "corpus_sha256", "seed", "seconds", "tokens_per_s", "row_lengths"],
        },
    },
}

LIST = {
    "type": "object",
    "additionalProperties": False,
    "required": ["models", "trainings"],
    "properties": {
        "models": {"type": "array", "items": MODEL},
        "trainings": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "path", "running", "problem", "checkpoints"],
                "properties": {
                    "name": {"type": "string"},
                    "path": {"type": "string"},
                    "running": {"type": "boolean"},
                    "problem": TEXT_OR_NULL,
                    "checkpoints": {"type": "array", "items": CHECKPOINT},
                },
            },
        },
    },
}


@pytest.fixture
def trained() -> None:
    """Two runs: "harbour" with three checkpoints, then "two words" with one that is newer and worse."""
    make_checkpoint("harbour", 100, loss=3.5)
    make_checkpoint("harbour", 200, loss=2.25, settings={"batch": 8, "learning_rate": 0.5})
    make_checkpoint("harbour", 300, loss=2.5)
    make_checkpoint("two words", 50, loss=4.0, saved_s=900)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["list", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document: dict[str, Any] = json.loads(out)
    jsonschema.validate(document, LIST)
    return document


def specs(document: dict[str, Any]) -> list[str]:
    return [entry["spec"] for training in document["trainings"] for entry in training["checkpoints"]]


@pytest.mark.usefixtures("trained")
class TestTrainings:
    def test_everything_is_there_oldest_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = listed(capsys)
        assert specs(document) == [
            "harbour/step-000100",
            "harbour/step-000200",
            "harbour/step-000300",
            "two words/step-000050",
        ]
        first = document["trainings"][0]["checkpoints"]
        assert [entry["best"] for entry in first] == [False, True, False]
        assert [entry["latest"] for entry in first] == [False, False, True]
        assert first[1]["perplexity"] == pytest.approx(9.4877, abs=1e-3)
        assert "metadata" not in first[0]

    @pytest.mark.parametrize(
        ("arguments", "left"),
        [
            (("--max-loss", "2.5"), ["harbour/step-000200", "harbour/step-000300"]),
            (("--min-step", "200"), ["harbour/step-000200", "harbour/step-000300"]),
            (("--search", "WORDS two"), ["two words/step-000050"]),
            (("--search", "gpt2"), []),
            (("--best",), ["harbour/step-000200"]),
            (("--latest",), ["two words/step-000050"]),
            (("--best", "--latest"), ["harbour/step-000200", "two words/step-000050"]),
            (("--latest", "--min-step", "100"), ["harbour/step-000300"]),
            (("--best", "--min-step", "201"), ["harbour/step-000300"]),
            (("--max-loss", "1"), []),
        ],
    )
    def test_filters(self, arguments: tuple[str, ...], left: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert specs(listed(capsys, *arguments)) == left

    def test_metadata_says_how_it_was_trained(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = listed(capsys, "--metadata", "--best")
        metadata = document["trainings"][0]["checkpoints"][0]["metadata"]
        assert metadata["corpus"] == "texts/harbour.txt"
        assert metadata["seed"] == 7
        assert metadata["batch"] == 8
        assert (metadata["learning_rate"], metadata["highest_learning_rate"]) == (1e-3, 0.5)
        assert run(["list", "--metadata", "--best"]) == 0
        assert "corpus_sha256          abab" in capsys.readouterr().out

    def test_the_table_for_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "models"
        assert lines[1].split()[:4] == ["builtin", *size(builtin_path().stat().st_size).split(), "Q8_0"]
        (row,) = [line for line in lines if "step-000200" in line]
        assert "step 200" in row and "loss 2.250" in row and "perplexity 9.5" in row and row.endswith("best")

    def test_every_line_fits_a_narrow_terminal(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = {"shape": {"arch": "llama", "width": 32}, "note": "words " * 20, "sample_prompts": ["One, two"]}
        make_checkpoint("a name of thirty characters yes", 1500, loss=4.0, settings=settings)
        monkeypatch.setattr("tui_chat.cli.listing.terminal_width", lambda: 80)
        assert run(["list", "--metadata"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line) > 80 and " in /" not in line] == []
        place = next(number for number, line in enumerate(lines) if line.startswith("  a name of"))
        assert lines[place].endswith("loss 4.000")
        assert lines[place + 1] == " " * 47 + "perplexity 54.6  best, latest"
        assert "    shape                  arch llama · width 32" in lines
        assert '    sample_prompts         "One, two"' in lines
        assert "    seconds                12 min 30 s" in lines
        assert any(line.startswith(" " * 27 + "words words") for line in lines)

    def test_a_damaged_checkpoint_is_named_and_the_others_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        (trainings_dir() / "harbour" / "step-000200" / FACTS).write_text("{")
        document = listed(capsys)
        assert "step-000200" in document["trainings"][0]["problem"]
        assert specs(document)[:2] == ["harbour/step-000100", "harbour/step-000300"]
        assert run(["list"]) == 0
        assert "  ! " in capsys.readouterr().out

    def test_a_checkpoint_that_a_training_removes_meanwhile(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def pruned() -> tuple[Run, ...]:
            found = list_runs()
            shutil.rmtree(trainings_dir() / "harbour" / "step-000300")
            return found

        monkeypatch.setattr("tui_chat.checkpoints.runs.list_runs", pruned)
        assert specs(listed(capsys, "--latest")) == ["two words/step-000050"]

    def test_a_running_training_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        with (trainings_dir() / "harbour" / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert [training["running"] for training in listed(capsys)["trainings"]] == [True, False]
            assert run(["list"]) == 0
            assert "harbour  training now, in " in capsys.readouterr().out


class TestModels:
    def test_the_built_in_one_is_always_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        document = listed(capsys)
        (model,) = document["models"]
        assert model["path"] == str(builtin_path())
        assert (model["architecture"], model["quantization"]) == ("qwen3", "Q8_0")
        assert model["n_parameters"] > 3_000_000
        assert document["trainings"] == []

    def test_an_exported_checkpoint_tells_step_and_loss(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        make_checkpoint("harbour", 200, loss=2.25)
        (home / "data" / "models").mkdir(parents=True)
        assert run(["export", "harbour", "--out", str(home / "data" / "models")]) == 0
        capsys.readouterr()
        shutil.rmtree(trainings_dir())
        # The built-in model was trained too, further and to a lower loss.
        filters = ("--search", "harbour", "--max-loss", "2.3", "--min-step")
        (model,) = listed(capsys, *filters, "200")["models"]
        assert (model["name"], model["step"], model["loss"]) == ("harbour-q8_0", 200, 2.25)
        assert listed(capsys, *filters, "201")["models"] == []

    def test_a_file_that_cannot_be_read_is_listed_with_its_problem(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place = home / "data" / "models"
        place.mkdir(parents=True)
        (place / "broken.gguf").write_bytes(b"GGUF")
        broken = next(model for model in listed(capsys)["models"] if model["name"] == "broken")
        assert broken["architecture"] is None
        assert "broken.gguf" in broken["problem"]
        assert run(["list"]) == 0
        assert "cannot be read: " in capsys.readouterr().out

    def test_before_the_first_training_it_says_how_to_begin(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["list"]) == 0
        assert capsys.readouterr().out.endswith("nothing was trained here yet: tui-chat train --preset demo\n")
