"""The formulas that `/why` explains: each with its name, its symbols, words for who learns it, and where to read more.

How a figure comes about with the numbers of one token is the work of the function named with it, in `workings` and
`sampling_workings`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tui_chat.errors import UsageError
from tui_chat.language import N_, _
from tui_chat.lessons import sampling_workings as sampling
from tui_chat.lessons import workings
from tui_chat.lessons.inspected import Inspected
from tui_chat.lessons.working import Working


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that can be asked for."""

    name: str
    """What to write after `/why`."""
    title: str
    formula: str
    words: str
    source: str
    work: Callable[[Inspected], Working]
    aliases: tuple[str, ...] = ()


TOKEN, CHAIN, ANSWER, MODEL = N_("the token"), N_("how it was drawn"), N_("the answer"), N_("the model")

_SHANNON = N_("Shannon, A Mathematical Theory of Communication, 1948")
_PENALTIES = N_("llama.cpp: `llama_sampler_penalties_apply`")
_DECODING = N_("Pope et al., Efficiently Scaling Transformer Inference, 2022; llama.cpp: `llama_perf_context`")

FIGURES: Mapping[str, tuple[Figure, ...]] = {
    TOKEN: (
        Figure(
            "probability",
            N_("probability"),
            N_("p(t) = e^(logit(t) − logsumexp)"),
            N_(
                "How likely the model held the token before any setting acted: the softmax of its logit. All tokens of "
                "the vocabulary together have 1."
            ),
            N_(
                "Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, 1990; llama.cpp: "
                "`llama_sampler_softmax_impl`"
            ),
            workings.probability,
            ("p", "prob", "softmax"),
        ),
        Figure(
            "rank",
            N_("rank"),
            N_("rank(t) = 1 + tokens with a higher logit"),
            N_("The token's place when all are sorted by logit. Rank 1 is what temperature 0 would have taken."),
            N_("Gehrmann, Strobelt & Rush, GLTR: Statistical Detection and Visualization of Generated Text, 2019"),
            workings.rank,
        ),
        Figure(
            "logit",
            N_("logit"),
            N_("logit(t) = h · w(t) = logsumexp + ln p(t)"),
            N_(
                "The raw score of the token: h, the state the layers made of the text so far, times w(t), the token's "
                "row of the output matrix (a few models scale or cap the product). Only differences of logits count: "
                "one more makes a token e = 2.718 times as likely."
            ),
            N_(
                "Press & Wolf, Using the Output Embedding to Improve Language Models, 2017; llama.cpp: "
                "`llama_get_logits_ith`"
            ),
            workings.logit,
        ),
        Figure(
            "logsumexp",
            N_("logsumexp"),
            N_("logsumexp = best + ln Σ e^(logit(t) − best)"),
            N_(
                "The logarithm of the sum of e^logit over all tokens: what is subtracted from a logit to make it the "
                "logarithm of a probability. The best logit is taken out first, so that no power grows too large."
            ),
            N_(
                "Blanchard, Higham & Higham, Accurately Computing the Log-Sum-Exp and Softmax Functions, 2021; "
                "llama.cpp: `llama_sampler_softmax_impl`"
            ),
            workings.logsumexp,
            ("lse",),
        ),
        Figure(
            "entropy",
            N_("entropy"),
            N_("H = Σ p(t) × −ln p(t)"),
            N_(
                "How unsure the model was before the choice: the surprisal to be expected. 0 means that only one token "
                "could come."
            ),
            _SHANNON,
            workings.entropy,
            ("h",),
        ),
        Figure(
            "surprisal",
            N_("surprisal"),
            N_("s(t) = −ln p(t) = logsumexp − logit(t)"),
            N_(
                "How unexpected the token was that came: 0 for one that was certain, 0.69 for an even chance, 4.6 for "
                "one in a hundred."
            ),
            N_("Shannon, A Mathematical Theory of Communication, 1948; Hale, A Probabilistic Earley Parser, 2001"),
            workings.surprisal,
        ),
    ),
    CHAIN: (
        Figure(
            "repeat-penalty",
            N_("repeat penalty"),
            N_("logit > 0: logit ÷ penalty\nelse: logit × penalty"),
            N_(
                "Makes tokens that stand in the last repeat_last_n tokens less likely. A negative logit is multiplied, "
                "since dividing would raise it."
            ),
            N_("Keskar et al., CTRL, 2019; llama.cpp: `llama_sampler_penalties_apply`"),
            sampling.repeat_penalty,
            ("repetition-penalty",),
        ),
        Figure(
            "frequency-penalty",
            N_("frequency penalty"),
            N_("logit − times it occurred × penalty"),
            N_(
                "Subtracted for every time the token stands in the last repeat_last_n tokens, after the repeat penalty."
            ),
            _PENALTIES,
            sampling.frequency_penalty,
        ),
        Figure(
            "presence-penalty",
            N_("presence penalty"),
            N_("logit − penalty"),
            N_(
                "Subtracted once if the token stands in the last repeat_last_n tokens, however often, after the "
                "frequency penalty."
            ),
            _PENALTIES,
            sampling.presence_penalty,
        ),
        Figure(
            "top-k",
            N_("top-k cut"),
            N_("left = min(k, tokens before)"),
            N_("Keeps the k tokens with the highest logits and removes all others, however much or little they hold."),
            N_(
                "Fan, Lewis & Dauphin, Hierarchical Neural Story Generation, 2018; llama.cpp: "
                "`llama_sampler_top_k_impl`"
            ),
            sampling.top_k,
        ),
        Figure(
            "top-p",
            N_("top-p cut"),
            N_("left = least n with (p₁ + … + pₙ) ÷ Σ p ≥ top_p"),
            N_(
                "Keeps the fewest of the best tokens that hold this share of the probability, the last one included. "
                "Where the model is sure that is one token, where it is not many. Σ p is what all tokens hold that "
                "came to this cut."
            ),
            N_(
                "Holtzman et al., The Curious Case of Neural Text Degeneration, 2020; llama.cpp: "
                "`llama_sampler_top_p_apply`"
            ),
            sampling.top_p,
            ("nucleus",),
        ),
        Figure(
            "min-p",
            N_("min-p cut"),
            N_("left = tokens with p ≥ min_p × p₁"),
            N_(
                "Removes what is too unlikely beside the best token. The surer the model, the higher the bound; that "
                "is why texts stay readable at high temperatures."
            ),
            N_(
                "Nguyen et al., Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs, 2024; "
                "llama.cpp: `llama_sampler_min_p_apply`"
            ),
            sampling.min_p,
        ),
        Figure(
            "temperature",
            N_("temperature"),
            N_("logit(t) ÷ T\np(a) ÷ p(b) = e^((logit(a) − logit(b)) ÷ T)"),
            N_(
                "Below 1 the differences between logits grow and the best tokens win more often; above 1 they shrink "
                "and the others get their chance."
            ),
            N_(
                "Ackley, Hinton & Sejnowski, A Learning Algorithm for Boltzmann Machines, 1985; llama.cpp: "
                "`llama_sampler_temp_impl`"
            ),
            sampling.temperature,
            ("temp", "t"),
        ),
        Figure(
            "after",
            N_("p after the chain"),
            N_("p′(t) = p(t)^(1 ÷ T) ÷ Σ p^(1 ÷ T)"),
            N_("The share the token was drawn with: the sum goes over the tokens that were left, and no others."),
            N_("llama.cpp: `llama_sampler_chain_apply`, then `llama_sampler_softmax_impl`"),
            sampling.after_chain,
            ("chosen", "final"),
        ),
        Figure(
            "u",
            N_("the draw, u"),
            N_("u = Philox(seed, position)\nsum before the token ≤ u < sum with it"),
            N_(
                "A number from 0 to 1 that follows from the seed and the token's position in the context alone. The "
                "tokens that are left lie side by side, best first, each as wide as it is likely; u says on which one "
                "the choice falls. The same seed at the same position draws the same number again."
            ),
            N_(
                "Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011; Devroye, Non-Uniform Random Variate "
                "Generation, 1986. llama.cpp's own draw is `llama_sampler_dist_apply`"
            ),
            sampling.draw,
            ("draw", "seed"),
        ),
    ),
    ANSWER: (
        Figure(
            "perplexity",
            N_("perplexity"),
            N_("PPL = e^(Σ s(t) ÷ n)"),
            N_(
                "e to the mean surprisal: on average each token was as hard to guess as one of so many equally likely "
                "ones. Of its own answers a model mostly thinks highly; of a text it did not write, perplexity says "
                "more."
            ),
            N_("Jelinek et al., Perplexity: a Measure of the Difficulty of Speech Recognition Tasks, 1977"),
            workings.perplexity,
            ("ppl",),
        ),
        Figure(
            "tok/s",
            N_("decode speed"),
            N_("(tokens − 1) ÷ seconds from the first token to the end"),
            N_(
                "The first token is left out: it comes out of the prefill. Each further one is a pass over all "
                "weights, so it is mostly the speed of memory that counts."
            ),
            _DECODING,
            workings.speed,
            ("speed", "rate", "tokens/s", "decode"),
        ),
        Figure(
            "prefill",
            N_("prefill speed"),
            N_("(tokens of the prompt − those in the cache) ÷ seconds"),
            N_("The tokens of the prompt pass the model together, in batches, so one costs less than a token written."),
            _DECODING,
            workings.prefill,
        ),
        Figure(
            "first-token",
            N_("first-token time"),
            N_("prefill + first choice"),
            N_(
                "From the moment the prompt was there to the first token. What the cache held already was not read "
                "again."
            ),
            _DECODING,
            workings.first_token,
            ("ttft",),
        ),
        Figure(
            "context",
            N_("context use"),
            N_("(tokens of the prompt + of the answer) ÷ n_ctx"),
            N_(
                "What the model can look back on. The prompt holds all of the conversation before, so each turn begins "
                "with more; where it is full, the oldest messages are left out."
            ),
            N_("Liu et al., Lost in the Middle: How Language Models Use Long Contexts, 2023; llama.cpp: `llama_n_ctx`"),
            workings.context,
            ("ctx",),
        ),
    ),
    MODEL: (
        Figure(
            "kv",
            N_("KV cache"),
            N_("layers × (numbers of a key × bytes + numbers of a value × bytes)"),
            N_(
                "What each layer keeps of every token, so that no token is computed twice. The room for as many tokens "
                "as the context holds is taken when the model is loaded; the text fills it token by token."
            ),
            N_(
                "Shazeer, Fast Transformer Decoding: One Write-Head is All You Need, 2019; Ainslie et al., GQA, 2023; "
                "llama.cpp: `llama_kv_cache`"
            ),
            workings.kv_bytes,
            ("kv-bytes", "kv-cache", "cache"),
        ),
    ),
}
"""Everything that can be asked for, by what it is a figure of."""


def all_figures() -> tuple[Figure, ...]:
    """All figures, in the order of `FIGURES`."""
    return tuple(figure for group in FIGURES.values() for figure in group)


def find_figure(name: str) -> Figure:
    """The figure of a name.

    Raises:
        UsageError: There is none; names the nearest.
    """
    by_name = {alias: figure for figure in all_figures() for alias in (figure.name, *figure.aliases)}
    wanted = re.sub(r"[\s_]+", "-", name.strip().lower())
    if wanted not in by_name:
        near = [by_name[match].name for match in difflib.get_close_matches(wanted, by_name, n=2)]
        if near:
            hint = _("did you mean {names}?").format(names=_(" or ").join(dict.fromkeys(near)))
        else:
            hint = _("there are {names}").format(names=", ".join(figure.name for figure in all_figures()))
        raise UsageError(_("there is no figure {name!r} to explain: {hint}").format(name=name, hint=hint))
    return by_name[wanted]
