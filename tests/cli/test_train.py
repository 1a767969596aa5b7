"""`tui-chat train` and `tune`: what they ask of the loop, what they show of it, and how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from tests.cli.told import LINE, events_of, facts_of, progress
from tests.cli.trained import SHAPE, make_checkpoint
from tui_chat.checkpoints.facts import CheckpointFacts
from tui_chat.checkpoints.runs import trainings_dir
from tui_chat.checkpoints.shape import Architecture, Positions
from tui_chat.cli import training_session
from tui_chat.cli.program import run
from tui_chat.errors import CancelledError, StorageError, UsageError
from tui_chat.training.config import Compile, Device, LossOn, TrainConfig
from tui_chat.training.events import (
    Event,
    Failed,
    Progressed,
    Saved,
)
from tui_chat.training.presets import DEMO_TEXT, PRESETS

Loop = Callable[[TrainConfig, Callable[[Event], None]], CheckpointFacts]


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loop], list[TrainConfig]]:
    """Puts a function in the place of the training loop; gives the list of what it was asked to train."""

    def replace_with(train: Loop) -> list[TrainConfig]:
        asked: list[TrainConfig] = []

        def recorded(config: TrainConfig, on_event: Callable[[Event], None]) -> CheckpointFacts:
            asked.append(config)
            return train(config, on_event)

        module = ModuleType("tui_chat.training.train")
        module.train = recorded  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tui_chat.training.train", module)
        monkeypatch.setattr(training_session, "find_spec", lambda _: module)
        return asked

    return replace_with


@pytest.fixture
def asked(loop: Callable[[Loop], list[TrainConfig]]) -> list[TrainConfig]:
    """What a loop that finishes at once was asked to train."""

    def finish(config: TrainConfig, on_event: Callable[[Event], None]) -> CheckpointFacts:
        for event in events_of(config):
            on_event(event)
        return facts_of(config)

    return loop(finish)


def config_for(asked: list[TrainConfig], *arguments: str) -> TrainConfig:
    assert run(list(arguments)) == 0
    return asked[-1]


class TestSettings:
    """From the flags to a configuration."""

    def test_without_anything_it_is_the_demo(self, asked: list[TrainConfig]) -> None:
        config = config_for(asked, "train")
        assert config == replace(PRESETS["demo"].config, out=trainings_dir() / "demo", corpus=str(DEMO_TEXT))

    def test_flags_change_the_preset_and_only_what_they_name(self, asked: list[TrainConfig]) -> None:
        flags = (
            "--steps 7 --layers 3 --heads 2 --kv-heads 1 --ffn 96 --width 64 --vocab 300 --batch 4 --lr 0.01 --seed 9"
        )
        config = config_for(asked, "train", "--preset", "demo", *flags.split(), "--device", "CPU", "--dropout", "0.1")
        shape = config.shape
        assert (config.steps, config.batch, config.learning_rate, config.seed) == (7, 4, 0.01, 9)
        assert (shape.n_layers, shape.n_heads, shape.n_kv_heads) == (3, 2, 1)
        assert (shape.ffn_width, shape.width, shape.vocab_size) == (96, 64, 300)
        assert (config.device, config.dropout) == (Device.CPU, 0.1)
        assert config.length == PRESETS["demo"].config.length

    def test_context_sets_the_rows_too(self, asked: list[TrainConfig]) -> None:
        config = config_for(asked, "train", "--context", "48", "--compile", "off", "--betas", "0.8", "0.9")
        assert (config.length, config.shape.context, config.compile) == (48, 48, Compile.OFF)
        assert config.betas == (0.8, 0.9)

    def test_another_architecture_brings_its_own_positions(self, asked: list[TrainConfig]) -> None:
        shape = config_for(asked, "train", "--arch", "gpt2", "--untied").shape
        assert (shape.arch, shape.positions, shape.tied, shape.qk_norm) == (
            Architecture.GPT2,
            Positions.LEARNED,
            False,
            False,
        )
        assert config_for(asked, "train", "--arch", "gpt2", "--positions", "sinusoidal").shape.positions == "sinusoidal"

    def test_sample_prompts_add_up(self, asked: list[TrainConfig]) -> None:
        config = config_for(asked, "train", "--sample-prompt", "One", "--sample-prompt", "Two", "--sample-every", "5")
        assert (config.sample_prompts, config.sample_every) == (("One", "Two"), 5)

    @pytest.mark.parametrize(
        ("file", "preset"), [("my text.txt", "story"), ("talk.jsonl", "chat"), ("builtin", "pocket")]
    )
    def test_the_corpus_chooses_the_preset_and_the_name(
        self, file: str, preset: str, asked: list[TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my text.txt").write_text("text")
        (tmp_path / "talk.jsonl").write_text("{}")
        config = config_for(asked, "train", file)
        assert config.preset == preset
        assert config.out.name == {"builtin": "pocket"}.get(file, Path(file).stem)
        assert config.corpus == (file if file == "builtin" else str(tmp_path / file))

    def test_a_name_that_is_taken_gets_a_number(self, asked: list[TrainConfig]) -> None:
        make_checkpoint("demo", 10)
        assert config_for(asked, "train").out.name == "demo-2"

    @pytest.mark.parametrize("name", ["builtin", "step-5", "Best"])
    def test_a_corpus_whose_name_means_something_else_gets_a_number(
        self, name: str, asked: list[TrainConfig], tmp_path: Path
    ) -> None:
        (tmp_path / f"{name}.txt").write_text("text")
        assert config_for(asked, "train", str(tmp_path / f"{name}.txt")).out.name == f"{name}-1"

    def test_a_corpus_whose_name_looks_like_a_flag_or_is_long_gives_a_name_that_can_be_written(
        self, asked: list[TrainConfig], tmp_path: Path
    ) -> None:
        for name, called in (("-x", "x"), ("--", "model"), ("é" * 120, "é" * 100)):
            (tmp_path / f"{name}.txt").write_text("text")
            assert config_for(asked, "train", str(tmp_path / f"{name}.txt")).out.name == called

    def test_a_corpus_of_ones_own_has_prompts_of_its_own(self, asked: list[TrainConfig], tmp_path: Path) -> None:
        (tmp_path / "tale.txt").write_text("text")
        for preset in ("tiny", "demo", "pocket"):
            assert config_for(asked, "train", str(tmp_path / "tale.txt"), "--preset", preset).sample_prompts == ()
        assert config_for(asked, "train", str(DEMO_TEXT), "--preset", "tiny").sample_prompts
        given = config_for(asked, "train", str(tmp_path / "tale.txt"), "--preset", "tiny", "--sample-prompt", "Once")
        assert given.sample_prompts == ("Once",)

    def test_name_and_out_say_where(self, asked: list[TrainConfig], tmp_path: Path) -> None:
        assert config_for(asked, "train", "--name", "my run").out == trainings_dir() / "my run"
        assert config_for(asked, "train", "--out", str(tmp_path / "here")).out == tmp_path / "here"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--name", "a", "--out", "b"), "--name and --out both say"),
            (("--name", "best"), "cannot be called best"),
            (("--name", "Builtin"), "cannot be called Builtin"),
            (("--name", "step-5"), "cannot be called step-5"),
            (("--name", "latest "), "'latest ' cannot be the name"),
            (("--name", "a/b"), "'a/b' cannot be the name"),
            (("--name", ".."), "cannot be the name"),
            (("--name", "-x"), "'-x' cannot be the name"),
            (("--name", "ö" * 150), "a training's name has 200 bytes at most and this one has 300: use a shorter"),
            (("--out", "x" * 300), "cannot be a folder (File name too long): give another one with --out"),
            (("--out", "~nobody-here/x"), "give another one with --out"),
            (("--out", "/dev/null"), "/dev/null is a file: give a folder with --out"),
            (("--out", "/dev/null/t"), "/dev/null/t cannot be written: give another folder with --out"),
            (("--preset", "story"), "the preset story has no corpus of its own"),
            (("--preset", "dmo"), "invalid value for '--preset'"),
            (("--steps", "5", "--epochs", "2"), "give --steps or --epochs, not both"),
            (("--width", "100", "--heads", "3"), "width 100 is not divisible by 3 heads: try --width 102"),
            (("--width", "99", "--heads", "3"), "heads of width 33 cannot be turned by pairs: try --width 96"),
            (("--lr", "0"), "--lr is 0.0"),
            (("--steps", "many"), "invalid value for '--steps'"),
            (("--resume",), "there is no training to go on with"),
            (("--resume", "--name", "none"), "there is no checkpoint in"),
        ],
    )
    def test_wrong_use_is_one_line_and_exit_2(
        self,
        arguments: Sequence[str],
        said: str,
        asked: list[TrainConfig],
        home: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(["train", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and asked == []
        assert said in err and err.count("\n") == 1
        assert not home.exists()

    def test_a_folder_that_cannot_be_written_is_wrong_use(
        self,
        asked: list[TrainConfig],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        # Permissions mean nothing to the superuser, who may run the tests.
        monkeypatch.setattr("os.access", lambda path, mode: False)
        assert run(["train", "--out", str(tmp_path / "t")]) == 2
        assert "t cannot be written: give another folder with --out" in capsys.readouterr().err
        assert asked == []

    def test_under_torchrun_only_the_first_process_speaks(
        self, asked: list[TrainConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for rank, speaks in (("0", True), ("1", False)):
            monkeypatch.setenv("RANK", rank)
            for arguments in (["train"], ["train", "--json"]):
                assert run(arguments) == 0
                assert bool(capsys.readouterr().out) is speaks


class TestResuming:
    @pytest.fixture
    def begun(self) -> TrainConfig:
        """A run "harbour" of the preset demo that has come to step 100, and an older one of the preset tiny."""
        make_checkpoint("older", 50, settings=PRESETS["tiny"].configure(Path("x")).settings())
        config = PRESETS["demo"].configure(trainings_dir() / "harbour", seed=5, steps=900)
        make_checkpoint("harbour", 100, settings=config.settings())
        return config

    def test_the_newest_goes_on_with_its_own_settings(self, begun: TrainConfig, asked: list[TrainConfig]) -> None:
        assert config_for(asked, "train", "--resume") == replace(begun, resume=True)

    def test_flags_still_count(self, begun: TrainConfig, asked: list[TrainConfig]) -> None:
        config = config_for(asked, "train", "--resume", "--name", "harbour", "--epochs", "3", "--lr", "0.5")
        assert config == replace(begun, resume=True, steps=None, epochs=3.0, learning_rate=0.5)

    def test_a_preset_or_a_corpus_chooses_among_the_runs(self, begun: TrainConfig, asked: list[TrainConfig]) -> None:
        assert config_for(asked, "train", "--resume", "--preset", "tiny").out.name == "older"
        assert config_for(asked, "train", str(DEMO_TEXT), "--resume").out.name == "harbour"

    def test_a_folder_elsewhere(self, begun: TrainConfig, asked: list[TrainConfig], tmp_path: Path) -> None:
        elsewhere = tmp_path / "moved"
        (trainings_dir() / "harbour").rename(elsewhere)
        assert config_for(asked, "train", "--resume", "--out", str(elsewhere)).out == elsewhere

    def test_what_has_no_match_is_wrong_use(
        self, begun: TrainConfig, asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["train", "--resume", "--preset", "pocket"]) == 2
        assert "no training with the preset pocket to go on with" in capsys.readouterr().err
        assert run(["train", "--resume", "--name", "harbuor"]) == 2
        assert "near it: harbour" in capsys.readouterr().err

    def test_what_is_near_is_only_told_of_a_name_that_is_not_there(
        self, begun: TrainConfig, asked: list[TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (trainings_dir() / "harbours").mkdir()
        for wrong in (("--name", "harbours"), ("--out", str(tmp_path / "harbuor"))):
            assert run(["train", "--resume", *wrong]) == 2
            err = capsys.readouterr().err
            assert "there is no checkpoint in" in err and "near it" not in err


class TestTuning:
    def test_it_begins_with_the_checkpoint(self, asked: list[TrainConfig]) -> None:
        facts = make_checkpoint("harbour", 100)
        config = config_for(asked, "tune", "harbour", "builtin", "--steps", "9", "--lr", "0.001")
        assert config.start_from == facts.path
        assert config.out == trainings_dir() / "harbour-tuned"
        assert (config.corpus, config.steps, config.epochs, config.learning_rate) == ("builtin", 9, None, 0.001)
        assert (config.loss_on, config.prompt_weight, config.shape) == (LossOn.ASSISTANT, 0.0, SHAPE)

    def test_plain_text_and_unknown_checkpoints_are_refused(
        self, asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_checkpoint("harbour", 100)
        assert run(["tune", "harbour", "text.txt"]) == 2
        assert "text.txt holds no conversations by its name" in capsys.readouterr().err
        assert run(["tune", "harbuor", "builtin"]) == 1
        assert "near it: harbour" in capsys.readouterr().err
        assert run(["tune", "harbour", "builtin", "--width", "64"]) == 2
        assert "no such option" in capsys.readouterr().err
        assert asked == []


class TestEnds:
    """JSON lines and exit statuses."""

    def lines(self, out: str) -> list[dict[str, Any]]:
        documents = [json.loads(line) for line in out.splitlines()]
        for document in documents:
            jsonschema.validate(document, LINE)
        return documents

    def test_a_whole_training(self, asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["train", "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        documents = self.lines(out)
        assert [document["event"] for document in documents] == [
            *["stage"] * 4,
            "progress",
            "sample",
            "checkpoint",
            "progress",
            "checkpoint",
            "stage",
            "sample",
            "finished",
            "summary",
        ]
        assert documents[5]["text"] == " the sea\nthe\x1b[2J sea"
        summary = documents[-1]
        assert (summary["state"], summary["name"], summary["step"], summary["loss"]) == ("finished", "demo", 200, 1.5)
        assert summary["checkpoint"] == str(trainings_dir() / "demo" / "step-000200")
        assert summary["go_on"] is None

    def test_ctrl_c_says_how_to_go_on(
        self, loop: Callable[[Loop], list[TrainConfig]], capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        def stopped(config: TrainConfig, on_event: Callable[[Event], None]) -> CheckpointFacts:
            on_event(Saved(facts_of(config, 42), best=False))
            raise CancelledError("stopped at step 42")

        loop(stopped)
        assert run(["train", "--json", "--name", "my run"]) == 130
        out, err = capsys.readouterr()
        summary = self.lines(out)[-1]
        assert (summary["state"], summary["step"]) == ("stopped", 42)
        assert summary["go_on"] == "tui-chat train --resume --name 'my run'"
        assert err == (
            "tui-chat: error: stopped at step 42, its checkpoint is saved: "
            "go on with tui-chat train --resume --name 'my run'\n"
        )
        assert run(["train", "--out", str(tmp_path / "there")]) == 130
        assert f"go on with tui-chat train --resume --out {tmp_path / 'there'}\n" in capsys.readouterr().err

    def test_ctrl_c_before_anything_is_learnt(
        self, loop: Callable[[Loop], list[TrainConfig]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stopped(config: TrainConfig, on_event: Callable[[Event], None]) -> CheckpointFacts:
            raise KeyboardInterrupt

        loop(stopped)
        assert run(["train"]) == 130
        out, err = capsys.readouterr()
        assert out + err.strip() == ""

    def test_a_failure_is_one_line_and_the_last_checkpoint_is_in_the_summary(
        self, loop: Callable[[Loop], list[TrainConfig]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def failing(config: TrainConfig, on_event: Callable[[Event], None]) -> CheckpointFacts:
            on_event(Saved(facts_of(config, 100), best=True))
            on_event(Progressed(progress(120, train_loss=float("nan"))))
            on_event(Failed(121, "the disk is full"))
            raise StorageError("the disk is full")

        loop(failing)
        assert run(["train", "--json"]) == 1
        out, err = capsys.readouterr()
        documents = self.lines(out)
        assert documents[1]["train_loss"] is None
        assert documents[-2]["event"] == "failed"
        assert (documents[-1]["state"], documents[-1]["step"]) == ("failed", 100)
        assert err == "tui-chat: error: the disk is full\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["train", "--width", "100", "--heads", "3"], "width 100 is not divisible"),
            (["train", "--resume"], "there is no training to go on with"),
            (["tune", "nothing", "builtin"], "nothing: there is no training"),
            (["tune", "nothing", "text.txt"], "text.txt holds no conversations"),
        ],
    )
    def test_machines_are_told_why_nothing_began(
        self, arguments: list[str], said: str, asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run([*arguments, "--json"]) in (1, 2)
        out, err = capsys.readouterr()
        failed, summary = self.lines(out)
        assert failed["event"] == "failed" and said in failed["text"] and failed["text"] in err
        assert (summary["state"], summary["path"]) == ("failed", None)

    def test_machines_are_told_why_a_training_was_refused(
        self, loop: Callable[[Loop], list[TrainConfig]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refusing(config: TrainConfig, on_event: Callable[[Event], None]) -> CheckpointFacts:
            raise UsageError("the corpus is empty")

        loop(refusing)
        assert run(["train", "--json"]) == 2
        failed, summary = self.lines(capsys.readouterr().out)
        assert (failed["event"], failed["text"]) == ("failed", "the corpus is empty")
        assert (summary["state"], summary["name"], summary["path"]) == ("failed", "demo", None)

    @pytest.mark.parametrize("command", [["train"], ["tune", "harbour", "builtin"]])
    def test_without_pytorch_it_says_how_to_install_it(
        self, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_checkpoint("harbour", 100)
        monkeypatch.setitem(sys.modules, "torch", None)
        assert run(command) == 1
        out, err = capsys.readouterr()
        assert out == "" and err == (
            "tui-chat: error: training needs PyTorch, which is not installed: run make setup-dev or "
            "pip install '.[train]' in the folder of tui-chat's source\n"
        )

    def test_plain_lines_name_and_explain_each_stage_once(
        self, asked: list[TrainConfig], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["train"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        lines = out.splitlines()
        stages = [line.split()[0] for line in lines if line and not line.startswith(" ")]
        assert stages == ["vocabulary", "model", "training", "generation", "done"]
        assert "            first merges: t+h  ␣+the" in lines
        assert any("step 100 of 200  loss 3.000  validation 3.200  perplexity 24.5" in line for line in lines)
        assert any("In the morning │ Mara lights the oven." in line for line in lines)
        assert any(line.endswith("step-000100, the best so far") for line in lines)
        assert any("tui-chat generate --raw --model demo" in line for line in lines)
        assert "\x1b" not in out
