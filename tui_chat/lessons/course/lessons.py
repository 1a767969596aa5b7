"""The ten lessons: what each explains, what there is to do, and how it is seen that it was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tui_chat.engine.engine import Engine
from tui_chat.language import N_, _
from tui_chat.lessons.course import choosing, deeds, pieces, talking
from tui_chat.lessons.course.explained import Explained
from tui_chat.lessons.course.progress import Progress
from tui_chat.lessons.report import Block, Cell, Column, Heading, Report, Span, Table, Tone, Words
from tui_chat.lessons.scene import Scene
from tui_chat.lessons.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseLesson:
    """One lesson of the course. Texts are translated where they are shown."""

    title: str
    aim: str
    """What is to be reached, in a few words."""
    task: str
    """How to go about it."""
    explain: Callable[[Engine, Watch, Scene], Explained]
    check: deeds.Check
    after: str = ""
    """How to undo what the task set."""


LESSONS: tuple[CourseLesson, ...] = (
    CourseLesson(
        title=N_("Tokens"),
        aim=N_("find a text of exactly 5 tokens"),
        task=N_("Find a text of exactly 5 tokens: `/tokens-demo` and a text of your own shows how many it has."),
        explain=pieces.about_tokens,
        check=deeds.five_tokens,
    ),
    CourseLesson(
        title=N_("Byte-pair encoding"),
        aim=N_("find a word of 3 tokens or more"),
        task=N_(
            "Find a word that is cut into 3 tokens or more: `/tokens-demo` and a single word, the rarer the better."
        ),
        explain=pieces.about_merges,
        check=deeds.cut_word,
    ),
    CourseLesson(
        title=N_("Next-token prediction"),
        aim=N_("find a next token of 95% or more"),
        task=N_(
            "Find a text after which one token has 95% or more: `/logits` and the beginning of a text. Counting, or "
            "the middle of a word, are good places to stop."
        ),
        explain=pieces.about_prediction,
        check=deeds.sure_next,
    ),
    CourseLesson(
        title=N_("Softmax and temperature"),
        aim=N_("draw an answer at temperature 1.5"),
        task=N_("Type `/temp 1.5`, or move the slider there (F4), and send `Tell me a story.` How does it read?"),
        explain=choosing.about_temperature,
        check=deeds.hot_answer,
        after=N_("`/temp default` sets the temperature back."),
    ),
    CourseLesson(
        title=N_("Truncation"),
        aim=N_("leave exactly 3 candidates"),
        task=N_(
            "Set things so that each token is drawn from exactly 3 candidates: `/top-k 3`, and `/top-p off` and "
            "`/min-p off` so that these cut nothing more. Then send a message."
        ),
        explain=choosing.about_truncation,
        check=deeds.three_left,
        after=N_("`/top-k default`, `/top-p default` and `/min-p default` set them back."),
    ),
    CourseLesson(
        title=N_("The loop"),
        aim=N_("end an answer in the middle"),
        task=N_(
            "Send `Tell me a story.` and press Esc while it is being written. If the model is faster than you, let a "
            "stop string do it: `/stop the` ends an answer where it comes to those letters."
        ),
        explain=choosing.about_the_loop,
        check=deeds.ended_by_hand,
        after=N_("`/stop off` removes the stop strings."),
    ),
    CourseLesson(
        title=N_("Prefill and KV cache"),
        aim=N_("see in /stats that tokens are reused"),
        task=N_(
            "Send two messages in one conversation, then `/stats`: how many tokens of the second prompt were in the "
            "cache already?"
        ),
        explain=choosing.about_the_cache,
        check=deeds.reused,
    ),
    CourseLesson(
        title=N_("Templates and roles"),
        aim=N_("find your system text in /template"),
        task=N_(
            "Type `/system Answer like a pirate.`, or a text of your own, send a message, and find the text in "
            "`/template`."
        ),
        explain=talking.about_templates,
        check=deeds.system_in_prompt,
        after=N_("`/system off` removes the system text."),
    ),
    CourseLesson(
        title=N_("Thinking"),
        aim=N_("let the model think first"),
        task=N_("Type `/think on`, then ask `What is 17 + 25?` Ctrl+T unfolds what it thinks."),
        explain=talking.about_thinking,
        check=deeds.thought,
        after=N_("`/think auto` leaves it to the template again."),
    ),
    CourseLesson(
        title=N_("Confidence and perplexity"),
        aim=N_("find a token of more than 3 nats"),
        task=N_(
            "Send a message and find a token of the answer with a surprisal above 3 nats, so with p below 5%: F3 "
            "leads to the inspector, ← and → go from token to token. `/temp 2` with `/min-p off` brings more of them."
        ),
        explain=talking.about_confidence,
        check=deeds.surprising_token,
        after=N_("`/temp default` and `/min-p default` set things back."),
    ),
)
"""In their order; numbers begin at 1."""


def contents(progress: Progress, *, command: str = "/learn") -> Report:
    """The course at a glance: what is done, and what comes next.

    Args:
        progress: Of whoever reads it.
        command: What opens a lesson where it is read.
    """
    done, next_, open_ = progress.done, progress.next, progress.open
    rows: list[tuple[Cell, ...]] = []
    for number, lesson in enumerate(LESSONS, start=1):
        mark = Span("✓", Tone.GOOD) if number in done else Span("▸" if number in (open_, next_) else "·", Tone.ACCENT)
        rows.append((mark, str(number), Span(_(lesson.title), Tone.STRONG), _(lesson.aim)))
    columns = (Column(), Column("", "right"), Column(_("lesson")), Column(_("to do"), grows=True, wraps=True))
    if open_ is not None:
        closing = _("Lesson {number} is open. To do: {task}").format(number=open_, task=_(LESSONS[open_ - 1].task))
    elif next_ is not None:
        closing = _("Next: `{command} {number}`, {title}.").format(
            command=command, number=next_, title=_(LESSONS[next_ - 1].title)
        )
    else:
        closing = _("All ten are done. Any of them opens again: the figures are those of the model that is loaded.")
    return Report(
        title=_("the course"),
        blocks=[
            Words(
                _(
                    "Ten short lessons on how a language model works, with figures of the model that is loaded. Each "
                    "ends with something to do in the app, which sees by itself when it is done. {n} of {all} are done."
                ).format(n=len(done), all=len(LESSONS))
            ),
            Words(closing),
            Table(columns, tuple(rows)),
        ],
        document={
            "lessons": [
                {"number": number, "title": _(lesson.title), "task": _(lesson.task), "done": number in done}
                for number, lesson in enumerate(LESSONS, start=1)
            ],
            "open": open_,
            "next": next_,
        },
    )


def open_lesson(
    engine: Engine, watch: Watch, scene: Scene, number: int, *, done: bool = False, in_app: bool = True
) -> Report:
    """A lesson on the loaded model, with its task at the end.

    Args:
        engine: Its cache stays as it is.
        watch: Stops it, and hears how far it is.
        scene: The settings it is explained with.
        number: From 1.
        done: Whether its task was done before.
        in_app: Whether it is read in the app, where the task can be done at once.

    Raises:
        TuiChatError: What the model cannot do.
    """
    lesson = LESSONS[number - 1]
    found = lesson.explain(engine, watch, scene)
    task = found.task or _(lesson.task)
    heading = _("To do") if in_app else _("To do in the app (tui-chat opens it)")
    seen = (
        _("You have done this before; it can be done again.")
        if done
        else _("The app looks whether it is done and tells you.")
        if in_app
        else _("`/learn {number}` there opens this lesson, and the app sees when it is done.").format(number=number)
    )
    blocks: list[Block] = [
        Heading(_("Lesson {number} of {all}: {title}").format(number=number, all=len(LESSONS), title=_(lesson.title))),
        Words(_("To do at its end: {aim}").format(aim=_(lesson.aim)), Tone.DIM),
        *found.blocks,
        Heading(heading),
        Words(task, Tone.STRONG),
        Words(seen, Tone.GOOD if done else Tone.DIM),
    ]
    return Report(
        title=_("lesson {number}").format(number=number),
        blocks=blocks,
        document={
            "model": engine.info.name,
            "number": number,
            "title": _(lesson.title),
            "text": [block.text for block in found.blocks if isinstance(block, Words)],
            "figures": dict(found.figures),
            "task": task,
            "done": done,
        },
    )


def done_report(number: int, words: str, progress: Progress) -> Report:
    """That a task was done, by which figure, and what comes next.

    Args:
        number: Of the lesson.
        words: What proves it.
        progress: With this lesson done.
    """
    lesson, next_ = LESSONS[number - 1], progress.next
    onward = (
        _("Next: `/learn {number}`, {title}.").format(number=next_, title=_(LESSONS[next_ - 1].title))
        if next_ is not None
        else _("That was the last one: all ten lessons are done.")
    )
    said = f"{words} {_(lesson.after)}".rstrip()
    return Report(
        title=_("lesson {number} done").format(number=number),
        blocks=[Words(said), Words(onward, Tone.STRONG)],
        document={"number": number, "proof": words, "next": next_},
    )
