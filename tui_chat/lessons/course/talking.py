"""Lessons 8 to 10: how a conversation becomes one text, thinking, and how sure the model is of a text."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

from tui_chat.display.figures import percent, perplexity_text
from tui_chat.display.text import piece_label
from tui_chat.engine.engine import Engine
from tui_chat.engine.types import GenerationRequest, Limits, SamplingParams, TokensGenerated, TokenTrace
from tui_chat.language import _, n_
from tui_chat.lessons import heat
from tui_chat.lessons.course.explained import Explained
from tui_chat.lessons.report import Block, Flow, Lane, Lanes, Span, Tone, Verbatim, Words
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.template import Reader, switches_thinking, template
from tui_chat.lessons.watch import Watch

_MOST_THOUGHT = 96
_MOST_DRAWN = 40


def about_templates(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 8: two messages as the model sees them."""
    shown = scene.asking(_("What is a token?"), _("Answer in one sentence."))
    builder = shown.builder(engine)
    report = template(Reader(engine.info.name, engine.vocab, engine.info.n_ctx), builder, shown)
    document: Any = report.document
    n = len(document["ids"])
    said = sum(end - start for start, end in (m["tokens"] for m in document["messages"] if m["tokens"]))
    origin = (
        _("the template in the model's own file")
        if document["template"]["kind"] == "model"
        else _("the template of your settings")
        if document["template"]["kind"] == "settings"
        else _("ChatML, a common template, since this model's file has none")
    )
    blocks: list[Block] = [
        Words(
            _(
                "A model continues one text; it knows nothing of a chat. So a chat template writes all messages into "
                "one text and marks whose words they are: the roles. Here that is done by {origin}. A system text "
                "(how to behave) and a message of a user become:"
            ).format(origin=origin)
        ),
        next(block for block in report.blocks if isinstance(block, Verbatim)),
        Words(
            _(
                "{said} of these {n} tokens were said by somebody; the other {added} are the template's. The end opens "
                "the answer, so going on from there is answering. The model was trained on texts of just this form, "
                "which is why it keeps to the roles: nothing but these marks tells the system's words from yours."
            ).format(said=f"{said:,}", n=f"{n:,}", added=f"{n - said:,}")
        ),
        # The first note of a fallback says what has just been said.
        *(Words(note, Tone.WARN) for note in document["notes"][document["template"]["kind"] == "fallback" :]),
    ]
    figures = {
        "template": document["template"],
        "text": document["text"],
        "n_tokens": n,
        "said_tokens": said,
        "roles": [message["role"] for message in document["messages"]],
    }
    return Explained(tuple(blocks), figures)


def about_thinking(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 9: one question, answered at once and with thinking before it."""
    question = _("What is 17 + 25?")
    asked = scene.asking(question)
    switches = switches_thinking(asked.builder(engine), asked.messages)
    off = _written(engine, watch, replace(asked, enable_thinking=False))
    on = _written(
        engine, watch, replace(asked, enable_thinking=True) if switches else replace(asked, prefill="<think>\n")
    )
    figures = {
        "question": question,
        "switches_thinking": switches,
        "off": {"tokens": off[1], "text": off[0]},
        "on": {"tokens": on[1], "text": on[0]},
    }

    def lane(title: str, written: tuple[str, int]) -> Lane:
        size = n_("{n} token", "{n} tokens", written[1]).format(n=written[1])
        return Lane(
            f"{title} · {size}", (Verbatim((Span(written[0] + ("…" if written[1] == _MOST_THOUGHT else "")),)),)
        )

    intro = Words(
        _(
            "Each token gets one pass, and a pass is a fixed amount of work: what needs more steps than that has to be "
            "written down. Thinking is just that: the model first writes a text between `<think>` and `</think>` that "
            "is not meant for you, and then answers with it before its eyes. To “{question}” this model writes, each "
            "time with its first choices:"
        ).format(question=question)
    )
    if switches:
        lanes = Lanes((lane(_("thinking off"), off), lane(_("thinking on"), on)))
        after = _(
            "It is the same model: the switch only changes the prompt (`/think` shows how). It costs {n} more tokens "
            "here, and so as many more passes. Whether it helps depends on the question and on how the model was "
            "trained; what it thinks may be wrong like any other text."
        ).format(n=on[1] - off[1])
        return Explained((intro, lanes, Words(after)), figures)
    lanes = Lanes((lane(_("as it is"), off), lane(_("begun with <think>"), on)))
    return Explained(
        (
            intro,
            lanes,
            Words(
                _(
                    "The template of this model does not switch thinking, so `/think on` changes nothing here. A think "
                    "block can still be opened by hand: `/prefill` begins an answer for the model, which has to go on "
                    "from there. If it was not trained to think, it will hardly close the block."
                ),
                Tone.WARN,
            ),
        ),
        figures,
        task=_("`/prefill <think>` and then ask “{question}”. Watch what it writes into the block.").format(
            question=question
        ),
    )


def about_confidence(engine: Engine, watch: Watch, scene: Scene) -> Explained:
    """Lesson 10: an answer, token by token, as the model expected it."""
    question = _("What is a token?")
    asked = replace(scene.asking(question), enable_thinking=False)
    traces = _drawn(engine, watch, asked)
    if not traces:
        return Explained((Words(_("The model ended its answer at once, so there is no token to measure.")),))
    mean = fmean(trace.surprisal for trace in traces)
    least, most = (choose(traces, key=lambda trace: trace.surprisal) for choose in (max, min))
    return Explained(
        (
            Words(
                _(
                    "The surprisal of a token says how little the model expected it: −ln p, in nats, as the inspector "
                    "shows it. A coin toss (50%) has 0.69 nats, one in a hundred 4.61. This is an answer to "
                    "“{question}” that was drawn just now at temperature 1, with marks that say how surprising each "
                    "token was:"
                ).format(question=question)
            ),
            heat.legend(),
            Flow(tuple(heat.marked(trace.piece, trace.surprisal) for trace in traces)),
            Words(
                _(
                    "“{most}” came with {most_p}, {most_nats:.2f} nats; “{least}” with {least_p}, {least_nats:.2f} "
                    "nats. The mean over {n} tokens is {mean:.2f} nats, and e to that is the perplexity, {perplexity}: "
                    "as unsure as among so many equally likely tokens. Guessing in the dark would be {vocab:,}."
                ).format(
                    most=piece_label(most.piece),
                    most_p=percent(most.p),
                    most_nats=most.surprisal,
                    least=piece_label(least.piece),
                    least_p=percent(least.p),
                    least_nats=least.surprisal,
                    n=len(traces),
                    mean=mean,
                    perplexity=perplexity_text(math.exp(mean)),
                    vocab=engine.info.n_vocab,
                )
            ),
            Words(
                _(
                    "Both measure what the model expects, not what is true: it can be sure and wrong. A token of many "
                    "nats is most often one that chance put there; from then on the model goes on as if it had been "
                    "its own choice. `/perplexity` measures any text like this."
                )
            ),
        ),
        {
            "question": question,
            "perplexity": math.exp(mean),
            "mean_surprisal": mean,
            "tokens": [
                {
                    "id": trace.id,
                    "text": trace.piece.decode("utf-8", "replace"),
                    "p": trace.p,
                    "surprisal": trace.surprisal,
                }
                for trace in traces
            ],
        },
    )


def _drawn(engine: Engine, watch: Watch, scene: Scene) -> list[TokenTrace]:
    """The figures of an answer that is drawn from the whole distribution."""
    ids = scene.fitted(engine).ids
    params = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=scene.params.seed)
    traces: list[TokenTrace] = []
    with engine.aside(len(ids) + _MOST_DRAWN + 1) as aside:
        request = GenerationRequest(prompt_ids=ids, params=params, limits=Limits(max_tokens=_MOST_DRAWN))
        for event in aside.generate(request, cancel=watch.cancel):
            watch.check()
            if isinstance(event, TokensGenerated):
                traces += [token.trace for token in event.tokens if token.trace is not None]
    return traces


def _written(engine: Engine, watch: Watch, scene: Scene) -> tuple[str, int]:
    """What the model writes with its first choices, and how many tokens that is."""
    prompt = scene.fitted(engine)
    params = replace(scene.sampling(engine), temperature=0.0)
    text, n = scene.prefill, 0
    with engine.aside(len(prompt.ids) + _MOST_THOUGHT + 1) as aside:
        request = GenerationRequest(
            prompt_ids=prompt.ids,
            n_prefilled=prompt.n_prefilled,
            params=params,
            limits=Limits(max_tokens=_MOST_THOUGHT),
            inspect=False,
        )
        for event in aside.generate(request, cancel=watch.cancel):
            watch.check()
            if isinstance(event, TokensGenerated):
                text, n = text + event.text, n + len(event.tokens)
                watch.say(n_("{n} token written", "{n} tokens written", n).format(n=n))
    return text.strip(), n
