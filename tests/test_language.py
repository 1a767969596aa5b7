"""The catalogues: every text is translated, with the placeholders of the English one; and how a language is chosen."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from string import Formatter
from typing import Any, TypeGuard

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

import tui_chat
from tui_chat import language
from tui_chat.cli.program import run
from tui_chat.commands.chatting import default_registry
from tui_chat.errors import PromptTooLongError, UsageError
from tui_chat.language import LANGUAGES, N_, _, n_

PACKAGE = Path(tui_chat.__file__).parent

CODES = tuple(code for code in LANGUAGES if code != "en")

MARKS = ("_", "n_", "N_")

Id = str | tuple[str, str]
"""A text, or its forms for one and for many."""


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    language.use("en")


# What the source says


@cache
def _calls() -> tuple[tuple[str, ast.Call], ...]:
    """Every call that marks a text, and where it is."""
    return tuple(
        (f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}", node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(_tree(path))
        if _is_marking(node)
    )


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _is_marking(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _texts(call: ast.Call) -> list[ast.expr]:
    return call.args[:2] if _name(call) == "n_" else call.args[:1]


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@cache
def _marked() -> frozenset[str]:
    """Every text that is marked, the forms for one and for many each."""
    return frozenset(text for _where, call in _calls() for node in _texts(call) if (text := _literal(node)) is not None)


def _from(module: str, name: str) -> Any:
    return getattr(import_module(f"tui_chat.{module}"), name)


def _values(module: str, name: str, *fields: str) -> Callable[[], Iterable[str]]:
    """The texts in a table: the value itself, those of a mapping, or these fields of its members."""

    def texts() -> Iterator[str]:
        found = _from(module, name)
        found = found() if callable(found) else found
        members = found.values() if isinstance(found, Mapping) else [found] if isinstance(found, str) else found
        for member in members:
            if isinstance(member, tuple) and not fields:
                yield member[0]
            elif not fields:
                yield member
            for field in fields:
                yield getattr(member, field)

    return texts


def _key_texts() -> Iterator[str]:
    for _group, bound in _from("ui.keys", "GROUPS"):
        yield from (binding.description for binding in bound if binding.id)


def _prompt_notes() -> Iterator[str]:
    for node in ast.walk(_tree(PACKAGE / "chat" / "prompt.py")):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "notes.append":
            (text,) = node.args
            yield (_literal(text.args[0]) if _is_marking(text) else None) or ast.unparse(text)


def _setting_groups(field: str) -> Callable[[], Iterable[str]]:
    return lambda: (getattr(group, field) for group in _shown_groups())


def _setting_specs(field: str) -> Callable[[], Iterable[str]]:
    return lambda: (getattr(spec, field) for group in _shown_groups() for spec in group.specs)


def _shown_groups() -> Any:
    return _from("ui.widgets.setting_groups", "groups")(_from("config", "InferenceSettings")())


LATER: Mapping[str, Callable[[], Iterable[str]]] = {
    "EXAMPLE_QUESTION": _values("lessons.scene", "EXAMPLE_QUESTION"),
    "EXAMPLE": lambda: (_from("cli.tokens", "EXAMPLE"),),
    "_ENDS[reason]": _values("lessons.answers", "_ENDS"),
    "FINISH_WORDS[done.reason]": _values("display.figures", "FINISH_WORDS"),
    "FINISH_WORDS[run.finished.reason]": _values("display.figures", "FINISH_WORDS"),
    "FINISH_WORDS[reason]": _values("display.figures", "FINISH_WORDS"),
    "FINISH_WORDS[run.ended]": _values("display.figures", "FINISH_WORDS"),
    "about": lambda: (about for _condition, about in _from("commands.stepping", "CONDITIONS")),
    "ABOUT[STAGE_FIELDS[stage][0]]": _values("commands.every_setting", "ABOUT"),
    "preset.why": _values("config.presets", "BUILT_IN", "why"),
    "DEFAULT_TOPIC": _values("lessons.haiku", "DEFAULT_TOPIC"),
    "run.name": _values("lessons.haiku", "TEMPERATURES"),
    "build['name']": lambda: (
        build.name for build in (*_from("lessons.builds", "BUILDS"), _from("lessons.builds", "NATIVE"))
    ),
    "build['gives']": lambda: (
        build.gives for build in (*_from("lessons.builds", "BUILDS"), _from("lessons.builds", "NATIVE"))
    ),
    "feature.meaning": lambda: (
        meaning for name in ("_X86", "_ARM", "_ANY") for _flag, meaning in _from("lessons.builds", name).values()
    ),
    "figure.label": _values("lessons.stats", "_FIGURES", "label"),
    "kind": _values("lessons.tokens", "_NO_MERGES"),
    "group": lambda: (
        *_from("lessons.formulas", "FIGURES"),
        *(command.group for command in default_registry()),
        *(group for group, _bound in _from("ui.keys", "GROUPS")),
    ),
    "figure.title": _values("lessons.formulas", "all_figures", "title"),
    "figure.formula": _values("lessons.formulas", "all_figures", "formula"),
    "figure.words": _values("lessons.formulas", "all_figures", "words"),
    "figure.source": _values("lessons.formulas", "all_figures", "source"),
    "lesson.title": _values("lessons.course.lessons", "LESSONS", "title"),
    "lesson.aim": _values("lessons.course.lessons", "LESSONS", "aim"),
    "lesson.task": _values("lessons.course.lessons", "LESSONS", "task"),
    "lesson.after": _values("lessons.course.lessons", "LESSONS", "after"),
    "command.summary": _values("commands.chatting", "default_registry", "summary"),
    "command.details": _values("commands.chatting", "default_registry", "details"),
    "argument.hint": lambda: (argument.hint for command in default_registry() for argument in command.arguments),
    "text": lambda: (text for command in default_registry() for _line, text in command.examples),
    "knob.range": _values("commands.settings", "KNOBS", "range"),
    "knob.details": _values("commands.settings", "KNOBS", "details"),
    "ABOUT[name]": _values("commands.every_setting", "ABOUT"),
    "row.description": _key_texts,
    "PLACEHOLDER": _values("ui.widgets.composer", "PLACEHOLDER"),
    "note": _prompt_notes,
    "info.flash_attn": lambda: ("on", "off"),
    "figures.FINISH_WORDS[FinishReason(message.finish_reason)]": _values("display.figures", "FINISH_WORDS"),
    "LESSONS[next_ - 1].title": _values("lessons.course.lessons", "LESSONS", "title"),
    "LESSONS[open_ - 1].task": _values("lessons.course.lessons", "LESSONS", "task"),
    "_NAMED_GRAMMARS[name]": _values("commands.constraints", "_NAMED_GRAMMARS"),
    "what": _values("commands.view", "MEASURES"),
    "self._measure.value": lambda: (one.value for one in _from("ui.tints", "Measure")),
    "self.measure.value": lambda: (one.value for one in _from("ui.tints", "Measure")),
    "WaterfallTable.HINT": lambda: (_from("ui.widgets.waterfall_table", "WaterfallTable").HINT,),
    "self.KEYS_HINT": lambda: (_from("ui.widgets.sampling_panel", "SamplingPanel").KEYS_HINT,),
    "group.title": _setting_groups("title"),
    "self.group.title": _setting_groups("title"),
    "self.spec.hint": _setting_specs("hint"),
    "spec.empty": lambda: (
        spec.empty for group in _shown_groups() for spec in group.specs if not hasattr(spec, "track")
    ),
}
"""What is translated where it is shown, and all the texts it can be."""


def test_only_literals_are_translated_and_what_is_marked_with_n() -> None:
    said = {ast.unparse(node): where for where, call in _calls() for node in _texts(call) if _literal(node) is None}
    unknown = {expression: where for expression, where in said.items() if expression not in LATER}
    assert not unknown, "put the literal into _(), .format() behind it; or mark it with N_ and name it in LATER"
    assert not LATER.keys() - said.keys(), "no longer in use"


@pytest.mark.parametrize("expression", sorted(LATER))
def test_what_is_translated_later_is_marked(expression: str) -> None:
    texts = [text for text in LATER[expression]() if text]
    assert texts
    assert not [text for text in texts if text not in _marked()]


def test_no_text_is_translated_while_a_module_is_imported() -> None:
    """It would stay in the language of that moment: mark it with N_, and translate it where it is shown."""
    frozen = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in _evaluated_at_import(_tree(path))
        if _is_marking(node) and _name(node) != "N_"
    ]
    assert not frozen


def _evaluated_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: all but the bodies of functions. Defaults and decorators run too."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        inside: list[ast.AST] = [*node.args.defaults, *(value for value in node.args.kw_defaults if value is not None)]
        inside += [] if isinstance(node, ast.Lambda) else node.decorator_list
    else:
        yield node
        inside = list(ast.iter_child_nodes(node))
    for child in inside:
        yield from _evaluated_at_import(child)


def test_no_text_is_translated_once_and_kept() -> None:
    """A function whose results are kept would keep them in the language of its first call."""
    kept = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef) and any("cache" in ast.unparse(mark) for mark in node.decorator_list)
        for inside in ast.walk(node)
        if _is_marking(inside) and _name(inside) != "N_"
    ]
    assert not kept


def test_no_text_is_marked_within_an_f_string() -> None:
    """Babel does not look there before Python 3.12."""
    hidden = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(inside)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.JoinedStr)
        for inside in ast.walk(node)
        if _is_marking(inside) and None not in map(_literal, _texts(inside))
    ]
    assert not hidden


# What the catalogues say


def _po(code: str) -> Path:
    return language.LOCALE_DIR / code / "LC_MESSAGES" / f"{language.DOMAIN}.po"


@cache
def _catalogue(code: str) -> Catalog:
    with _po(code).open("rb") as file:
        return read_po(file, locale=code)


def _messages(catalogue: Catalog) -> list[Message]:
    return [message for message in catalogue if message.id]


def _forms(texts: object) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts) if isinstance(texts, list | tuple) else ()


def _translated(code: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Forms of each text and of its translation, where it has one."""
    found = [(_forms(message.id), _forms(message.string)) for message in _messages(_catalogue(code))]
    return [(ids, strings) for ids, strings in found if all(strings)]


def test_every_language_has_a_catalogue_and_no_other() -> None:
    assert {path.name for path in language.LOCALE_DIR.iterdir()} == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_nothing_is_missing_or_guessed(code: str) -> None:
    ids = {text for message in _messages(_catalogue(code)) for text in _forms(message.id)}
    assert sorted(_marked() - ids) == [], "run `make messages`, then translate"
    assert sorted(ids - _marked()) == [], "run `make messages`: these are not in the program any more"
    assert [message.id for message in _messages(_catalogue(code)) if not all(_forms(message.string))] == []
    assert [message.id for message in _messages(_catalogue(code)) if message.fuzzy] == []


@pytest.mark.parametrize("code", CODES)
def test_every_plural_has_its_forms(code: str) -> None:
    catalogue = _catalogue(code)
    wanted = {
        tuple(text for node in _texts(call) if (text := _literal(node)) is not None)
        for _where, call in _calls()
        if _name(call) == "n_"
    }
    plural = {message.id: message.string for message in _messages(catalogue) if isinstance(message.id, tuple)}
    assert wanted == set(plural)
    assert all(isinstance(strings, tuple) and len(strings) == catalogue.num_plurals for strings in plural.values())


@pytest.mark.parametrize("code", CODES)
def test_a_translation_has_the_placeholders_of_its_text(code: str) -> None:
    for ids, strings in _translated(code):
        assert _fields(strings[-1]) == _fields(ids[-1]), strings
        if len(ids) > 1:  # what is said of one may leave the number out
            assert _fields(strings[0]) <= _fields(ids[-1]), strings


@pytest.mark.parametrize("code", CODES)
def test_a_translation_keeps_literals_and_blanks(code: str) -> None:
    for ids, strings in _translated(code):
        for text, string in zip(ids, strings, strict=True):
            assert string.count("`") == text.count("`"), string
            assert _commands(string) == _commands(text), string
            assert (string[:1].isspace(), string[-1:].isspace()) == (text[:1].isspace(), text[-1:].isspace()), string
            assert string.count("\n") == text.count("\n"), string


def _fields(text: str) -> set[tuple[str | None, str | None, str | None]]:
    """Name, format and conversion of each placeholder."""
    return {(name, spec, conversion) for _text, name, spec, conversion in Formatter().parse(text) if name is not None}


def _commands(text: str) -> list[str]:
    """Slash commands and options, which are the same in every language."""
    return sorted(re.findall(r"(?<![\w>])(?:/[a-z][a-z-]+|--[a-z][a-z-]+)", text))


@pytest.mark.parametrize("code", CODES)
def test_what_is_compiled_is_what_is_written(code: str) -> None:
    with _po(code).with_suffix(".mo").open("rb") as file:
        compiled = read_mo(file)
    afresh = io.BytesIO()
    write_mo(afresh, _catalogue(code))
    afresh.seek(0)
    assert _said(compiled) == _said(read_mo(afresh)), "run `make messages`"


def _said(catalogue: Catalog) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {_forms(message.id): _forms(message.string) for message in _messages(catalogue)}


# How a language is chosen


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"LANG": "pt_BR.UTF-8"}, "pt"),
        ({"LANG": "pt"}, "pt"),
        ({"LANG": "es_MX"}, "es"),
        ({"LANG": "es_419.UTF-8@euro"}, "es"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "de"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": ""}, "en"),
        ({}, "en"),
        ({"LC_MESSAGES": "es_ES", "LANG": "pt_BR"}, "es"),
        ({"LC_ALL": "en_GB.UTF-8", "LC_MESSAGES": "es_ES", "LANG": "pt_BR"}, "en"),
        ({"LC_ALL": "", "LANG": "pt_PT"}, "pt"),
    ],
)
def test_the_locale_chooses(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], code: str) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    language.use(None)
    assert language.present() == code


@pytest.mark.parametrize(("given", "code"), [("es", "es"), ("pt_BR", "pt"), ("pt-br", "pt"), ("EN", "en")])
def test_a_code_chooses_whatever_the_locale(monkeypatch: pytest.MonkeyPatch, given: str, code: str) -> None:
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    language.use(given)
    assert language.present() == code


@pytest.mark.parametrize("given", ["de", "xx", "klingon", " ", ""])
def test_an_unknown_code_is_refused_and_changes_nothing(given: str) -> None:
    language.use("es")
    with pytest.raises(UsageError, match="español"):
        language.use(given)
    assert language.present() == "es"


def test_a_language_is_spoken_from_then_on() -> None:
    spoken = []
    for code in LANGUAGES:
        language.use(code)
        spoken.append((_("entropy"), n_("{n} layer", "{n} layers", 1), n_("{n} layer", "{n} layers", 2)))
    assert spoken == [
        ("entropy", "{n} layer", "{n} layers"),
        ("entropía", "{n} capa", "{n} capas"),
        ("entropia", "{n} camada", "{n} camadas"),
    ]
    assert N_("entropy") == "entropy"


def test_what_a_lesson_runs_into_is_told_in_the_language() -> None:
    error = PromptTooLongError(500, 64)
    told = []
    for code in LANGUAGES:
        language.use(code)
        told.append(language.said(error))
    assert told[0] == str(error) and len(set(told)) == len(LANGUAGES)
    assert all("500" in text and "64" in text and "n_ctx" in text for text in told)
    assert language.said(UsageError("as it is")) == "as it is"


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_table_of_keys_has_room_for_what_a_key_does(code: str) -> None:
    language.use(code)
    assert [said for text in _key_texts() if len(said := _(text)) > 17] == []


def test_a_text_that_also_has_a_plural_is_translated_alone() -> None:
    plural = {message.id[0] for message in _messages(_catalogue("pt")) if isinstance(message.id, tuple)}
    alone = {_literal(call.args[0]) for _where, call in _calls() if _name(call) == "_"}
    assert "model" in plural & alone
    language.use("pt")
    assert _("model") == "modelo"


def test_a_missing_translation_is_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalog(locale="es")
    catalogue.add("entropy", "entropía")
    catalogue.add("logit", "")
    catalogue.add(("{n} layer", "{n} layers"), ("", ""))
    path = tmp_path / "es" / "LC_MESSAGES" / f"{language.DOMAIN}.mo"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_mo(file, catalogue)
    monkeypatch.setattr(language, "LOCALE_DIR", tmp_path)
    language.use("es")
    assert _("entropy") == "entropía"
    assert (_("surprisal"), _("logit")) == ("surprisal", "logit")
    assert [n_("{n} layer", "{n} layers", n) for n in (1, 2)] == ["{n} layer", "{n} layers"]
    assert [n_("{n} token", "{n} tokens", n) for n in (0, 1)] == ["{n} tokens", "{n} token"]
    language.use("pt")
    assert _("entropy") == "entropy"


# On the command line


@pytest.mark.parametrize(
    ("code", "word"), [("en", "greedy choice"), ("es", "elección voraz"), ("pt", "escolha gulosa")]
)
def test_lang_is_the_language_of_a_lesson(capsys: pytest.CaptureFixture[str], code: str, word: str) -> None:
    assert run(["logits", "The sky is", "--lang", code]) == 0
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        ["logits", "The sky is"],
        ["logits", "The sky is", "-n", "0"],
        ["tokens", "token"],
        ["tokens", "token", "--stdin"],
        ["haiku", "rain"],
        ["haiku", ""],
        ["explain", "What is a token?"],
        ["why", "entropy"],
        ["why", "nothing"],
        ["template"],
        ["template", "--messages", "no such file"],
        ["memory"],
        ["kernels"],
        ["info", "builtin"],
        ["perplexity", "--text", "A token is a piece of text."],
        ["perplexity", "--text", ""],
        ["stats"],
        ["learn"],
        ["learn", "1"],
        ["learn", "99"],
    ],
    ids=" ".join,
)
def test_every_lesson_speaks_every_language(capsys: pytest.CaptureFixture[str], line: list[str]) -> None:
    """A text, or what is said of wrong use, comes in the language, and in another one for each."""
    said = set()
    for code in LANGUAGES:
        status = run([*line, "--lang", code])
        captured = capsys.readouterr()
        said.add(captured.err if status else captured.out)
    assert len(said) == len(LANGUAGES)


def test_the_setting_is_the_language_too_and_the_flag_comes_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("ui:\n  language: pt\n")
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    assert run(["tokens", "token", "--config", str(file)]) == 0
    assert "seu vocabulário" in capsys.readouterr().out
    assert run(["tokens", "token", "--config", str(file), "--lang", "en"]) == 0
    assert "its vocabulary" in capsys.readouterr().out
    assert run(["tokens", "token"]) == 0
    assert "su vocabulario" in capsys.readouterr().out


def test_an_unknown_language_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokens", "token", "--lang", "de"]) == 2
    error = capsys.readouterr().err
    assert "'de'" in error
    assert "es (español)" in error


def test_a_language_there_is_not_is_a_setting_that_does_not_hold(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("ui:\n  educational: true\n  language: de\n")
    assert run(["config", "--check", str(file), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["key"], problem["line"]) == ("ui.language", 3)
    assert run(["tokens", "token", "--config", str(file)]) == 2
    assert f"{file}:3: ui.language: there is no language 'de'" in capsys.readouterr().err
    assert run(["doctor", "--config", str(file), "--json"]) == 1
    assert f"{file}:3: ui.language" in json.loads(capsys.readouterr().out)["problems"][-1]


def test_the_document_has_the_same_keys_and_figures_in_every_language(capsys: pytest.CaptureFixture[str]) -> None:
    documents = set()
    for code in LANGUAGES:
        assert run(["logits", "The sky is", "--json", "--lang", code]) == 0
        documents.add(capsys.readouterr().out)
    assert len(documents) == 1
