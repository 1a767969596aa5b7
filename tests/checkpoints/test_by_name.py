"""A training or a checkpoint wherever a model is named: `--model`, settings, `/model` in the app."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from tests.checkpoints.made import make_checkpoint, write_record
from tui_chat.checkpoints.facts import FACTS, WEIGHTS
from tui_chat.checkpoints.runs import trainings_dir
from tui_chat.cli.inference import find_model
from tui_chat.cli.program import run
from tui_chat.config import LoadedSettings, Settings
from tui_chat.engine.gguf import read_header
from tui_chat.errors import ModelFileError, ModelNotFoundError, UsageError
from tui_chat.models.resolve import file_of, parse_spec, spec_from_settings
from tui_chat.ui.downloads import Downloader
from tui_chat.ui.news import DownloadEnded, DownloadFailed, News


@pytest.fixture(autouse=True)
def runs() -> Path:
    for step, loss in ((250, 2.0), (500, 2.5)):
        make_checkpoint(trainings_dir() / "my demo" / f"step-{step:06d}", step=step, validation_loss=loss)
    return trainings_dir()


@pytest.mark.parametrize(
    ("text", "step"),
    [("latest", 500), ("best", 250), ("my demo", 500), ("my demo/best", 250), ("my demo/step-250", 250)],
)
def test_names(text: str, step: int) -> None:
    spec = parse_spec(text)
    assert spec.kind == "checkpoint"
    assert spec.label == f"my demo/step-{step}"
    assert parse_spec(str(spec)) == spec
    header = read_header(file_of(spec))
    assert header.text("general.name") == "my demo"
    assert header.integer("training.step") == step


def test_folders(runs: Path) -> None:
    folder = runs / "my demo"
    assert parse_spec(str(folder)).label == "my demo/step-500"
    assert parse_spec(str(folder / "step-000250")).label == "my demo/step-250"
    assert spec_from_settings(path=folder / "step-000250").label == "my demo/step-250"
    assert spec_from_settings(path=folder).label == "my demo/step-500"


def test_what_was_there_before_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my demo"
    file.touch()
    monkeypatch.chdir(tmp_path)
    assert parse_spec("my demo").kind == "path"
    assert parse_spec("builtin").kind == "builtin"
    assert parse_spec("owner/name:file.gguf").kind == "hub"
    with pytest.raises(ModelNotFoundError, match="is a directory"):
        parse_spec(str(tmp_path))


def test_near_names() -> None:
    with pytest.raises(ModelNotFoundError, match="near it: my demo"):
        parse_spec("my demmo")
    with pytest.raises(ModelNotFoundError, match="250, 500"):
        parse_spec("my demo/9")


def test_a_damaged_checkpoint_is_named(runs: Path) -> None:
    (runs / "my demo" / "step-000500" / FACTS).write_text("{")
    with pytest.raises(UsageError, match="step-000500"):
        parse_spec("my demo/500")
    assert parse_spec("my demo").label == "my demo/step-250"


def test_a_command_finds_it() -> None:
    loaded = LoadedSettings(Settings(), {}, None)
    path = find_model(loaded, "best")
    assert read_header(path).integer("training.step") == 250


def test_generate(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "the", "--model", "my demo/best", "--json", "--max-tokens", "3", "--ignore-eos"]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "my demo"
    assert len(document["ids"]) == 3


def test_generate_says_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "the", "--model", "my demmo"]) == 1
    said = capsys.readouterr()
    assert "near it: my demo" in said.err and not said.out
    assert "Traceback" not in said.err


def in_app(text: str, spoil: Callable[[], None] = lambda: None) -> News:
    """What the session hears when `/model` fetches a specification."""
    arrived, heard = Event(), list[News]()

    def report(news: News) -> None:
        heard.append(news)
        arrived.set()

    spec = parse_spec(text)
    spoil()
    Downloader(report).fetch(spec)
    assert arrived.wait(60), "no news came"
    return heard[0]


def test_the_app_makes_the_file_beside_the_screen() -> None:
    news = in_app("my demo/best")
    assert isinstance(news, DownloadEnded)
    assert read_header(news.path).integer("training.step") == 250


def test_the_app_hears_of_a_checkpoint_that_went_away(runs: Path) -> None:
    news = in_app("my demo", lambda: shutil.rmtree(runs / "my demo"))
    assert isinstance(news, DownloadFailed)
    assert isinstance(news.error, ModelNotFoundError)


def test_the_app_hears_of_damaged_weights(runs: Path) -> None:
    news = in_app("my demo", lambda: write_damaged(runs / "my demo" / "step-000500"))
    assert isinstance(news, DownloadFailed)
    assert isinstance(news.error, ModelFileError)


def write_damaged(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).write_bytes(b"damaged")


def test_a_run_that_saved_nothing_yet(runs: Path) -> None:
    write_record(runs / "young", [])
    with pytest.raises(ModelNotFoundError, match="no checkpoint yet"):
        parse_spec("young")
