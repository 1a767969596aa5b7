"""Completion: what is offered, in which order, what is highlighted, and what is inserted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.commands.recorder import Recorder
from tui_chat.commands.chatting import default_registry
from tui_chat.commands.completion import Completion, complete
from tui_chat.commands.fuzzy import match, nearest
from tui_chat.engine.types import DEFAULT_ORDER

REGISTRY = default_registry()


def offered(line: str, cursor: int | None = None) -> Completion:
    found = complete(line, REGISTRY, Recorder(), cursor=cursor)
    assert found is not None
    return found


def labels(line: str) -> list[str]:
    return [suggestion.label for suggestion in offered(line).suggestions]


def test_prefix_before_word_start_before_subsequence() -> None:
    names = ["top-k", "stop", "tokens", "repeat-penalty", "temp", "penalty", "autopilot"]
    ranked = sorted((fit.rank, name) for name in names if (fit := match("p", name)) is not None)
    assert [name for _, name in ranked][:2] == ["penalty", "repeat-penalty"]
    ranked = sorted((fit.rank, name) for name in names if (fit := match("top", name)) is not None)
    assert [name for _, name in ranked] == ["top-k", "stop", "autopilot"]


def test_spans() -> None:
    def spans(query: str, text: str) -> tuple[tuple[int, int], ...] | None:
        fit = match(query, text)
        return None if fit is None else fit.spans

    assert spans("te", "Temp") == ((0, 2),)
    assert spans("k", "top-k") == ((4, 5),)
    assert spans("rp", "repeat-penalty") == ((0, 1), (7, 8))
    assert spans("rpt", "repeat-penalty") == ((0, 1), (2, 3), (5, 6))
    assert spans("xy", "top-k") is None
    assert spans("", "top-k") == ()
    assert spans("öl", "KÖLN") == ((1, 3),)


@given(st.text(max_size=6), st.text(max_size=20))
def test_spans_spell_the_query(query: str, text: str) -> None:
    fit = match(query, text)
    if fit is None:
        return
    found = "".join(text[start:end] for start, end in fit.spans)
    assert found.casefold() == query.casefold() or len(text.casefold()) != len(text)
    flat = [place for span in fit.spans for place in range(*span)]
    assert flat == sorted(set(flat))


@given(st.text("abc-", max_size=4), st.text("abcd-", max_size=12))
def test_a_match_is_found_where_the_letters_are(query: str, text: str) -> None:
    letters = iter(text)
    assert (match(query, text) is not None) == all(letter in letters for letter in query)


def test_nearest() -> None:
    assert nearest("hlep", ["help", "temp"])[0] == "help"
    assert nearest("tk", ["top-k", "help"]) == ["top-k"]
    assert nearest("zzz", ["help"]) == []


def test_all_commands_are_offered_in_the_order_of_the_help() -> None:
    assert labels("/") == [f"/{command.name}" for command in REGISTRY]
    assert offered("/").start == 0


def test_commands_are_ranked() -> None:
    assert labels("/te")[0] == "/temp"
    assert labels("/t")[0] in ("/temp", "/top-k", "/top-p", "/theme", "/tokens")
    assert labels("/tk")[0] == "/top-k"
    assert labels("/pen")[0] in ("/repeat-penalty", "/repeat-penalty (penalty)")
    assert labels("/exit")[0] == "/quit (exit)"
    assert labels("/zzz") == []


def test_a_command_shows_its_present_value() -> None:
    temp = offered("/temp").suggestions[0]
    assert (temp.label, temp.insert, temp.value) == ("/temp", "/temp ", "0.7")
    assert [temp.label[start:end] for start, end in temp.spans] == ["temp"]
    quit_ = offered("/quit").suggestions[0]
    assert quit_.insert == "/quit"
    alias = offered("/exit").suggestions[0]
    assert [alias.label[start:end] for start, end in alias.spans] == ["exit"]


def test_arguments() -> None:
    found = offered("/theme li")
    assert [suggestion.insert for suggestion in found.suggestions] == ["tui-chat-light"]
    assert found.start == len("/theme ")
    assert found.hint == "name: a theme · now dark"
    assert offered("/help te").suggestions[0].insert == "temp"
    assert offered("/temp ").hint.startswith("value: 0 to 100")
    models = offered("/model my")
    assert [suggestion.insert for suggestion in models.suggestions] == ["/models/my model.gguf"]
    assert offered("/model '/models/my mo").suggestions[0].insert == "/models/my model.gguf"
    assert offered("/system be brief").hint.startswith("text: ")


def test_the_stages_of_an_order_are_offered_one_by_one() -> None:
    assert labels("/order ")[0] == "default" and set(labels("/order ")) > set(DEFAULT_ORDER)
    assert labels("/order top")[:3] == ["top_k", "top_p", "top_n_sigma"]
    assert labels("/order min-p")[0] == "min_p"
    for typed in ("top_k,", "top_k, ", "top-k ", "[TOP_K, "):
        assert labels(f"/order {typed}") == [name for name in DEFAULT_ORDER if name != "top_k"], typed
    found = offered("/order top_k, min-p,te")
    assert (found.start, found.suggestions[0].insert) == (len("/order top_k, min-p,"), "temperature")
    assert "min_p" not in labels("/order top_k, min-p,m")
    assert offered("/order ").hint.endswith("now default")


def test_the_hint_of_a_setting_shows_the_value_it_has() -> None:
    assert offered("/set ").hint == "name: a setting"
    assert offered("/set typical_p ").hint.endswith(" · now 1")
    assert offered("/set typ 0.").hint.endswith(" · now 1")
    assert offered("/set max_tokens 9").hint.endswith(" · now 512")
    for line in ("/set nothing ", "/set xtc ", "/set system "):
        assert "now" not in offered(line).hint


def test_nothing_is_offered_elsewhere() -> None:
    context = Recorder()
    for line in ("", "hello", "hello /te", "/usr/bin", "/new ", "/nothing x", "/temp 1 2", "/te\nmore"):
        assert complete(line, REGISTRY, context) is None, line
    assert complete("hello", REGISTRY, context, cursor=0) is None


def test_only_what_is_before_the_cursor_counts() -> None:
    assert offered("/temp 1", cursor=3).suggestions[0].label == "/temp"
    assert complete("/te\nmore", REGISTRY, Recorder(), cursor=3) is not None


@given(st.text(max_size=20))
def test_completion_never_fails(line: str) -> None:
    for text in (line, "/" + line, "/model " + line, "/theme " + line, f"/set {line} ", "/order " + line):
        found = complete(text, REGISTRY, Recorder())
        if found is not None:
            assert 0 <= found.start <= len(text)
