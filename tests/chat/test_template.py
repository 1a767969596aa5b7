"""The Jinja sandbox: what real templates need works, and what a hostile one tries ends in a `TemplateError`."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from tui_chat.chat import template_budget
from tui_chat.chat.template import ChatTemplate, TemplateOrigin
from tui_chat.errors import TemplateError

MESSAGES = [{"role": "user", "content": "hi <b>&"}, {"role": "assistant", "content": "häh"}]


def render(source: str, **options: bool) -> str:
    made = ChatTemplate(source, TemplateOrigin("model", "m.gguf"), now=lambda: datetime(2031, 5, 7, tzinfo=UTC))
    return made.render(MESSAGES, bos_token="<s>", eos_token="</s>", **options)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages[0].content }}", "hi <b>&"),
        ("{% for m in messages %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}", "1False22True2"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        ("{% for m in messages if m.role == 'user' %}{{ loop.length }}{% else %}none{% endfor %}", "1"),
        ("{% for m in messages if m.role == 'tool' %}x{% else %}none{% endfor %}", "none"),
        ("{% for key, value in messages[0].items() %}{{ key }}={{ value }};{% endfor %}", "role=user;content=hi <b>&;"),
        ("{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}", "au"),
        ("{% for i in range(3) %}{{ i ~ '.' }}{% endfor %}", "0.1.2."),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{{ messages[1] | tojson }}", '{"role": "assistant", "content": "häh"}'),
        ("{{ {'a': '<'} | tojson(indent=1) }}", '{\n "a": "<"\n}'),
        ("{{ strftime_now('%d %b %Y') }}", "07 May 2031"),
        ("{% generation %}x{{ messages[0].role }}{% endgeneration %}", "xuser"),
        ("{{ nothing }}|{{ nothing is defined }}|{{ tools is none }}|{{ documents is none }}", "|False|True|True"),
        ("{% if tools %}tools{% endif %}{% if not enable_thinking %}off{% endif %}", "off"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{{ bos_token + eos_token }}{% if add_generation_prompt %}go{% endif %}", "<s></s>go"),
        (
            "{% macro say(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
            "[user][assistant]",
        ),
        ("{{ '%s-%s' | format('a', 'b') }}{{ '{}'.format('c') }}{{ 'x' * 3 }}{{ '%d' % 5 }}", "a-bcxxx5"),
        ("{{ messages | map(attribute='role') | join(',') }}", "user,assistant"),
        (
            "{{ ['a', 'b'] | join('-') }}{{ '-'.join(['c', 'd']) }}{{ [{'x': 1}] | join(',', attribute='x') }}",
            "a-bc-d1",
        ),
        ("{{ 'a\\nb' | indent(2) }}{{ 'aXa' | replace('X', 'Y') }}{{ 'aa'.replace('a', 'b', 1) }}", "a\n  baYaba"),
        (
            "{{ [3, 1] | sort | list }}{{ 1.26 | round(1) }}{{ 'abc'[1:] }}{{ [1] + [2] }}{{ none }}",
            "[1, 3]1.3bc[1, 2]None",
        ),
        (
            "{{ 'a' ~ 1 ~ none ~ ['b'] }}{{ 9 | string }}{{ '%5d' % 7 }}{{ '{:>3}'.format('x') }}",
            "a1None['b']9    7  x",
        ),
        ("{{ messages[0].content.split(' ')[-1].lstrip('<') }}", "b>&"),
    ],
)
def test_what_real_templates_do(source: str, text: str) -> None:
    assert render(source) == text


def test_options_reach_the_template() -> None:
    source = "{{ enable_thinking is defined }}{{ enable_thinking }}{{ add_generation_prompt }}"
    assert render(source) == "FalseTrue"
    assert render(source, enable_thinking=False, add_generation_prompt=False) == "TrueFalseFalse"


def test_syntax_errors_name_line_and_source() -> None:
    with pytest.raises(TemplateError, match=r"m\.gguf.*line 3"):
        render("a\nb\n{% if %}")
    with pytest.raises(TemplateError, match=r"line 2.*nosuchtag"):
        render("a\n{% nosuchtag %}")


def test_failures_name_the_line() -> None:
    with pytest.raises(TemplateError, match="line 3"):
        render("a\nb\n{{ messages[9].content }}")
    with pytest.raises(TemplateError, match="refuses these messages: only one"):
        render("{{ raise_exception('only one') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=9) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{{ 'a' * 100000000 }}",
        "{{ 100000000 * [1] }}",
        "{{ 2 ** 100000000 }}",
        "{{ range(10000000) | list | length }}",
        "{{ '{:>99999999}'.format('a') | length }}",
        "{{ '%99999999s' % 'a' | length }}",
        "{{ '%99999999s' | format('a') | length }}",
        "{{ 'a'.center(99999999) | length }}",
        "{{ 'a'.ljust(width) if width else 'a'.zfill(99999999) | length }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
        "{{ lipsum(n=1) }}",
        "{% set n = namespace(x=['a' * 9]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x='') %}{% for i in range(60) %}{% set n.x=namespace(x=[n.x]*2) %}{% endfor %}{{ n.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x, 'a' * 99999 ~ i] %}{% endfor %}",
        "{% set x %}{% for i in range(99999) %}" + "text " * 2000 + "{% endfor %}{% endset %}{{ x | length }}",
    ],
)
def test_hostile_templates_end_in_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source)


LARGE = "{% set a = 'a' * 999999 %}"


@pytest.mark.parametrize(
    "source",
    [
        LARGE + "{{ a.replace('', a) | length }}",
        LARGE + "{{ a | replace('a', a) | length }}",
        LARGE + "{{ range(9999) | join(a) | length }}",
        LARGE + "{{ a.join(range(9999)) | length }}",
        LARGE + "{{ [a] * 9999 | string | length }}",
        LARGE + "{{ ([a] * 9999) | join | length }}",
        LARGE + "{{ ([a] * 9999) | string | length }}",
        LARGE + "{{ ([a] * 9999) | tojson | length }}",
        LARGE + "{{ ('{0}' * 9999).format(a) | length }}",
        LARGE + "{{ ('%s' * 9999) | format(*([a] * 9999)) | length }}",
        LARGE + "{{ ([a] * 9999) ~ '' }}",
        LARGE + "{{ a.replace('a', '\n') | indent(9999) | length }}",
        LARGE + "{{ a.replace('a', '\t').expandtabs(9999) | length }}",
        LARGE + "{{ a.translate({97: a}) | length }}",
        LARGE + "{{ a.split('a') | length }}{{ a.replace('a', 'b ').split() | length }}",
        "{{ 'a' | indent(999999999, true) | length }}",
        "{{ 'a' | center(999999999) | length }}",
        "{{ 'a b' | wordwrap(1, true, 'a' * 999999999) | length }}",
        "{{ '%*d' % (999999999, 1) | length }}",
        "{{ '%*d' | format(999999999, 1) | length }}",
        "{{ '{:{w}}'.format('a', w='999999999') | length }}",
        "{{ '%.999999999f' % 1.5 | length }}",
        "{{ 1 | round(999999999, 'ceil') }}{{ 2 ** 65 }}",
        "{{ {'a': ['b']} | tojson(indent=999999999) | length }}",
        "{{ (5).to_bytes(999999999, 'big') | length }}",
        "{{ [1, 2] | batch(999999999, 'x') | list | length }}",
    ],
)
def test_nothing_large_is_made_on_the_way_to_the_error(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            render(source)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", ["{{ raise_exception.__globals__ }}", "{{ strftime_now.__globals__ }}"])
def test_hidden_attributes_come_out_empty_or_refused(source: str) -> None:
    with suppress(TemplateError):
        assert render(source) == ""


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_SECONDS", -1.0)
    with pytest.raises(TemplateError, match="seconds"):
        render("{% for i in range(9) %}{% endfor %}")


def test_single_message() -> None:
    def single(source: str) -> bool:
        return ChatTemplate(source, TemplateOrigin("settings", "s")).single_message

    assert single("{{ message }}")
    assert not single("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert not single("fixed text")
    assert render("<{{ message }}>") == "<hi <b>&>"
