"""`/order`, `/json`, `/grammar`, `/ban`, `/bias`, `/preset`, `/undo`: what they set, show, offer and refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.recorder import Recorder, Unloaded
from tui_chat.chat.conversation import Role
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.completion import complete
from tui_chat.commands.every_setting import ABOUT
from tui_chat.config import InferenceSettings
from tui_chat.config.presets import BUILT_IN, PRESET_FIELDS, all_presets, presets_file, save_preset
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import DEFAULT_ORDER
from tui_chat.errors import ConfigError, TuiChatError
from tui_chat.lessons.drawing import draw, text_of

REGISTRY = default_registry()


def run(line: str, context: Recorder | None = None) -> Recorder:
    context = context or Unloaded()
    assert REGISTRY.execute(line, context)
    return context


def offered(line: str, context: Recorder | None = None) -> dict[str, str]:
    found = complete(line, REGISTRY, context or Unloaded())
    assert found is not None
    return {item.label: item.detail for item in found.suggestions} | {"": found.hint}


def text(context: Recorder) -> str:
    return "\n".join(text_of(line) for line in draw(context.reports[-1].blocks, 100))


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("/order top_k,min_p,temperature", ("top_k", "min_p", "temperature")),
        ("/order [temperature, min-p]", ("temperature", "min_p")),
        ("/order TOP_K", ("top_k",)),
        ("/order default", DEFAULT_ORDER),
    ],
)
def test_the_order(line: str, order: tuple[str, ...]) -> None:
    context = run(line)
    assert context.get_setting("order") == order
    assert ", ".join(order) in context.notices[0]


def test_the_order_is_offered_and_shown() -> None:
    context = run("/order top_k,temperature")
    assert "now top_k, temperature" in offered("/order ", context)[""]
    assert "top_k,temperature" in offered("/order ", context)
    assert "now default" in offered("/order ")[""]
    assert "top_k, temperature" in run("/order", context).shown[0]


@pytest.mark.parametrize(
    ("line", "grammar", "schema"),
    [
        ("/json", "json", ""),
        ('/json {"type": "array"}', "", '{"type": "array"}'),
        ("/grammar list", "list", ""),
        ('/grammar root ::= "yes" | "no"', 'root ::= "yes" | "no"', ""),
        ("/json off", "", ""),
        ("/grammar off", "", ""),
    ],
)
def test_the_form_of_answers(line: str, grammar: str, schema: str) -> None:
    for before in ("/grammar chess", '/json {"type": "string"}'):
        context = run(line, run(before))
        assert (context.get_setting("grammar"), context.get_setting("json_schema")) == (grammar, schema)
        InferenceSettings(grammar=grammar, json_schema=schema).grammar_text()


def test_a_form_of_a_file_and_during_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "yes.gbnf"
    file.write_text('root ::= "yes"')
    context = run(f"/grammar {file}", Unloaded(answering=True))
    assert context.get_setting("grammar") == str(file)
    assert "from the next answer on" in context.notices[0] and "cannot change within an answer" in context.notices[0]
    assert "cannot" not in run("/json").notices[0]
    assert {"json", "list", "arithmetic", "chess", "off"} <= set(offered("/grammar "))
    assert "now any text" in offered("/json ")[""] and "now json" in offered("/json ", run("/json"))[""]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('/grammar root ::= "a" | other', "grammar, line 1, column 16: there is no rule 'other'"),
        ("/grammar nowhere.gbnf", "nowhere.gbnf: No such file"),
        ('/json {"type": }', "JSON schema, line 1, column 10: this is no JSON"),
        ("/json nowhere.json", "nowhere.json: No such file"),
        ("/order top_q", "there is no stage top_q: did you mean top_p or top_k"),
        ("/bias however", "'however' is no bias"),
        ("/bias however=+inf", "is no bias"),
        ("/ban off 7", "7 is not banned"),
        ("/preset lively", "there is no preset lively: choose from precise, balanced, creative, chaos"),
        ("/preset save", "say what to call it"),
        ("/preset save precise", "comes along"),
        ("/preset save My_Own!", "cannot be called"),
        ("/preset save off", "cannot be called"),
        ("/preset one two", "one name, not 2"),
    ],
)
def test_wrong_use_says_what_to_write(line: str, words: str) -> None:
    context = Unloaded()
    with pytest.raises(TuiChatError) as caught:
        REGISTRY.execute(line, context)
    assert words in str(caught.value) and context == Unloaded()


@pytest.mark.parametrize(
    ("line", "bans"),
    [
        ("/ban however", ("however",)),
        ('/ban " token" 42 /^ [Tt]he$/', (" token", 42, "/^ [Tt]he$/")),
        ("/ban '42' it's", ("42", "it's")),
        (r'/ban "a \"b\"" /\d+\/x/', ('a "b"', r"/\d+\/x/")),
        ("/ban a a", ("a",)),
    ],
)
def test_bans(line: str, bans: tuple[int | str, ...]) -> None:
    context = run(line)
    assert context.get_setting("ban") == bans
    assert run("/ban zoo", context).get_setting("ban") == (*bans, "zoo")
    # What is offered to lift one names it as it is written.
    lifts = [label for label in offered("/ban ", context) if label.startswith("off ")]
    for lift in lifts:
        run(f"/ban {lift}", context)
    assert len(lifts) == len(bans) + 1 and context.get_setting("ban") == ()


def test_biases() -> None:
    context = run('/bias piece=+2 word-1.5 " the"=-0.69 /ing$/=1 42=-inf')
    assert context.get_setting("logit_bias") == (
        ("piece", 2.0), ("word", -1.5), (" the", -0.69), ("/ing$/", 1.0), (42, -math.inf),
    )  # fmt: skip
    assert context.notices == ['biases: piece=+2, word=-1.5, " the"=-0.69, /ing$/=+1, 42=-inf']
    assert run("/bias word=0 piece=3", context).get_setting("logit_bias") == (
        (" the", -0.69), ("/ing$/", 1.0), (42, -math.inf), ("piece", 3.0),
    )  # fmt: skip
    assert run("/bias off", context).get_setting("logit_bias") == ()
    assert "seen with a model" in context.shown[-1]


def test_what_bans_and_biases_met_is_shown(pocket: Engine) -> None:
    context = run('/ban " token" /^ [Ww]ord$/', Recorder(engine=pocket))
    run("/bias piece=+2", context)
    drawn = text(context)
    for token, piece in ((pocket.vocab.find(" token"), "·token"), (pocket.vocab.find(" word"), "·word")):
        assert f"{token} {piece}" in drawn
    assert "banned" in drawn and "+2" in drawn
    specs = [one["spec"] for one in context.reports[-1].document["biases"]]  # type: ignore[attr-defined]
    assert specs == ["piece", " token", "/^ [Ww]ord$/"]
    assert "with a bias" in drawn and "A banned text" not in drawn
    with pytest.raises(TuiChatError, match="found in no token"):
        run("/ban /zzzzz/", context)


def test_a_card_explains_what_its_table_holds(pocket: Engine) -> None:
    context = run('/ban " token"', Recorder(engine=pocket))
    assert "the tokens above hold it" in text(context) and "with a bias" not in text(context)
    run("/ban off", context)
    run("/ban zqxjv", context)
    held = text(context)
    assert "no token holds it whole" in held and "tokens above" not in held and "would complete it" in held
    before = len(context.reports)
    run("/ban off", run("/bias off", context))
    assert len(context.reports) == before and context.notices[-1] == "banned: none"
    run("/ban", context)
    assert text(context).strip() == "Nothing is banned, and no token has a bias."


@pytest.mark.parametrize("name", [name for name in ABOUT if name not in ("time_limit_s", "enable_thinking", "stop")])
def test_every_setting_shows_what_it_does(pocket: Engine, name: str) -> None:
    values: dict[str, Any] = {
        "mirostat": 2, "adaptive_target": 0.3, "grammar": "list", "dynatemp_range": 0.5,
        "dry_sequence_breakers": ("\n",), "min_confidence": 0.1,
    }  # fmt: skip
    context = Recorder(engine=pocket)
    context.conversation.append(Role.USER, "What is a token?")
    if name in values:
        context.set_setting(name, values[name])
    run(f"/set {name}", context)
    assert context.reports[-1].document["setting"] == name and "None" not in text(context)


def test_presets_set_all_of_the_chain_and_nothing_else() -> None:
    context = Unloaded()
    for name, value in (("repeat_penalty", 1.3), ("mirostat", 2), ("seed", 7), ("ban", ("x",)), ("max_tokens", 9)):
        context.set_setting(name, value)
    run("/preset creative", context)
    assert context.get_setting("temperature") == 1.5 and context.get_setting("min_p") == 0.1
    assert context.get_setting("top_k") == 0 and context.get_setting("repeat_penalty") == 1
    assert context.get_setting("mirostat") == 0 and len(context.before) == 1
    assert [context.get_setting(name) for name in ("seed", "ban", "max_tokens")] == [7, ("x",), 9]
    assert context.notices[-1].endswith("back to the default: repeat_penalty, mirostat")
    assert "now creative" in offered("/preset ", context)[""]
    run("/temp 1.4", context)
    assert "none of them" in offered("/preset ", context)[""]
    assert {"precise", "balanced", "creative", "chaos", "save"} <= set(offered("/preset "))
    assert "now balanced" in offered("/preset ")[""]


@pytest.mark.parametrize("preset", BUILT_IN, ids=lambda preset: preset.name)
def test_presets_that_come_along_hold(preset: Any) -> None:
    InferenceSettings(**preset.settings()).sampling_params(0)
    assert preset.why.endswith(".") and "\n" not in preset.why


def test_own_presets_are_kept() -> None:
    context = run("/order top_k,temperature", run("/temp 0.35", run("/top-k 7")))
    context.set_setting("dry_sequence_breakers", ("\n", ":"))
    run("/preset save mine", context)
    assert str(presets_file()) in context.notices[-1]
    assert yaml.safe_load(presets_file().read_text()) == {
        "mine": {
            "temperature": 0.35, "top_k": 7, "dry_sequence_breakers": ["\n", ":"], "order": ["top_k", "temperature"],
        }
    }  # fmt: skip
    again = run("/preset mine", Unloaded())
    assert all(again.get_setting(name) == context.get_setting(name) for name in PRESET_FIELDS)
    assert "temperature 0.35, top_k 7" in offered("/preset mi")["mine"]
    run("/preset save other", run("/temp 1.1"))
    run("/preset save mine", run("/temp 0.9"))
    assert {name: dict(all_presets()[name].values) for name in ("mine", "other")} == {
        "mine": {"temperature": 0.9}, "other": {"temperature": 1.1},
    }  # fmt: skip
    run("/preset", again)
    assert "mine" in text(again) and str(presets_file()) in text(again).replace("\n", "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("mine:\n  temperature: hot\n", ":2: preset mine: inference.temperature must be a number"),
        ("mine:\n  temprature: 1\n", ":2: preset mine: inference.temprature is not a setting: did you mean"),
        ("mine:\n  seed: 1\n", ":2: preset mine: seed is not part of a preset"),
        ("mine:\n  top_p: 0.9\n  temperature: 900\n", ":3: preset mine: inference.temperature must be from 0 to 100"),
        ("mine: 3\n", ":1: the preset mine must hold settings"),
        ("Mine!:\n  top_k: 1\n", ":1: a preset cannot be called"),
        ("chaos:\n  top_k: 1\n", ":1: a preset cannot be called"),
        ("mine:\n  top_k: 1\nmine:\n  top_k: 2\n", "mine is set twice"),
        ("mine:\n  mirostat: 2\n  order: [top_k]\n", ":1: preset mine: mirostat is set, but the order"),
        ("mine: [\n", "not valid YAML"),
    ],
)
def test_a_presets_file_that_does_not_hold_names_the_line_and_is_not_written_over(content: str, words: str) -> None:
    presets_file().parent.mkdir(parents=True, exist_ok=True)
    presets_file().write_text(content)
    for act in (all_presets, lambda: save_preset("other", InferenceSettings())):
        with pytest.raises(ConfigError) as caught:
            act()
        assert words in str(caught.value) and str(presets_file()) in str(caught.value)
    assert presets_file().read_text() == content
    assert "precise" in offered("/preset ")


def test_undo_goes_through_the_app() -> None:
    context = run("/redo", run("/undo"))
    assert context.calls == ["step -1", "step 1"]
    assert context.notices == ["there is no change to take back", "there is no change to bring again"]
