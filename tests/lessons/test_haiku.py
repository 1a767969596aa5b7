"""`haiku`: four runs that differ by temperature alone, and a true account of where they part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lessons.contracts import check
from tui_chat.cli.program import run
from tui_chat.engine.engine import Engine
from tui_chat.engine.sampling import uniform
from tui_chat.engine.types import GenerationRequest, Limits, SamplingParams, TokensGenerated
from tui_chat.errors import CancelledError, PromptTooLongError, UsageError
from tui_chat.lessons import haiku as module
from tui_chat.lessons.drawing import draw, text_of
from tui_chat.lessons.haiku import MAX_TOKENS, first_parting, haiku, question
from tui_chat.lessons.moment import cooled, entropy
from tui_chat.lessons.report import Lanes, Report, Verbatim
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=20).map(
    lambda values: np.array(values, np.float32)
)


def scene(topic: str | None = "rain", seed: int = 1) -> Scene:
    return Scene(params=SamplingParams(seed=seed)).asking(question(topic))


def texts_of(report: Report) -> list[str]:
    """What stands in the lanes."""
    lanes = next(block for block in report.blocks if isinstance(block, Lanes))
    return [
        "".join(span.text for block in lane.blocks if isinstance(block, Verbatim) for span in block.spans)
        for lane in lanes.lanes
    ]


def drawn(report: Report, width: int = 100) -> str:
    return "\n".join(text_of(line) for line in draw(report.blocks, width))


@pytest.mark.parametrize(
    ("sequences", "index"),
    [
        ([[1, 2], [1, 2]], None),
        ([[1, 2], [1, 3]], 1),
        ([[1], [2], [1]], 0),
        ([[1, 2], [1]], None),
        ([[1, 2, 3], [1, 2, 3], [1, 2, 4]], 2),
        ([[], [1]], None),
    ],
)
def test_the_first_parting(sequences: Sequence[Sequence[int]], index: int | None) -> None:
    assert first_parting(sequences) == index


@given(LOGITS, st.floats(0.2, 10))
def test_temperature_divides_the_logits(logits: np.ndarray, temperature: float) -> None:
    p = cooled(logits, temperature)
    assert p.sum() == pytest.approx(1)
    i, j = int(np.argmax(logits)), int(np.argmin(logits))
    gap = float(logits[i]) - float(logits[j])
    assert math.log(p[i]) - math.log(p[j]) == pytest.approx(gap / temperature, abs=1e-6)


@given(LOGITS, st.floats(0.2, 5), st.floats(1.1, 3))
def test_warmer_is_never_surer(logits: np.ndarray, temperature: float, factor: float) -> None:
    assert entropy(cooled(logits, temperature * factor)) >= entropy(cooled(logits, temperature)) - 1e-9


def test_exact_cases() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.25], np.float32))
    assert cooled(logits, 1).tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert cooled(logits, 0.5).tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert cooled(logits, 0).tolist() == [1, 0, 0]
    assert entropy(cooled(logits, 1)) == pytest.approx(1.5 * math.log(2))
    assert entropy(cooled(logits, 0)) == 0


def test_each_run_is_what_the_model_writes_at_thcooled(pocket: Engine) -> None:
    asked = scene(seed=5)
    document = check("haiku", haiku(pocket, Watch(), asked).document)
    assert [(r["name"], r["temperature"]) for r in document["runs"]] == [
        ("greedy", 0),
        ("balanced", 0.7),
        ("creative", 1.5),
        ("chaos", 2),
    ]
    ids = Scene(messages=asked.messages, enable_thinking=False).prompt(pocket).ids
    assert document["prompt_tokens"] == len(ids)
    for found in document["runs"]:
        params = SamplingParams(temperature=found["temperature"], top_k=0, top_p=1, min_p=0, seed=5)
        with pocket.aside() as aside:
            request = GenerationRequest(prompt_ids=ids, params=params, limits=Limits(max_tokens=MAX_TOKENS))
            batches = [event for event in aside.generate(request) if isinstance(event, TokensGenerated)]
        assert found["ids"] == [token.id for batch in batches for token in batch.tokens]
        assert found["text"] == "".join(batch.text for batch in batches)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_parting_tells_the_choice_as_it_was(pocket: Engine, seed: int) -> None:
    asked = scene("the sea", seed)
    report = haiku(pocket, Watch(), asked)
    document = check("haiku", report.document)
    parting, runs = document["parting"], document["runs"]
    index = parting["index"]
    assert len({tuple(r["ids"][:index]) for r in runs}) == 1
    assert len({pick["id"] for pick in parting["picks"]}) > 1
    for found, pick in zip(runs, parting["picks"], strict=True):
        assert found["ids"][index : index + 1] in ([pick["id"]], [])

    prompt = Scene(messages=asked.messages, enable_thinking=False).prompt(pocket).ids
    logits = pocket.logits([*prompt, *runs[0]["ids"][:index]])
    assert parting["position"] == len(prompt) + index
    assert parting["u"] == uniform(seed, parting["position"])
    for found, pick in zip(runs, parting["picks"], strict=True):
        p = cooled(logits, found["temperature"])
        order = np.lexsort((np.arange(len(p)), -logits))
        place = min(int(np.searchsorted(np.cumsum(p[order]), parting["u"], side="right")), len(p) - 1)
        assert pick["id"] == (order[place] if found["temperature"] else order[0])
        assert pick["p"] == pytest.approx(p[pick["id"]], abs=1e-4)
    text = drawn(report)
    assert text.count("◀") == 5  # one for each run, one that is explained
    assert f"u = {parting['u']:.4f}" in text


def test_it_streams_all_four_and_a_text_only_grows(pocket: Engine) -> None:
    shown: list[list[str]] = []
    report = haiku(pocket, Watch(lambda state: shown.append(texts_of(state))), scene())
    final = texts_of(report)
    assert final == [r["text"] for r in report.document["runs"]]  # type: ignore[attr-defined]
    assert len(shown) > 2 and shown[-1] == final
    for before, after in pairwise(shown):
        assert all(late.startswith(early) for early, late in zip(before, after, strict=True))
    half = next(state for state in shown if all(state))
    assert half != final


def test_runs_that_never_part_say_so(pocket: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEMPERATURES", (("greedy", 0.0), ("balanced", 0.0)))
    report = haiku(pocket, Watch(), scene())
    assert report.document["parting"] is None
    assert "Nowhere: " in drawn(report) and "all as greedy" in drawn(report)


def test_two_in_a_row_at_80_columns_and_one_below_the_other_at_40(pocket: Engine) -> None:
    report = haiku(pocket, Watch(), scene())
    wide, narrow = drawn(report, 80).splitlines(), drawn(report, 40).splitlines()
    assert any("greedy · T 0" in line and "balanced · T 0.7" in line for line in wide)
    assert "balanced · T 0.7" in narrow


def test_the_conversations_cache_stays_as_it_is(pocket: Engine) -> None:
    values = pocket.logits(pocket.vocab.tokenize("one two three"))
    before = list(pocket.context.ids)
    haiku(pocket, Watch(), scene())
    assert list(pocket.context.ids) == before
    assert np.array_equal(pocket.context.logits(), values)
    assert pocket.context.append(before[-1])


def test_bad_input(pocket: Engine) -> None:
    for topic in ("", "  \n"):
        with pytest.raises(UsageError, match="the topic is empty"):
            question(topic)
    with pytest.raises(PromptTooLongError):
        haiku(pocket, Watch(), Scene().asking("Hello", "x " * 600))


def test_it_stops_at_once(pocket: Engine) -> None:
    watch = Watch()
    watch.show = lambda _: watch.cancel.set()
    with pytest.raises(CancelledError):
        haiku(pocket, watch, scene())


def test_a_reader_that_fails_leaves_the_engine_whole(pocket: Engine) -> None:
    def fail(state: Report) -> None:
        if all(texts_of(state)):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        haiku(pocket, Watch(fail), scene())
    assert haiku(pocket, Watch(), scene()).document["runs"]


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["haiku", "rain", "--seed", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert check("haiku", out)["seed"] == 3
    assert run(["haiku", "rain", "--seed", "3"]) == 0
    assert "Where they first part" in capsys.readouterr().out
    assert run(["haiku", " "]) == 2
    assert "the topic is empty" in capsys.readouterr().err
