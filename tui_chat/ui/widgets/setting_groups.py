"""The settings as the sampling pane shows them: in groups, each with how it is stepped, typed and explained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import ValidationError

from tui_chat.config import InferenceSettings, Settings
from tui_chat.config.explain import explain
from tui_chat.engine.types import DEFAULT_ORDER, MAX_SEED
from tui_chat.language import N_, _
from tui_chat.ui.widgets.value_row import ValueSpec


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A setting that is not a number: it is changed by a command."""

    name: str
    label: str
    line: str
    """What the command begins with."""
    hint: str
    empty: str = N_("none")


Spec = ValueSpec | TextSpec


@dataclass(frozen=True, slots=True)
class Group:
    """Settings under a heading."""

    name: str
    title: str
    """Empty where the one setting stands for itself."""
    specs: tuple[Spec, ...] = ()
    """Empty for the order, whose rows are the stages."""
    open: bool = False
    """Whether its rows are shown from the beginning."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The settings in it."""
        return tuple(spec.name for spec in self.specs) or ("order",)


def groups(defaults: InferenceSettings) -> tuple[Group, ...]:
    """Gives the groups in the order of the pane.

    Args:
        defaults: The values that settings go back to.
    """

    def filled(spec: Spec) -> Spec:
        return replace(spec, default=getattr(defaults, spec.name)) if isinstance(spec, ValueSpec) else spec

    return tuple(replace(group, specs=tuple(map(filled, group.specs))) for group in _GROUPS)


def text_of(spec: Spec, value: object) -> str:
    """Gives a value as text, as its row shows it."""
    if isinstance(spec, ValueSpec):
        return spec.show(value if isinstance(value, int | float) else None)
    if isinstance(value, tuple):
        parts = [f"{part[0]} {part[1]:+g}" if isinstance(part, tuple) else str(part) for part in value]
        return ", ".join(part if part.strip() == part else repr(part) for part in parts) or _(spec.empty)
    return " ".join(str(value).split()) or _(spec.empty)


def complaint(name: str, value: float | None) -> str | None:
    """Gives why a value does not hold for a setting, or None."""
    try:
        Settings.model_validate({"inference": {name: value}})
    except ValidationError as error:
        return explain(error)[0][1].removeprefix("inference.")
    return None


def matches(group: Group, query: str) -> tuple[str, ...]:
    """Gives the settings of a group that a search finds: by name, by label, or all of them by the group's title.

    Of the order, they are the stages.
    """
    wanted = _plain(query)
    named = {spec.name: f"{spec.name} {spec.label}" for spec in group.specs} or {
        stage: stage for stage in DEFAULT_ORDER
    }
    all_of_them = group.title != "" and wanted in _plain(_(group.title))
    return tuple(name for name, words in named.items() if all_of_them or wanted in _plain(words))


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())


def _slider(
    name: str, label: str, low: float, high: float, step: float, coarse: float, hint: str,
    *, curve: float = 1.0, off: float | None = None,
) -> ValueSpec:  # fmt: skip
    """A number on a track, its default to be filled in."""
    return ValueSpec(
        name=name, label=label, low=low, high=high, step=step, coarse=coarse, default=None,
        integer=isinstance(step, int), curve=curve, off=off, hint=hint,
    )  # fmt: skip


def _field(
    name: str, label: str, low: float, high: float, step: float, coarse: float, hint: str, *, empty: str | None = None
) -> ValueSpec:
    """A number without a track, its default to be filled in."""
    return ValueSpec(
        name=name, label=label, low=low, high=high, step=step, coarse=coarse, default=None,
        integer=isinstance(step, int), track=False, hint=hint, empty=empty,
    )  # fmt: skip


_GROUPS: tuple[Group, ...] = (
    Group("temperature", N_("temperature & dynamic"), (
        _slider("temperature", "temperature", 0, 2, 0.05, 0.25, N_("Lower is safer; 0 always takes the best.")),
        _slider("dynatemp_range", "dynamic ±", 0, 2, 0.05, 0.25, off=0,
                hint=N_("Lets the temperature follow the entropy this far up and down.")),
        _slider("dynatemp_exponent", "its exponent", 0, 4, 0.1, 0.5, N_("How the entropy bends on its way there.")),
    ), open=True),
    Group("truncation", N_("truncation"), (
        _slider("top_k", "top-k", 0, 200, 1, 10, N_("Keeps only the k best tokens."), curve=2, off=0),
        _slider("top_p", "top-p", 0, 1, 0.01, 0.05, N_("Keeps the best tokens until they sum to p."), off=1),
        _slider("min_p", "min-p", 0, 1, 0.01, 0.05, N_("Drops tokens below this share of the best."), curve=2, off=0),
        _slider("typical_p", "typical", 0, 1, 0.01, 0.05, off=1,
                hint=N_("Keeps tokens of typical surprisal until they sum to p.")),
        _slider("top_n_sigma", "top-n-sigma", 0.1, 5, 0.1, 0.5, off=-1,
                hint=N_("Keeps logits within n standard deviations of the best.")),
    ), open=True),
    Group("penalties", N_("penalties"), (
        _slider("repeat_penalty", "repeat", 1, 2, 0.01, 0.05, N_("Makes recent tokens less likely."), off=1),
        _slider("frequency_penalty", "frequency", -2, 2, 0.05, 0.25, off=0,
                hint=N_("Taken from a logit each time the token came.")),
        _slider("presence_penalty", "presence", -2, 2, 0.05, 0.25, N_("Taken once from each recent token."), off=0),
        _field("repeat_last_n", "last n tokens", -1, 1_000_000, 1, 16, N_("How far they look back; -1 is all.")),
    )),
    Group("dry", N_("DRY"), (
        _slider("dry_multiplier", "strength", 0, 5, 0.05, 0.25, N_("Against going on with a repetition."), off=0),
        _slider("dry_base", "base", 1, 4, 0.05, 0.25, N_("How fast it grows with the length of the repetition.")),
        _slider("dry_allowed_length", "allowed length", 0, 20, 1, 5, N_("The longest repetition it lets pass.")),
        _field("dry_penalty_last_n", "last n tokens", -1, 1_000_000, 1, 16, N_("How far it looks back; -1 is all.")),
        TextSpec("dry_sequence_breakers", "breakers", "/set dry_sequence_breakers ",
                 N_("Texts that a repetition does not reach across.")),
    )),
    Group("xtc", N_("XTC"), (
        _slider("xtc_probability", "probability", 0, 1, 0.05, 0.25, off=0,
                hint=N_("The chance that it removes the likeliest tokens.")),
        _slider("xtc_threshold", "threshold", 0, 0.5, 0.01, 0.05, N_("Only tokens above this can be removed.")),
    )),
    Group("mirostat", N_("mirostat"), (
        _slider("mirostat", "version", 0, 2, 1, 1, N_("1 or 2 steers the surprise, in place of truncation."), off=0),
        _slider("mirostat_tau", "tau", 0, 10, 0.1, 1, N_("The surprise it aims at, bits.")),
        _slider("mirostat_eta", "eta", 0, 1, 0.01, 0.1, N_("How fast it corrects itself.")),
    )),
    Group("adaptive_p", N_("adaptive-p"), (
        _slider("adaptive_target", "target", 0, 1, 0.05, 0.25, off=-1,
                hint=N_("Prefers tokens whose probability is near this.")),
        _slider("adaptive_decay", "decay", 0, 0.99, 0.01, 0.1, N_("How long it remembers what was drawn.")),
    )),
    Group("bias", N_("bias & bans"), (
        TextSpec("logit_bias", "biases", "/bias ", N_("Makes single tokens likelier or less likely.")),
        TextSpec("ban", "bans", "/ban ", N_("Texts and tokens that never come.")),
    )),
    Group("grammar", N_("grammar & schema"), (
        TextSpec("grammar", "grammar", "/grammar ", N_("What answers must look like; holds from the next answer on.")),
        TextSpec("json_schema", "JSON schema", "/json ", N_("Answers are JSON of this form, from the next one on.")),
    )),
    Group("limits", N_("limits"), (
        _field("max_length", "max tokens", 1, 1_000_000, 16, 128, N_("An answer ends here at the latest.")),
        TextSpec("stop", "stop texts", "/stop ", N_("Texts that end an answer.")),
        _field("time_limit_s", "seconds", 1, 3600, 1.0, 10.0, empty="none", hint=N_("An answer ends after this time.")),
        _field("min_confidence", "confidence", 0, 1, 0.01, 0.05, empty="none",
               hint=N_("An answer ends when the best token is less likely.")),
    )),
    Group("seed", "", (
        _field("seed", "seed", 0, MAX_SEED, 1, 100, N_("Same seed, same answer. Empty is random."), empty="random"),
    )),
    Group("order", N_("order")),
)  # fmt: skip
"""All of them, in the order of the pane."""
