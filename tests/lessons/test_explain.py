"""`explain`: every stage it shows is that of the answer it gives, and of the answer the model gives anyway."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands.recorder import Recorder
from tests.lessons.contracts import check
from tests.lessons.tiny_models import write_hybrid, write_latent, write_recurrent, write_sliding
from tui_chat.chat.conversation import Role
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.engine.engine import Engine
from tui_chat.engine.tracing import Tracer
from tui_chat.engine.types import GenerationRequest, Limits, LoadOptions, SamplingParams, TokensGenerated
from tui_chat.errors import CancelledError, PromptTooLongError, UsageError
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.explain import explain
from tui_chat.lessons.memory import memory
from tui_chat.lessons.report import Report, Span, Tone, Verbatim
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch
from tui_chat.models.resolve import builtin_path

ROOT = Path(__file__).parents[2]

SCENE = Scene(params=SamplingParams(seed=3, repeat_penalty=1.1), limits=Limits(max_tokens=12)).asking(
    "What is a token?"
)


def drawn(report: Report, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


def test_it_is_the_answer_the_model_gives_anyway(pocket: Engine) -> None:
    document = check("explain", explain(pocket, Watch(), SCENE).document)
    prompt = SCENE.prompt(pocket)
    assert (document["template"]["text"], document["ids"]) == (prompt.text, list(prompt.ids))
    assert document["template"]["origin"] == "model"
    request = GenerationRequest(prompt_ids=prompt.ids, params=SCENE.params, limits=SCENE.limits)
    with pocket.aside() as aside:
        tokens = [t for event in aside.generate(request) if isinstance(event, TokensGenerated) for t in event.tokens]
    assert document["loop"]["ids"] == [token.id for token in tokens]
    assert document["stats"]["generated_tokens"] == len(tokens) > 0
    surprisals = [token.trace.surprisal for token in tokens if token.trace]
    assert document["stats"]["perplexity"] == pytest.approx(math.exp(sum(surprisals) / len(surprisals)), rel=1e-3)


def test_the_first_token_is_followed_through_the_chain_that_chose_it(pocket: Engine) -> None:
    document = check("explain", explain(pocket, Watch(), SCENE).document)
    sampling, first = document["sampling"], document["loop"]["tokens"][0]
    assert sampling["picked"]["id"] == first["id"]
    assert (sampling["u"], sampling["entropy"]) == (first["u"], pytest.approx(first["entropy"]))
    assert [(s["name"], s["survivors"]) for s in sampling["stages"]] == [
        (s["name"], s["survivors"]) for s in first["stages"]
    ]
    assert [s["name"] for s in sampling["stages"]] == ["penalties", "top_k", "top_p", "min_p", "temperature"]
    last = sampling["stages"][-1]
    assert sum(c["p"] for c in last["candidates"]) == pytest.approx(1)
    total = 0.0
    for candidate in last["candidates"]:
        total += candidate["p"]
        if total > sampling["u"]:
            break
    assert candidate["id"] == sampling["picked"]["id"]

    raw = Tracer(pocket.info.n_vocab, 20).measure(pocket.logits(document["ids"]))
    assert sampling["entropy"] == pytest.approx(raw.entropy, abs=1e-3)
    assert sampling["top"][0]["p"] == pytest.approx(raw.confidence, abs=1e-3)


def test_shapes_and_sizes_are_those_of_the_model(pocket: Engine) -> None:
    report = explain(pocket, Watch(), SCENE)
    prefill, n = report.document["prefill"], len(SCENE.prompt(pocket).ids)
    info = pocket.info
    head = int(info.metadata["qwen3.attention.key_length"])
    keys_and_values = 2 * info.n_layer * info.n_head_kv * head * 2  # two bytes each
    assert isinstance(prefill, dict)
    assert prefill["kv_bytes"] == n * keys_and_values
    assert (prefill["embedding"], prefill["logits"]) == ([n, info.n_embd], [info.n_vocab])
    text = drawn(report)
    assert f"All {n} tokens at once" in text
    assert f"({n}, {info.n_embd})" in text and f"keys ({n}, {info.n_head_kv * head})" in text
    assert f"of width {info.metadata['qwen3.feed_forward_length']}" in text


@pytest.mark.parametrize(
    ("write", "cache", "said", "unsaid"),
    [
        (write_recurrent, None, "carries a state from place to place", "attention in"),
        (write_latent, None, "what the layers keep of the text takes it in", "its keys and values"),
        (write_hybrid, "1 × keys ({n}, 32) and values ({n}, 32) =", "the others carry a state", "its keys and values"),
        (
            write_sliding,
            "1 × keys ({n}, 32) and values ({n}, 32) + 5 × keys ({n}, 32) and values ({n}, 32) =",
            "its keys and values join the cache",
            "carries a state",
        ),
    ],
)
def test_nothing_is_made_up_of_a_model_that_is_no_plain_attention(
    tmp_path: Path, write: Callable[[Path], Path], cache: str | None, said: str, unsaid: str
) -> None:
    with Engine.load(write(tmp_path / "tiny.gguf"), LoadOptions(n_ctx=512, n_threads=1)) as engine:
        report = explain(engine, Watch(), replace(SCENE, limits=Limits(max_tokens=2)))
        told: Any = memory(engine, Watch()).document["kv_cache"]
    document, text = check("explain", report.document), " ".join(drawn(report).split())
    n, a_token = document["prefill"]["n_tokens"], told["bytes_per_token"]
    assert document["prefill"]["kv_bytes"] == (None if a_token is None else n * a_token)
    assert said in text and unsaid not in text
    assert ("KV cache" in text.partition("5 · Prefill")[2]) is (cache is not None)
    assert cache is None or cache.format(n=n) in text


def test_one_layer_is_one_and_a_backtick_in_a_stop_string_is_none(
    pocket: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pocket, "info", replace(pocket.info, n_layer=1))
    text = drawn(explain(pocket, Watch(), replace(SCENE, limits=Limits(max_tokens=1, stop=("a`b\nc",)))))
    assert "a'b⏎c" in text
    assert "1 layer " in text and "\n1 layers " not in text


def test_what_stands_in_for_a_template_is_said_once(tmp_path: Path) -> None:
    with Engine.load(write_sliding(tmp_path / "tiny.gguf"), LoadOptions(n_ctx=512, n_threads=1)) as engine:
        text = drawn(explain(engine, Watch(), replace(SCENE, limits=Limits(max_tokens=1))))
    assert text.count("ChatML") == 1


def test_the_batches_of_the_prefill_are_counted() -> None:
    scene = SCENE.asking("one two " * 30)
    with Engine.load(builtin_path(), LoadOptions(n_ctx=256, n_batch=32, n_threads=1)) as small:
        report = explain(small, Watch(), scene)
    document = check("explain", report.document)
    n_batches = math.ceil(document["prefill"]["n_tokens"] / 32)
    assert document["prefill"]["n_batches"] == n_batches > 1
    assert f"in {n_batches} batches, in" in drawn(report)


def test_special_tokens_of_the_template_are_marked(pocket: Engine) -> None:
    report = explain(pocket, Watch(), SCENE)
    template = next(block for block in report.blocks if isinstance(block, Verbatim))
    assert "".join(span.text for span in template.spans) == SCENE.prompt(pocket).text
    assert template.spans[:2] == (Span("<|im_start|>", Tone.CONTROL), Span("user\nWhat is a token?"))


def test_greedy_draws_nothing(pocket: Engine) -> None:
    scene = replace(SCENE, params=SamplingParams(temperature=0), limits=Limits(max_tokens=1))
    report = explain(pocket, Watch(), scene)
    document = check("explain", report.document)
    assert document["sampling"]["u"] is None
    assert document["sampling"]["picked"]["id"] == document["sampling"]["top"][0]["id"] == document["loop"]["ids"][0]
    assert document["loop"]["finish_reason"] == "length"
    text = drawn(report)
    assert "nothing is drawn" in text and "The draw is" not in text and "token limit reached" in text


def test_a_picked_token_far_down_the_list_is_shown(pocket: Engine) -> None:
    wild = SamplingParams(temperature=5, top_k=0, top_p=1, min_p=0, seed=1)
    report = explain(pocket, Watch(), replace(SCENE, params=wild, limits=Limits(max_tokens=1)))
    document = check("explain", report.document)
    assert document["sampling"]["u"] > 0.05
    (row,) = (line for line in drawn(report).splitlines() if "◀" in line)
    assert int(row.split()[0]) > 8


def test_of_a_long_prompt_both_ends_are_shown(pocket: Engine) -> None:
    scene = replace(SCENE, limits=Limits(max_tokens=1)).asking("one " * 200 + "two")
    report = explain(pocket, Watch(), scene)
    n = len(report.document["ids"])  # type: ignore[arg-type]
    text = drawn(report)
    assert text.count(f"… {n - 96} tokens …") == 2
    assert "two<|im_end|>" in text and "<|im_start|>user" in text


def test_stages_come_one_after_another(pocket: Engine) -> None:
    shown: list[str] = []
    said: list[str] = []
    explain(pocket, Watch(lambda report: shown.append(drawn(report)), said.append), SCENE)
    n = len(SCENE.prompt(pocket).ids)
    assert f"prefill: 0 of {n} tokens" in said and "the loop: 12 tokens" in said
    assert "4 · Token ids" in shown[0] and "6 · Sampling" not in shown[0]
    assert "7 · The loop" in shown[-1] and "8 · Statistics" not in shown[-1]


@pytest.mark.parametrize("width", [40, 78, 120])
def test_it_reads_without_colours_at_any_width(pocket: Engine, width: int) -> None:
    text = drawn(explain(pocket, Watch(), SCENE), width)
    for number in range(1, 9):
        assert f"\n{number} · " in f"\n{text}"
    assert max(map(len, text.splitlines())) <= width


def test_the_conversations_cache_stays_as_it_is(pocket: Engine) -> None:
    values = pocket.logits(pocket.vocab.tokenize("one two three"))
    before = list(pocket.context.ids)
    explain(pocket, Watch(), SCENE)
    assert list(pocket.context.ids) == before
    assert np.array_equal(pocket.context.logits(), values)


def test_bad_input(pocket: Engine) -> None:
    with pytest.raises(PromptTooLongError):
        explain(pocket, Watch(), SCENE.asking("Hello", "x " * 600))
    with pytest.raises(UsageError, match="nothing was said yet"):
        default_registry().execute("/explain", Recorder(engine=pocket))


@pytest.mark.parametrize("after", [0, 3])
def test_it_stops_at_once(pocket: Engine, after: int) -> None:
    said: list[str] = []
    watch = Watch(on_progress=said.append)
    watch.show = lambda _: watch.cancel.set() if len(said) >= after else None
    with pytest.raises(CancelledError):
        explain(pocket, watch, replace(SCENE, limits=Limits(max_tokens=400, ignore_eos=True)))
    assert len(said) <= after + 2


def test_a_reader_that_fails_leaves_the_engine_whole(pocket: Engine) -> None:
    def fail(_: Report) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        explain(pocket, Watch(fail), SCENE)
    assert explain(pocket, Watch(), SCENE).document["loop"]


def test_without_a_text_it_answers_the_last_message_once_more(pocket: Engine) -> None:
    context = Recorder(engine=pocket)
    context.conversation.append(Role.USER, "What is a token?")
    context.conversation.append(Role.ASSISTANT, "A piece of text.")
    default_registry().execute("/explain", context)
    assert context.reports[0].document["ids"] == list(SCENE.prompt(pocket).ids)
    context.system_text = "Be brief."
    default_registry().execute("/explain and now?", context)
    text = context.reports[1].document["template"]["text"]  # type: ignore[index]
    assert "Be brief." in text and "and now?" in text and "What is a token?" not in text


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "hello", "--temperature", "0", "--max-tokens", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    document = check("explain", out)
    assert (err, document["config"]["sampling"]["temperature"], document["config"]["limits"]["max_tokens"]) == (
        "",
        0,
        3,
    )
    assert run(["explain", "--max-tokens", "2"]) == 0
    assert "What is a token?" in capsys.readouterr().out
    assert run(["explain", ""]) == 2
    assert "the prompt is empty" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(
    ("target", "command"),
    [("tokens", "tokens"), ("logits", "logits"), ("haiku", "haiku"), ("llm-inference", "explain")],
)
def test_make_runs_the_four_demonstrations(target: str, command: str) -> None:
    planned = subprocess.run(
        ["make", "-n", "--no-print-directory", target, "ARGS=rain"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert planned.stdout.splitlines()[-1].endswith(f"tui-chat {command} rain")
