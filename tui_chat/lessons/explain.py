"""`explain`: the whole pipeline on one message, stage by stage, with the figures of the very answer that is given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import accumulate, groupby

from tui_chat.chat.prompt import Prompt
from tui_chat.chat.template import TemplateOrigin
from tui_chat.display.figures import FINISH_WORDS, devices, parameters, percent, rate, size, span, stage_name
from tui_chat.display.text import literal, piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import (
    SAMPLING_FIELDS,
    Candidate,
    FinishReason,
    GenerationFinished,
    ModelInfo,
    SamplingParams,
)
from tui_chat.language import _, n_
from tui_chat.lessons import excerpt
from tui_chat.lessons.allocation import Allocation, read_log
from tui_chat.lessons.documents import token_text
from tui_chat.lessons.pipeline import Pipeline, pipeline_document
from tui_chat.lessons.report import (
    Bar,
    Block,
    Cell,
    Column,
    Facts,
    Flow,
    Heading,
    Report,
    Span,
    Table,
    Tone,
    Verbatim,
    Words,
)
from tui_chat.lessons.scene import Scene, warning
from tui_chat.lessons.watch import Watch

_ENDS = 48
"""Tokens of a long prompt that are shown at its beginning and at its end."""
_BEST = 4
_ROWS = 8
_WORDS = re.compile(r"\S*[^\S\n]*\n|\S+[^\S\n]*|[^\S\n]+")
"""Words with the blanks after them, so that text breaks between words and loses none."""
_DEFAULTS = SamplingParams()
_MAIN = ("temperature", "top_k", "top_p", "min_p", "seed")
"""Settings that are named even where they stand as they always do."""
_VALUE_OF = {
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typical": "typical_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "temperature": "temperature",
}
"""Stage to the one setting that says all of it."""


def explain(engine: Engine, watch: Watch, scene: Scene) -> Report:
    """Answer the scene's last message and show every stage of it.

    Args:
        engine: Its cache stays as it is.
        watch: Shown the stages as they come; stops it.
        scene: The messages and the settings they are answered with.

    Raises:
        PromptTooLongError: The last message of a conversation does not fit into the context. Where nothing was said
            before it, its end is used and the report says so.
        TemplateError: The template refuses the messages.
        SamplingError: The settings leave no token to choose.
        CancelledError: It was stopped.
    """
    scene, used = excerpt.part_of_message(engine, scene, reserve=scene.limits.max_tokens)
    prompt = scene.fitted(engine)
    pipeline = Pipeline(prompt, scene.sampling(engine), scene.limits)
    origin = scene.template(engine).origin
    given = (*_settings(engine, pipeline), *_model(engine.info), *_template(engine, origin, prompt, used))

    def report(document: Mapping[str, object]) -> Report:
        return Report(_("explain"), (*given, *_measured(engine, pipeline)), document)

    with (
        engine.aside(len(prompt.ids) + scene.limits.max_tokens) as aside,
        closing(pipeline.run(aside, watch.cancel)) as steps,
    ):
        for _step in steps:
            if pipeline.finished is None:
                watch.show(report({}))
                watch.say(_progress(pipeline))
    watch.check()
    return report({**pipeline_document(engine, origin, pipeline), "excerpt": excerpt.document(used)})


def _progress(pipeline: Pipeline) -> str:
    if not pipeline.tokens:
        total = len(pipeline.prompt.ids)
        return _("prefill: {done} of {total} tokens").format(done=f"{pipeline.n_read:,}", total=f"{total:,}")
    n = len(pipeline.tokens)
    return n_("the loop: {n} token", "the loop: {n} tokens", n).format(n=f"{n:,}")


def _measured(engine: Engine, pipeline: Pipeline) -> Iterator[Block]:
    yield from _prefill(engine, pipeline)
    if pipeline.raw is not None:
        yield from _sampling(engine, pipeline)
    if pipeline.tokens or pipeline.finished:
        yield from _loop(engine, pipeline)
    if pipeline.finished is not None:
        yield from _statistics(engine, pipeline, pipeline.finished)


def _settings(engine: Engine, pipeline: Pipeline) -> list[Block]:
    params, limits = pipeline.params, pipeline.limits
    named = [name for name in SAMPLING_FIELDS if name in _MAIN or getattr(params, name) != getattr(_DEFAULTS, name)]
    rows = [(name, _setting(getattr(params, name))) for name in named]
    rows.append(("max_tokens", str(limits.max_tokens)))
    if limits.stop:
        rows.append(("stop", "  ".join(f"`{literal(stop)}`" for stop in limits.stop)))
    rows.append(("n_ctx", str(engine.context.n_ctx)))
    return [Heading(_("1 · Settings")), Facts(tuple(rows))]


def _setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(
            f"{item[0]}{item[1]:+g}" if isinstance(item, tuple) else stage_name(str(item)) for item in value
        )
    return str(value)


def _model(info: ModelInfo) -> list[Block]:
    return [
        Heading(_("2 · Model and device")),
        Facts(
            (
                (_("model"), f"{info.name}, {info.description}"),
                (
                    _("shape"),
                    _("{params} parameters: {layers} layers, width {width}, {heads} heads, {vocab:,} tokens").format(
                        params=parameters(info.n_params),
                        layers=info.n_layer,
                        width=info.n_embd,
                        heads=info.n_head,
                        vocab=info.n_vocab,
                    ),
                ),
                (
                    _("device"),
                    _("{devices}, flash attention {flash}, KV cache in {k} and {v}").format(
                        devices=devices(info), flash=_(info.flash_attn), k=info.type_k, v=info.type_v
                    ),
                ),
                (
                    _("loaded"),
                    _("{size} in {span}").format(size=size(info.size_bytes), span=span(info.load_s)),
                ),
            )
        ),
    ]


def _template(engine: Engine, origin: TemplateOrigin, prompt: Prompt, used: excerpt.Excerpt | None) -> list[Block]:
    made_by = {
        "settings": _("The template of the settings turns the messages into one text."),
        "model": _("The template in the model file turns the messages into one text."),
        "fallback": _("The model has no template; ChatML turns the messages into one text."),
    }[origin.kind]
    head, tail = _ends(prompt.ids)
    left_out = len(prompt.ids) - len(head) - len(tail)
    gap = Span(n_("… {n} token …", "… {n} tokens …", left_out).format(n=f"{left_out:,}"), Tone.DIM)
    rendered = [_rendered(engine, head), _rendered(engine, tail)]
    listed = [tuple(_numbered(engine, token) for token in part) for part in (head, tail)]
    n_control = sum(engine.vocab.is_special(token) for token in prompt.ids)
    return [
        Heading(_("3 · Template")),
        Words(made_by + " " + _("Its special tokens mark where each begins and ends:")),
        # The first note of a fallback says what has just been said.
        *(Words(_(note), Tone.WARN) for note in prompt.notes[origin.kind == "fallback" :]),
        *warning(prompt.dropped),
        *excerpt.warning(used),
        Verbatim((*rendered[0], Span("\n"), gap, Span("\n"), *rendered[1]) if left_out else rendered[0]),
        Heading(_("4 · Token ids")),
        Words(
            n_(
                "The tokenizer gives {n} token, {special} of them special; the model sees the numbers alone:",
                "The tokenizer gives {n} tokens, {special} of them special; the model sees the numbers alone:",
                len(prompt.ids),
            ).format(n=f"{len(prompt.ids):,}", special=f"{n_control:,}")
        ),
        Flow((*listed[0], Span("  "), gap, Span("  "), *listed[1]) if left_out else listed[0]),
    ]


def _ends(ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """All of a short prompt and nothing, or the beginning and the end of a long one."""
    return (ids, ()) if len(ids) <= 2 * _ENDS else (ids[:_ENDS], ids[-_ENDS:])


def _rendered(engine: Engine, ids: Sequence[int]) -> tuple[Span, ...]:
    return tuple(
        Span(token_text(b"".join(map(engine.vocab.piece, run))), Tone.CONTROL if special else Tone.PLAIN)
        for special, run in groupby(ids, engine.vocab.is_special)
    )


def _numbered(engine: Engine, token: int) -> Span:
    label = piece_label(engine.vocab.piece(token))
    gap = "" if label.endswith("⏎") else "  "
    return Span(f"{token} {label}{gap}", Tone.CONTROL if engine.vocab.is_special(token) else Tone.PLAIN)


def _prefill(engine: Engine, pipeline: Pipeline) -> list[Block]:
    n = len(pipeline.prompt.ids)
    heading = Heading(_("5 · Prefill"))
    if pipeline.prefill_s is None:
        return [heading, Words(_progress(pipeline), Tone.DIM)]
    passed = n_(
        "All {n} tokens at once, in {span} ({rate}):",
        "All {n} tokens in {batches} batches, in {span} ({rate}):",
        pipeline.n_batches,
    )
    return [
        heading,
        Words(
            passed.format(
                n=f"{n:,}",
                batches=f"{pipeline.n_batches:,}",
                span=span(pipeline.prefill_s),
                rate=rate(n / pipeline.prefill_s),
            )
        ),
        Facts(tuple(_shapes(engine, n))),
    ]


def _shapes(engine: Engine, n: int) -> list[tuple[str, str]]:
    info, found = engine.info, read_log(engine.load_log)
    rows = [
        (
            _("embedding"),
            _("`({n}, {width})`: each id picks its row of the table of {vocab:,} × {width}").format(
                n=n, width=info.n_embd, vocab=info.n_vocab
            ),
        ),
        (
            n_("{n} layer", "{n} layers", info.n_layer).format(n=info.n_layer),
            _layers(info, found, n),
        ),
    ]
    if (kept := found.cache_bytes(n, info.n_ctx)) is not None:
        each = [
            _("{layers} × keys `({n}, {k})` and values `({n}, {v})`").format(layers=layers, n=n, k=k, v=v)
            for layers, k, v in (cache.shape for cache in found.caches)
        ]
        rows.append(
            (
                _("KV cache"),
                _("{parts} = {size}, kept: the next pass needs no more of these tokens").format(
                    parts=" + ".join(each), size=size(kept)
                ),
            )
        )
    rows.append(
        (
            _("logits"),
            _("`({vocab},)`: of the last place alone, one for each token there is").format(vocab=info.n_vocab),
        )
    )
    return rows


def _layers(info: ModelInfo, found: Allocation, n: int) -> str:
    """What the layers do to the vectors of `n` tokens."""
    if found.recurrent and not found.caches:
        words = _("`({n}, {width})` each time: each carries a state from place to place and adds what it makes of it")
    elif found.recurrent:
        words = _(
            "`({n}, {width})` each time: some look back by attention in {heads} heads, the others carry a state from "
            "place to place; each adds to what is there"
        )
    else:
        words = _(
            "`({n}, {width})` each time: attention in {heads} heads, in which each place looks at those before it, "
            "then a feed-forward net{inner}; both add to what is there"
        )
    return words.format(n=n, width=info.n_embd, heads=info.n_head, inner=_inner(info))


def _inner(info: ModelInfo) -> str:
    """The width inside the feed-forward nets, where the file gives one for all of them."""
    width = info.metadata.get(f"{info.architecture}.feed_forward_length", "")
    experts = info.metadata.get(f"{info.architecture}.expert_count", "0")
    return _(" of width {width}").format(width=width) if width.isdigit() and experts == "0" else ""


def _sampling(engine: Engine, pipeline: Pipeline) -> list[Block]:
    raw, choice, params = pipeline.raw, pipeline.choice, pipeline.params
    assert raw is not None and choice is not None
    start = [Candidate(token, logit, math.exp(logit - raw.logsumexp)) for token, logit in raw.top]
    rows: list[tuple[Cell, ...]] = [(_("the model"), f"{engine.info.n_vocab:,}", _best(engine, start))]
    for stage in choice.stages:
        value = f" {getattr(params, _VALUE_OF[stage.name]):g}" if stage.name in _VALUE_OF else ""
        rows.append((stage_name(stage.name) + value, f"{stage.survivors:,}", _best(engine, stage.candidates)))
    return [
        Heading(_("6 · Sampling the first token")),
        Words(
            _(
                "The softmax makes probabilities of the logits (entropy {nats:.3f} nats: as unsure as between {n:,.1f} "
                "equally likely tokens). Then the chain, and what each stage leaves:"
            ).format(nats=raw.entropy, n=math.exp(raw.entropy))
        ),
        Table((Column(_("stage")), Column(_("left"), "right"), Column(_("the best of them"), grows=True)), tuple(rows)),
        *_draw(engine, pipeline),
    ]


def _best(engine: Engine, candidates: Sequence[Candidate]) -> str:
    shown = [f"{piece_label(engine.vocab.piece(c.id))} {percent(c.p)}" for c in candidates[:_BEST]]
    return "   ".join(shown)


def _draw(engine: Engine, pipeline: Pipeline) -> list[Block]:
    choice = pipeline.choice
    assert choice is not None
    label = literal(piece_label(engine.vocab.piece(choice.id)))
    if choice.u is None:
        return [Words(_("At temperature 0 nothing is drawn: the best one is taken, `{token}`.").format(token=label))]
    ids = choice.ids.tolist()
    picked = ids.index(choice.id)
    rows: list[tuple[Cell, ...]] = []
    for place, (token, p, total) in enumerate(zip(ids, choice.p.tolist(), accumulate(choice.p.tolist()), strict=True)):
        if place < _ROWS or place == picked:
            name = Span(piece_label(engine.vocab.piece(token)), Tone.STRONG if place == picked else Tone.PLAIN)
            rows.append((str(place + 1), name, percent(p), f"{total:.4f}", "◀" if place == picked else "", Bar(p)))
    return [
        Words(
            _(
                "The draw is `u = {u:.4f}`, made of the seed and the position in the context. The first token at which "
                "the running sum exceeds it is `{token}`:"
            ).format(u=choice.u, token=label)
        ),
        Table(
            (
                Column("#", "right"),
                Column(_("token"), grows=True),
                Column("p", "right"),
                Column(_("sum"), "right"),
                Column(),
                Column(),
            ),
            tuple(rows),
        ),
    ]


def _loop(engine: Engine, pipeline: Pipeline) -> list[Block]:
    found = read_log(engine.load_log)
    words = (
        _(
            "The picked token goes in as the only new one, `(1, {width})`; what the layers keep of the text takes it "
            "in, and the pass gives the logits of the next. So it goes on, token by token:"
        )
        if found.recurrent or found.bytes_per_token is None
        else _(
            "The picked token goes in as the only new one, `(1, {width})`; its keys and values join the cache, and "
            "the pass gives the logits of the next. So it goes on, token by token:"
        )
    )
    blocks: list[Block] = [Heading(_("7 · The loop")), Words(words.format(width=engine.info.n_embd))]
    rows: list[tuple[Cell, ...]] = []
    for number, token in enumerate(pipeline.tokens[:_ROWS], start=1):
        trace = token.trace
        assert trace is not None
        at = f"{(trace.seconds - pipeline.watching_s) * 1000:,.0f} ms"
        drawn = _("best") if trace.u is None else f"{trace.u:.4f}"
        name = piece_label(token.piece)
        rows.append((str(number), name, percent(trace.p), str(trace.rank), f"{trace.entropy:.2f}", drawn, at))
    if rows:
        blocks.append(
            Table(
                (
                    Column("#", "right"),
                    Column(_("token"), grows=True),
                    Column("p", "right"),
                    Column(_("rank"), "right"),
                    Column(_("entropy, nats"), "right"),
                    Column("u", "right"),
                    Column(_("after"), "right"),
                ),
                tuple(rows),
            )
        )
    if more := max(0, len(pipeline.tokens) - _ROWS):
        blocks.append(Words(n_("… and {n} more", "… and {n} more", more).format(n=f"{more:,}"), Tone.DIM))
    if pipeline.text:
        blocks += [Heading(_("The answer")), Flow(tuple(map(Span, _WORDS.findall(pipeline.text))))]
    return blocks


def _statistics(engine: Engine, pipeline: Pipeline, done: GenerationFinished) -> list[Block]:
    usage, timings = done.usage, done.timings
    generated = usage.generated
    used = usage.prompt + generated
    assert pipeline.prefill_s is not None and pipeline.ttft_s is not None
    rows = [
        (_("stop reason"), _ending(engine, done)),
        (_("tokens"), _("{prompt} of prompt, {n} generated").format(prompt=f"{usage.prompt:,}", n=f"{generated:,}")),
        (_("context"), _("{used} of {n_ctx} places").format(used=f"{used:,}", n_ctx=f"{engine.context.n_ctx:,}")),
        (_("first token"), _("after {span}").format(span=span(pipeline.ttft_s))),
        (_("prefill"), f"{span(pipeline.prefill_s)}, {rate(usage.prompt / pipeline.prefill_s)}"),
    ]
    if generated > 1:
        rows.append((_("decode"), f"{span(timings.decode_s)}, {rate(timings.tokens_per_s)}"))
    if (perplexity := pipeline.perplexity) is not None:
        rows.append(
            (
                _("perplexity"),
                _("{ppl:.2f} over the answer: before the chain, on average as unsure as between so many tokens").format(
                    ppl=perplexity
                ),
            )
        )
    return [Heading(_("8 · Statistics")), Facts(tuple(rows))]


def _ending(engine: Engine, done: GenerationFinished) -> str:
    words = _(FINISH_WORDS[done.reason])
    end = done.end
    if done.reason is not FinishReason.EOS or end is None or end.trace is None:
        return words
    return _("{words}: `{token}` came, with p {p}").format(
        words=words, token=literal(piece_label(end.piece)), p=percent(end.trace.p)
    )
