"""Whole trainings: what they learn, tell, save and survive."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from tests.training.learning import SHAPE, MadeUpGrammar, Recorder, text_config  # noqa: E402 (after PyTorch's check)
from tui_chat.checkpoints.facts import CheckpointFacts  # noqa: E402
from tui_chat.checkpoints.runs import find_checkpoint, is_running, read_progress, read_run  # noqa: E402
from tui_chat.checkpoints.shape import Architecture, Positions  # noqa: E402
from tui_chat.errors import CancelledError, StorageError, TuiChatError, UsageError  # noqa: E402
from tui_chat.training import events, loop, planning, prepare  # noqa: E402
from tui_chat.training.checkpoint import load_model  # noqa: E402
from tui_chat.training.config import BUILTIN, Compile, LossOn, TrainConfig, config_of  # noqa: E402
from tui_chat.training.presets import PRESETS, reshaped, tuning  # noqa: E402
from tui_chat.training.train import train  # noqa: E402

Whole = tuple[CheckpointFacts, Recorder]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A training from its first step to its last."""
    told = Recorder()
    return train(text_config(tmp_path_factory.mktemp("runs") / "whole"), told), told


def test_the_model_learns(whole: Whole) -> None:
    facts, told = whole
    reports = told.progress
    assert [report.step for report in reports] == list(range(1, 13))
    assert reports[0].train_loss == pytest.approx(math.log(300), abs=0.3)
    assert reports[-1].train_loss < reports[0].train_loss - 0.5
    assert [report.step for report in reports if report.validation_loss is not None] == [6, 12]
    assert facts.progress == reports[-1]
    # The last window of a text repeats some of the one before it, without weight.
    assert 0.99 * 12 * 8 * 32 < facts.progress.n_tokens <= 12 * 8 * 32
    assert facts.best_validation_loss == reports[-1].validation_loss
    assert facts.row_lengths == (32,) and facts.kind == "text" and len(facts.corpus_sha256) == 64 and facts.created


def test_what_is_told_is_also_recorded(whole: Whole) -> None:
    facts, told = whole
    stages = [event.stage for event in told.of(events.StageBegan)]
    assert list(dict.fromkeys(stages)) == ["corpus", "tokenizer", "data", "model", "training", "generation"]
    model = next(event for event in told.of(events.StageBegan) if event.stage == "model")
    assert model.facts["n_parameters"] == load_model(facts).n_parameters == facts.shape.n_parameters
    assert f"{facts.shape.n_parameters:,} parameters" in model.text
    assert model.facts["flops_per_token"] == facts.shape.flops_per_token(32)
    assert [(event.step, event.prompt) for event in told.of(events.Sampled)] == [
        (6, "When the bell"),
        (12, "When the bell"),
    ]
    assert [(event.facts.step, event.best) for event in told.of(events.Saved)] == [(6, True), (12, True)]
    assert isinstance(told[-1], events.Finished) and told[-1].facts == facts
    lines = (facts.path.parent / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps([event.as_json() for event in told[1:]]))
    record = read_progress(facts.path.parent)
    assert record.state == "finished" and record.progress == tuple(told.progress)


def test_a_finished_run_leaves_only_what_is_of_use(whole: Whole) -> None:
    run = whole[0].path.parent
    names = sorted(path.name for path in run.iterdir())
    assert names == ["progress.jsonl", "run.lock", "step-000012"]
    assert sorted(path.name for path in (run / "step-000012").iterdir()) == [
        "checkpoint.json",
        "model.safetensors",
        "optimizer.pt",
        "tokenizer.json",
    ]
    assert not is_running(run)


def test_the_settings_can_be_read_back(whole: Whole) -> None:
    facts = find_checkpoint(str(whole[0].path))
    assert config_of(facts) == text_config(facts.path.parent)


def test_a_run_is_not_overwritten_nor_taken_further_than_its_end(whole: Whole) -> None:
    run = whole[0].path.parent
    with pytest.raises(UsageError, match="up to step 12: go on with --resume"):
        train(text_config(run))
    record = run / "progress.jsonl"
    before = record.read_bytes(), record.stat().st_mtime_ns
    with pytest.raises(UsageError, match="all 12 steps are done"):
        train(text_config(run, resume=True))
    assert read_run(run).latest == whole[0]
    # What is refused leaves no trace: the run is as finished, and as old, as it was.
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before
    assert read_progress(run).state == "finished"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": replace(SHAPE, width=64)}, "width 32, not 64"),
        (
            {
                "shape": replace(
                    SHAPE, arch=Architecture.GPT2, positions=Positions.LEARNED, qk_norm=False, norm_eps=1e-6
                )
            },
            "arch llama, not gpt2; positions rotary, not learned",
        ),
        ({"shape": replace(SHAPE, vocab_size=310)}, "--vocab 300, not 310.* a new training with another --out"),
        ({"seed": 2}, "--seed 1, not 2"),
        ({"corpus": "another text"}, "is not what .* begin a new training without --resume and with another --out"),
    ],
)
def test_another_training_cannot_be_gone_on_with(
    whole: Whole, changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    if "corpus" in changes:
        other = tmp_path / "other.txt"
        other.write_text("Another text, of which there is not much. " * 20)
        changes = {"corpus": str(other)}
    with pytest.raises(UsageError, match=words):
        train(text_config(whole[0].path.parent, steps=20, resume=True, **changes))
    assert read_progress(whole[0].path.parent).state == "finished"


def test_what_a_training_begins_with_is_said(whole: Whole, tmp_path: Path) -> None:
    def said(told: Recorder) -> str:
        return next(event.text for event in told.of(events.StageBegan) if event.stage == "model")

    assert said(whole[1]).endswith("all numbers are random at first")
    run = shutil.copytree(whole[0].path.parent, tmp_path / "run")
    told = Recorder()
    train(text_config(run, steps=13, resume=True), told)
    assert said(told).endswith("it begins with what " + str(run / "step-000012") + " has learnt")


def test_going_on_gives_the_same_losses(whole: Whole, tmp_path: Path) -> None:
    told = Recorder()

    def stop_at_8(event: events.Event) -> None:
        told(event)
        if isinstance(event, events.Progressed) and event.progress.step == 8:
            raise OSError("the terminal went away")

    with pytest.raises(OSError, match="went away"):
        train(text_config(tmp_path), stop_at_8)
    assert find_checkpoint(str(tmp_path)).step == 6 and read_progress(tmp_path).state == "stopped"
    again = Recorder()
    last = train(text_config(tmp_path, resume=True), again)
    expected = whole[1].progress[6:]
    assert [report.step for report in again.progress] == [report.step for report in expected]
    assert [r.train_loss for r in again.progress] == pytest.approx([r.train_loss for r in expected], abs=1e-6)
    assert [r.gradient_norm for r in again.progress] == pytest.approx([r.gradient_norm for r in expected], abs=1e-5)
    assert last.progress.validation_loss == pytest.approx(whole[0].progress.validation_loss, abs=1e-6)
    assert last.progress.n_tokens == whole[0].progress.n_tokens
    assert [p.step for p in read_progress(tmp_path).progress] == list(range(1, 13))


def test_dropout_is_the_same_after_going_on(tmp_path: Path) -> None:
    shape = replace(SHAPE, arch=Architecture.GPT2, positions=Positions.LEARNED, qk_norm=False)
    config = text_config(tmp_path / "one", shape=shape, dropout=0.3, steps=4, checkpoint_every=2)
    one, two = Recorder(), Recorder()
    train(config, one)

    def stop_at_3(event: events.Event) -> None:
        if isinstance(event, events.Progressed) and event.progress.step == 3:
            raise OSError

    with pytest.raises(OSError):
        train(replace(config, out=tmp_path / "two"), stop_at_3)
    train(replace(config, out=tmp_path / "two", resume=True), two)
    assert [r.train_loss for r in two.progress] == pytest.approx([r.train_loss for r in one.progress[2:]], abs=1e-6)


def test_passes_add_up_to_the_same_step(whole: Whole, tmp_path: Path) -> None:
    told = Recorder()
    train(text_config(tmp_path, batch=2, accumulate=4, steps=12), told)
    expected = whole[1].progress
    assert [r.train_loss for r in told.progress] == pytest.approx([r.train_loss for r in expected], abs=1e-4)
    assert [r.gradient_norm for r in told.progress] == pytest.approx([r.gradient_norm for r in expected], rel=1e-3)


def test_two_processes_train_as_one(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Recorder()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    last = train(text_config(tmp_path, processes=2), told)
    stage = [event for event in told.of(events.StageBegan) if event.stage == "training"][-1]
    assert stage.facts["processes"] == 2
    expected = whole[1].progress
    assert [r.train_loss for r in told.progress] == pytest.approx([r.train_loss for r in expected], abs=1e-4)
    assert [r.gradient_norm for r in told.progress] == pytest.approx([r.gradient_norm for r in expected], rel=1e-3)
    assert last.progress.validation_loss == pytest.approx(whole[0].progress.validation_loss, abs=1e-4)
    assert last.progress.n_tokens == whole[0].progress.n_tokens


def test_two_processes_of_torchrun_train_as_one(whole: Whole, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nimport sys\nfrom pathlib import Path\n"
        "from tests.training.learning import text_config\n"
        "from tui_chat.training.events import Event\nfrom tui_chat.training.train import train\n"
        "def show(event: Event) -> None:\n    print(event.as_json()['event'], flush=True)\n"
        # In one piece: both processes write into the same pipe.
        "os.write(1, f'last {train(text_config(Path(sys.argv[1])), show).step}\\n'.encode())\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            script,
            tmp_path / "r",
        ],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines.count("finished") == 1 and lines.count("last 12") == 2
    reports = read_progress(tmp_path / "r").progress
    expected = whole[1].progress
    assert [r.train_loss for r in reports] == pytest.approx([r.train_loss for r in expected], abs=1e-4)


FIRST_LOSSES = (5.882773, 5.832962, 5.718773, 5.571813, 5.427471, 5.309022)
FIRST_NORMS = (1.226658, 1.247545, 1.371077, 1.240593, 1.170721, 1.337586)
FIRST_VALIDATION = (5.551414, 5.283155)


def test_conversations_are_learnt_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The built-in model can only be made again if nothing of this moves: order of rows, first weights, groups of the
    # optimizer, the learning rate, the change to long rows. The figures are those of the loop that made it.
    monkeypatch.setattr(prepare, "Grammar", MadeUpGrammar)
    told = Recorder()
    config = text_config(
        tmp_path,
        corpus=BUILTIN,
        shape=replace(SHAPE, vocab_size=400, n_layers=2, context=512),
        n_dialogues=600,
        n_validation=40,
        steps=6,
        batch=4,
        length=256,
        stride=0,
        long_length=512,
        long_share=0.34,
        learning_rate=3e-3,
        final_share=0.02,
        loss_on=LossOn.ASSISTANT,
        prompt_weight=0.1,
        validate_every=3,
        sample_prompts=(),
    )
    facts = train(config, told)
    assert [r.train_loss for r in told.progress] == pytest.approx(FIRST_LOSSES, abs=1e-4)
    assert [r.gradient_norm for r in told.progress] == pytest.approx(FIRST_NORMS, abs=1e-4)
    measured = [r.validation_loss for r in told.progress if r.validation_loss is not None]
    assert measured == pytest.approx(FIRST_VALIDATION, abs=1e-4)
    assert facts.progress.n_tokens == 5_934 and facts.kind == "chat" and facts.row_lengths == (256, 512)
    assert len(told.of(events.Sampled)) == 3


def test_tuning_begins_with_the_weights_of_a_checkpoint(whole: Whole, tmp_path: Path) -> None:
    corpus = tmp_path / "talk.jsonl"
    messages = [
        [{"role": "user", "content": f"Who is number {i}?"}, {"role": "assistant", "content": f"Number {i} is Mara."}]
        for i in range(40)
    ]
    corpus.write_text("".join(json.dumps({"messages": m}) + "\n" for m in messages))
    settings = text_config(tmp_path)
    same = {name: getattr(settings, name) for name in ("device", "precision", "compile", "threads", "report_every")}
    same["validation_share"] = 0.02
    config = tuning(whole[0], tmp_path / "tuned", str(corpus), steps=3, context=96, learning_rate=1e-9, **same)
    told = Recorder()
    facts = train(config, told)
    # One conversation of forty is kept back; the other prompts are those of the training.
    prompts = [event.prompt for event in told.of(events.Sampled)]
    assert len(set(prompts)) == 3 and all(prompt.startswith("Who is number ") for prompt in prompts)
    assert facts.kind == "chat" and facts.shape == replace(whole[0].shape, context=96) and facts.step == 3
    for name, weight in load_model(facts).state_dict().items():
        assert torch.allclose(weight, load_model(whole[0]).state_dict()[name], atol=1e-6)
    assert config_of(facts) == config
    # An epoch is every row once.
    again = train(replace(config, out=tmp_path / "epoch", steps=None, epochs=2.0, batch=1))
    rows = next(e for e in told.of(events.StageBegan) if e.stage == "data" and e.facts).facts["n_rows"]
    assert again.step == 2 * rows


def test_a_context_longer_than_every_document_is_said_before_the_first_step(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("oven", "boat", "bell", "mill"):
        (texts / f"{name}.txt").write_text(f"The {name} of the village is as old as the sea. " * 6)
    with pytest.raises(UsageError, match=r"a context of 400 is longer than any document.*use --context \d+ or less"):
        train(text_config(tmp_path / "run", corpus=str(texts), length=400))


def test_ctrl_c_stops_after_the_step_with_a_checkpoint(whole: Whole, tmp_path: Path) -> None:
    told = Recorder()

    def press_at_4(event: events.Event) -> None:
        told(event)
        if isinstance(event, events.Progressed) and event.progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(CancelledError, match="stopped at step 5; its checkpoint is saved: go on with --resume"):
        train(text_config(tmp_path), press_at_4)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert find_checkpoint(str(tmp_path)).step == told.of(events.Saved)[-1].facts.step == 5
    assert read_progress(tmp_path).state == "stopped"
    again = Recorder()
    train(text_config(tmp_path, resume=True), again)
    expected = [report.train_loss for report in whole[1].progress[5:]]
    assert [report.train_loss for report in again.progress] == pytest.approx(expected, abs=1e-6)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    told = Recorder()
    train(text_config(tmp_path, steps=6))
    wild = text_config(tmp_path, resume=True, steps=12, learning_rate=1e38, warmup_steps=0, clip_norm=1e38)
    with pytest.raises(TuiChatError, match=r"is not a number at step [78]: try a lower --lr; the checkpoint of step 6"):
        train(wild, told)
    assert isinstance(told[-1], events.Failed) and told[-1].step in (7, 8)
    assert read_progress(tmp_path).state == "failed"
    kept = find_checkpoint(str(tmp_path))
    assert kept.step == 6 and all(torch.isfinite(w).all() for w in load_model(kept).state_dict().values())


@pytest.mark.parametrize(("arch", "rate"), [("gpt2", 1e20), ("llama", 1e25)])
def test_a_wrecked_model_is_not_saved(tmp_path: Path, arch: str, rate: float) -> None:
    told = Recorder()
    wild = text_config(tmp_path, shape=reshaped(SHAPE, arch=arch), learning_rate=rate, checkpoint_every=1)
    with pytest.raises(TuiChatError, match="is not a number at step 1: try a lower --lr; there is no checkpoint yet"):
        train(wild, told)
    assert isinstance(told[-1], events.Failed) and not read_run(tmp_path).checkpoints


def test_a_training_whose_folder_is_taken_away_stops(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def take_away(event: events.Event) -> None:
        if isinstance(event, events.Progressed) and event.progress.step == 3:
            run.rename(tmp_path / "elsewhere")
            run.mkdir()
            (run / "run.lock").touch()

    with pytest.raises(StorageError, match="run was moved or deleted while its training ran"):
        train(text_config(run), take_away)
    # What lies there now is another training's.
    assert [path.name for path in run.iterdir()] == ["run.lock"]


def test_a_full_disk_is_told_and_the_last_checkpoint_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    told = Recorder()
    written = torch.save

    def full(state: dict[str, object], path: Path) -> None:
        if "000012" in str(path):
            path.write_bytes(b"some")
            raise OSError(errno.ENOSPC, "No space left on device")
        written(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"step 12 .* because the disk is full: free .* step 6 is whole"):
        train(text_config(tmp_path), told)
    assert isinstance(told[-1], events.Failed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.jsonl", "run.lock", "step-000006"]


def test_out_of_memory_names_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(model: object, ids: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(loop, "token_losses", too_much)
    with pytest.raises(
        TuiChatError, match=r"8 rows of 32 tokens in a pass: try --batch 4 --accumulate 2 --context 32;"
    ):
        train(text_config(tmp_path))
    assert read_progress(tmp_path).state == "failed"


def test_memory_that_would_not_do_halves_the_rows_or_is_refused(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Recorder()
    needed = SHAPE.training_bytes(4, 32)
    monkeypatch.setattr(planning, "free_bytes", lambda device: round(needed / 0.8) + 1)
    train(text_config(tmp_path / "small", steps=3), told)
    stage = [event for event in told.of(events.StageBegan) if event.stage == "training"][-1]
    assert (stage.facts["rows_per_pass"], stage.facts["passes_per_step"]) == (4, 2)
    # The schedule of three steps is another one from the second step on.
    assert told.progress[0].train_loss == pytest.approx(whole[1].progress[0].train_loss, abs=1e-5)
    monkeypatch.setattr(planning, "free_bytes", lambda device: 1000)
    with pytest.raises(TuiChatError, match=r"would take about .*B of memory and 1 kB are free: .* --width"):
        train(text_config(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_without_a_compiler_it_goes_on_uncompiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(function: object, dynamic: bool) -> object:
        def fail(model: object, ids: object) -> None:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", compiled)
    told = Recorder()
    facts = train(text_config(tmp_path, steps=2, compile=Compile.ON), told)
    stages = [event.text for event in told.of(events.StageBegan) if event.stage == "training"]
    assert facts.step == 2 and "No working C++ compiler" in stages[-1]


def test_a_corpus_that_does_not_do_leaves_nothing_behind(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("One sentence that is said again and again. " * 6)
    with pytest.raises(UsageError, match="context"):
        train(text_config(tmp_path / "run", corpus=str(short), length=2000))
    with pytest.raises(UsageError, match="there is no such file"):
        train(text_config(tmp_path / "run", corpus=str(tmp_path / "missing.txt")))
    with pytest.raises(UsageError, match="no training to go on with"):
        train(text_config(tmp_path / "run", resume=True))
    assert not (tmp_path / "run").exists()


def test_the_smallest_preset_trains(tmp_path: Path) -> None:
    config: TrainConfig = PRESETS["tiny"].configure(tmp_path, arch="gpt2", steps=4)
    facts = train(config)
    assert facts.step == 4 and facts.shape.arch is Architecture.GPT2
