"""Options that several commands share, and the settings that come out of them.

An option for a setting is not passed to the command: it is noted in the context, so that `tui-chat --temperature 0
generate …` and `tui-chat generate --temperature 0 …` mean the same, and `current_settings()` brings everything
together. A command that wants them in groups in its help uses `cls=Command`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tui_chat import language

if TYPE_CHECKING:
    from tui_chat.config import LoadedSettings

F = TypeVar("F", bound=Callable[..., Any])

_FLAGS = "tui_chat.flags"
_CONFIG = "tui_chat.config"
_MODEL = "tui_chat.model"
_CONTINUE = "tui_chat.continue"


class SettingOption(click.Option):
    """An option that overrides one setting, or several at once.

    Args:
        declarations: The flag, or a flag and its short form.
        settings: Dotted names of the settings it overrides.
        heading: Group it stands in on the help page.
    """

    def __init__(
        self, declarations: Sequence[str], *, settings: tuple[str, ...], heading: str, **attributes: Any
    ) -> None:
        super().__init__(declarations, expose_value=False, callback=self._note, **attributes)
        self.settings = settings
        self.heading = heading

    def _note(self, ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None and value != ():
            flags = ctx.meta.setdefault(_FLAGS, {})
            flags.update(dict.fromkeys(self.settings, value))
        return value


class GroupedHelp(click.Command):
    """A command whose help page shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a heading first."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "heading", "Options"), []).append(record)
        for heading in sorted(groups, key=lambda name: name != "Options"):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])
            if heading == "Options" and isinstance(self, click.Group):
                self.format_commands(ctx, formatter)


class Command(GroupedHelp):
    """The class for commands with shared options: `@click.command(cls=Command)`."""


def current_flags() -> dict[str, object]:
    """Dotted name to value of the settings given as flags, of this command and of the group it was called through."""
    return dict(click.get_current_context().meta.get(_FLAGS, {}))


def current_settings() -> LoadedSettings:
    """The effective settings of the command that is running; from now on it explains things in their language.

    Raises:
        ConfigError: A setting does not hold.
    """
    from tui_chat.config import load_settings

    file = click.get_current_context().meta.get(_CONFIG)
    loaded = load_settings(file=file, env=os.environ, flags=current_flags())
    language.use(loaded.settings.ui.language)
    return loaded


def model_option(command: F) -> F:
    """`--model`, passed as `model: str | None`."""
    return click.option(
        "-m",
        "--model",
        metavar="MODEL",
        callback=_inherit(_MODEL),
        help="A GGUF file, REPO:FILE on the Hub, a training ('best', 'latest', its name, NAME/step-N), or 'builtin'. "
        "Default: the configured one, else the built-in one.",
    )(command)


def config_option(command: F) -> F:
    """`--config` and `--lang`, which `current_settings` reads."""
    command = click.option(
        "--lang",
        cls=SettingOption,
        settings=("ui.language",),
        heading="Options",
        metavar="CODE",
        help="Language of what is explained: en, es or pt. Default: the locale's.",
    )(command)
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_inherit(_CONFIG),
        help="Settings file to read instead of the one in the configuration directory.",
    )(command)


def continue_option(command: F) -> F:
    """`--continue`, passed as `resume: bool`."""
    return click.option(
        "--continue",
        "resume",
        is_flag=True,
        default=None,
        callback=lambda ctx, option, value: bool(_inherit(_CONTINUE)(ctx, option, value or None)),
        help="Go on with the conversation that was written last.",
    )(command)


def json_option(command: F) -> F:
    """`--json`, passed as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")(command)


def sampling_options(command: F) -> F:
    """Every setting of `SamplingParams` as a flag, and `--ban`."""
    return _apply(command, _SAMPLING)


def answer_options(command: F) -> F:
    """When an answer ends: `--max-tokens`, `--stop`, `--time-limit`, `--min-confidence`."""
    return _apply(command, _ANSWER)


def llm_options(command: F) -> F:
    """How the model is loaded."""
    return _apply(command, _LLM)


def ui_options(command: F) -> F:
    """How the app looks."""
    return _apply(command, _UI)


def educational_option(command: F) -> F:
    """`--educational`, for what answers without a screen; `ui_options` has it too."""
    return _apply(command, (_EDUCATIONAL,))


def _inherit(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None:
            ctx.meta[name] = value
        return ctx.meta.get(name)

    return callback


def _setting(flag: str, *settings: str, heading: str, kind: Any = None, says: str, **more: Any) -> Callable[[F], F]:
    if kind in (int, float):
        more.setdefault("metavar", "N" if kind is int else "X")
    return click.option(flag, cls=SettingOption, settings=settings, heading=heading, type=kind, help=says, **more)


def _apply(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def _bias(text: str) -> tuple[int | str, float]:
    match = re.fullmatch(r"(.+)([+-](?:inf|\d+(?:\.\d*)?|\.\d+))", text, re.ASCII | re.DOTALL)
    if match is None or match[2] == "+inf":
        raise click.BadParameter(
            f"{text!r} must be a token (id, text or /pattern/) and a signed bias, such as 42+1.5, however-3 or 42-inf"
        )
    return _ban(match[1]), -math.inf if match[2] == "-inf" else float(match[2])


def _ban(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _order(text: str) -> str:
    return text.replace("-", "_")


def _sampling(flag: str, kind: Any, says: str, **more: Any) -> Callable[[F], F]:
    name = flag.removeprefix("--").replace("-", "_")
    return _setting(flag, f"inference.{name}", heading="Sampling", kind=kind, says=says, **more)


_SAMPLING: tuple[Callable[[Any], Any], ...] = (
    _sampling("--temperature", float, "Divides the logits; 0 is greedy."),
    _sampling("--top-k", int, "Keep the k best tokens; 0 is off."),
    _sampling("--top-p", float, "Keep the best tokens up to this sum of probabilities; 1 is off."),
    _sampling("--min-p", float, "Keep tokens with this share of the best one's probability; 0 is off."),
    _sampling("--typical-p", float, "Keep tokens of typical surprisal up to this sum; 1 is off."),
    _sampling("--top-n-sigma", float, "Keep logits within n standard deviations of the best; 0 or less is off."),
    _sampling("--xtc-probability", float, "Chance that XTC removes the likeliest tokens; 0 is off."),
    _sampling("--xtc-threshold", float, "Probability above which XTC removes all but the last; above 0.5 is off."),
    _sampling("--repeat-penalty", float, "Divides the logits of recent tokens; 1 is off."),
    _sampling("--repeat-last-n", int, "Recent tokens that penalties look at; 0 is none, -1 all."),
    _sampling("--frequency-penalty", float, "Subtracted once per occurrence; 0 is off."),
    _sampling("--presence-penalty", float, "Subtracted once from what occurred; 0 is off."),
    _sampling("--dry-multiplier", float, "Strength of the penalty on continued repetitions; 0 is off."),
    _sampling("--dry-base", float, "Growth of that penalty with the length of the repetition."),
    _sampling("--dry-allowed-length", int, "Longest repetition that passes."),
    _sampling("--dry-penalty-last-n", int, "Recent tokens that DRY looks at; 0 is none, -1 all."),
    _sampling(
        "--dry-sequence-breakers",
        None,
        "Text that a repetition does not reach across; repeatable.",
        multiple=True,
        metavar="TEXT",
    ),
    _sampling("--dynatemp-range", float, "Let the temperature follow the entropy this far both ways; 0 is off."),
    _sampling("--dynatemp-exponent", float, "How the entropy bends on its way to the temperature."),
    _sampling("--mirostat", int, "1 or 2: steer the surprise instead of truncating; 0 is off."),
    _sampling("--mirostat-tau", float, "The surprise mirostat aims at, bits."),
    _sampling("--mirostat-eta", float, "How fast mirostat corrects itself."),
    _sampling("--adaptive-target", float, "Prefer tokens whose probability is near this; below 0 is off."),
    _sampling("--adaptive-decay", float, "How long adaptive-p remembers what was drawn."),
    _sampling(
        "--grammar",
        None,
        "What the answer must look like, as GBNF: a file, the text, or json, list, arithmetic, chess.",
        metavar="FILE|TEXT|NAME",
    ),
    _sampling(
        "--json-schema", None, "The answer is JSON that this schema describes: a file or the text.", metavar="FILE|TEXT"
    ),
    _sampling(
        "--logit-bias",
        _bias,
        "Add to the logits of a token: its id, a text (its first tokens) or a /pattern/; repeatable.",
        multiple=True,
        metavar="TOKEN(+|-)BIAS",
    ),
    _sampling(
        "--ban",
        _ban,
        "What never comes: a text, however it is cut, or tokens by id or by a /pattern/; repeatable.",
        multiple=True,
        metavar="TEXT|ID|/PATTERN/",
    ),
    _sampling("--seed", int, "Seed of the draw; a fresh one for each answer if not set."),
    _sampling(
        "--order",
        _order,
        "Stages of the sampler chain in their order; one left out does not run. By default logit_bias, grammar, "
        "penalties, dry, top_n_sigma, top_k, typical, top_p, min_p, xtc, temperature, mirostat, adaptive_p.",
        metavar="STAGE,STAGE,…",
    ),
)

_ANSWER: tuple[Callable[[Any], Any], ...] = (
    _setting(
        "--max-tokens",
        "inference.max_length",
        heading="Answer",
        kind=int,
        says="Most tokens in an answer.",
    ),
    _setting(
        "--stop",
        "inference.stop",
        heading="Answer",
        metavar="TEXT",
        says="Text that ends an answer; repeatable.",
        multiple=True,
    ),
    _setting(
        "--time-limit",
        "inference.time_limit_s",
        heading="Answer",
        kind=float,
        metavar="SECONDS",
        says="End an answer after this time.",
    ),
    _setting(
        "--min-confidence",
        "inference.min_confidence",
        heading="Answer",
        kind=float,
        metavar="P",
        says="End an answer when the best token's probability falls below this.",
    ),
)

_LLM: tuple[Callable[[Any], Any], ...] = (
    _setting(
        "--n-ctx", "llm.n_ctx", heading="Model", kind=int, says="Tokens the context holds; 0 takes the model's own."
    ),
    _setting("--threads", "llm.n_threads", heading="Model", kind=int, says="CPU threads; 0 chooses."),
    _setting("--n-gpu-layers", "llm.n_gpu_layers", heading="Model", kind=int, says="Layers on the GPU; -1 is all."),
    _setting(
        "--flash-attn",
        "llm.flash_attn",
        heading="Model",
        kind=click.Choice(["auto", "on", "off"]),
        says="Flash attention.",
    ),
    _setting(
        "--kv-type",
        "llm.type_k",
        "llm.type_v",
        heading="Model",
        kind=click.Choice(["f32", "f16", "q8_0"]),
        says="Storage type of the KV cache.",
    ),
)

_EDUCATIONAL: Callable[[Any], Any] = _setting(
    "--educational",
    "ui.educational",
    heading="Screen",
    is_flag=True,
    default=None,
    says="Log after each answer how it came about: ids, layers, times, use of the cache.",
)

_UI: tuple[Callable[[Any], Any], ...] = (
    _setting("--theme", "ui.theme", heading="Screen", metavar="NAME", says="Theme of the app."),
    _EDUCATIONAL,
)
