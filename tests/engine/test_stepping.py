"""Step mode: a generation that waits, what a person may decide meanwhile, and what reaches it while it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.engine.test_engine import PARAMS, PROMPT, ids, request
from tests.engine.test_worker import OPTIONS, Desk
from tui_chat.engine.breakpoints import parse_breakpoint
from tui_chat.engine.control import CancelFlag, LiveParams
from tui_chat.engine.engine import Engine
from tui_chat.engine.generation import make_sampler
from tui_chat.engine.sampling import Sampler
from tui_chat.engine.stepping import Decision, StepControl
from tui_chat.engine.types import (
    EngineEvent,
    FinishReason,
    GeneratedToken,
    GenerationFinished,
    GenerationRequest,
    Limits,
    ModelLoaded,
    SamplingParams,
    SettingsChanged,
    TokenPending,
    TokensGenerated,
    TokensWithdrawn,
)
from tui_chat.engine.whatif import Written, waterfall_at
from tui_chat.lessons.recording import recorded
from tui_chat.lessons.replay import replay
from tui_chat.lessons.watch import Watch
from tui_chat.ui.progress import Answer

Order = Callable[[StepControl, TokenPending], object]

DRAW: Order = lambda steps, _: steps.draw()  # noqa: E731


class Played:
    """A generation in which each pending token meets the next of some orders, and then is drawn."""

    def __init__(
        self,
        engine: Engine,
        asked: GenerationRequest,
        orders: Sequence[Order],
        steps: StepControl | None = None,
        live: LiveParams | None = None,
    ) -> None:
        self.steps = steps or StepControl()
        self.cancel, self.live = CancelFlag(), live or LiveParams()
        self.pending: list[TokenPending] = []
        self.tokens: list[GeneratedToken] = []
        self.events: list[EngineEvent] = []
        self.text = ""
        left = iter(orders)
        for event in engine.generate(asked, cancel=self.cancel, live=self.live, steps=self.steps):
            self.events.append(event)
            if isinstance(event, TokenPending):
                self.pending.append(event)
                next(left, DRAW)(self.steps, event)
            elif isinstance(event, TokensGenerated):
                self.tokens += event.tokens
                self.text += event.text
            elif isinstance(event, TokensWithdrawn):
                del self.tokens[event.n_tokens :]
                self.text = event.text

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    @property
    def end(self) -> GenerationFinished:
        last = self.events[-1]
        assert isinstance(last, GenerationFinished)
        return last


def test_stepping_through_gives_what_a_run_gives(engine: Engine) -> None:
    plain = ids(engine.generate(request()))
    played = Played(engine, request(), [])
    assert played.ids == plain == [event.token.id for event in played.pending]
    assert (played.end.reason, played.end.usage.generated) == (FinishReason.LENGTH, 12)
    for event, token in zip(played.pending, played.tokens, strict=True):
        offered = event.token.trace
        assert token.trace is not None and offered is not None and not token.forced
        assert all(stage.candidates for stage in offered.stages)
        assert event.p_final == pytest.approx(dict(offered.final).get(event.token.id, event.p_final))
        assert event.p_final is not None and 0 < event.p_final <= 1
        best = offered.stages[-1].candidates
        assert [(c.id, c.p) for c in best[:3]] == pytest.approx(list(token.trace.final[:3]))
        # What is drawn is the same but for those: they are most of its size.
        light = tuple(replace(stage, candidates=()) for stage in offered.stages)
        assert token == replace(event.token, trace=replace(offered, stages=light))


def test_the_first_token_waits_too_and_nothing_is_written_before_it_is_drawn(engine: Engine) -> None:
    seen: list[EngineEvent] = []
    steps = StepControl()
    for event in engine.generate(request(n=2), steps=steps):
        seen.append(event)
        if isinstance(event, TokenPending):
            assert sum(
                len(e.tokens) for e in seen if isinstance(e, TokensGenerated)
            ) == event.token.trace.position - len(  # type: ignore[union-attr]
                PROMPT
            )
            steps.draw()


def test_a_picked_token_stands_and_what_follows_is_drawn_behind_it(engine: Engine) -> None:
    played = Played(engine, request(n=6), [DRAW, DRAW, lambda steps, _: steps.pick(70)])
    assert played.ids[2] == 70
    forced = played.tokens[2]
    assert forced.forced and forced.trace is not None and forced.trace.u is None
    exact = engine.logits([*PROMPT, *played.ids[:2]])
    assert forced.trace.logit == pytest.approx(exact[70], abs=1e-4)
    assert forced.trace.rank == 1 + int((exact > exact[70]).sum())
    assert played.ids[3:] == ids(engine.generate(request((*PROMPT, *played.ids[:3]), n=3)))


def test_a_token_the_vocabulary_lacks_is_not_picked(engine: Engine) -> None:
    played = Played(engine, request(n=1), [lambda steps, _: steps.pick(600), lambda steps, _: steps.ban(600)])
    assert [event.refused for event in played.pending] == [
        "",
        *["this model has no token 600: its vocabulary ends at 599"] * 2,
    ]
    assert played.ids == ids(engine.generate(request(n=1)))


def test_a_pick_that_the_grammar_refuses_is_told(pocket: Engine) -> None:
    wrong = pocket.vocab.find("x")
    assert wrong is not None
    asked = GenerationRequest(
        prompt_ids=(5,), params=SamplingParams(grammar='root ::= "yes"'), limits=Limits(max_tokens=2)
    )
    played = Played(pocket, asked, [lambda steps, _: steps.pick(wrong)])
    assert [event.refused for event in played.pending[:2]] == [
        "",
        "the grammar does not allow 'x' here: pick one that it allows",
    ]
    assert played.pending[0].token == played.pending[1].token


def test_settings_changed_while_later_tokens_are_withdrawn_hold_from_there(engine: Engine) -> None:
    """The periods that are kept with an answer say what each token was drawn with, whatever was taken back."""
    hot = replace(PARAMS, temperature=3.0, top_k=0)
    back: Order = lambda steps, _: steps.back()  # noqa: E731

    live = LiveParams()
    heat: Order = lambda *_: setattr(live, "params", hot)  # noqa: E731
    cool: Order = lambda *_: setattr(live, "params", PARAMS)  # noqa: E731
    for orders, periods in (
        ([*[DRAW] * 6, heat, DRAW, *[back] * 5], [(0, PARAMS), (2, hot)]),
        ([*[DRAW] * 4, heat, DRAW, DRAW, back], [(0, PARAMS), (4, hot)]),
        ([*[DRAW] * 4, heat, DRAW, DRAW, *[back] * 4, cool], [(0, PARAMS)]),
    ):
        live.params, answer = None, Answer(0, "m", 3, 0.0)
        played = Played(engine, request(n=9), orders, live=live)
        for event in played.events:
            answer.take(event, 0.0)  # type: ignore[arg-type]
        assert answer.changes == periods and len(answer.tokens) == 9
        trace = recorded(
            engine.info, prompt_ids=PROMPT, periods=answer.changes, tokens=answer.tokens, text="", usage=None,
            ignore_eos=True,
        )  # fmt: skip
        assert replay(engine, Watch(), trace, "t").document["same"]


def test_a_ban_stays_with_its_token(engine: Engine) -> None:
    """What the waterfall shows of a token that was drawn behind a ban is what it was drawn from."""
    ban: Order = lambda steps, event: steps.ban(event.token.id)  # noqa: E731
    for order in (PARAMS.order, ("top_k", "temperature"), ("top_k", "logit_bias", "temperature")):
        asked = request(n=4, params=replace(PARAMS, order=order))
        played = Played(engine, asked, [DRAW, ban, ban])
        answer = Answer(0, "m", 3, 0.0)
        for event in played.events:
            answer.take(event, 0.0)  # type: ignore[arg-type]
        assert [first for first, _ in answer.changes] == [0, 1, 2] and answer.changes[2][1] == asked.params
        refused = [event.token.id for event in played.pending[1:3]]
        with_bans = answer.changes[1][1]
        ran = [asked.params, with_bans, asked.params, asked.params]

        def make(params: SamplingParams, history: Sequence[int]) -> Sampler:
            return make_sampler(params, asked.limits, engine.info, engine.info.n_ctx, history, vocab=engine.vocab)  # noqa: B023

        written = Written(PROMPT, answer.tokens, ran, engine.info.n_vocab, make)
        table = waterfall_at(written, 1, with_bans, engine.recent)
        second = answer.tokens[1]
        assert table is not None and second.trace is not None
        assert (table.picked, table.u) == (second.id, second.trace.u)
        assert [column.survivors for column in table.columns[1:]] == [s.survivors for s in second.trace.stages]
        assert [str(table.row(token).reason) for token in refused] == ["banned", "banned"]
        trace = recorded(
            engine.info, prompt_ids=PROMPT, periods=answer.changes, tokens=answer.tokens, text="", usage=None,
            ignore_eos=True,
        )  # fmt: skip
        assert replay(engine, Watch(), trace, "t").document["same"]


def test_a_ban_draws_again_at_this_place_only(engine: Engine) -> None:
    plain = ids(engine.generate(request(n=4)))
    refused: list[int] = []

    def ban(steps: StepControl, event: TokenPending) -> None:
        refused.append(event.token.id)
        steps.ban(event.token.id)

    played = Played(engine, replace(request(n=4), top_n=60), [DRAW, ban, ban])
    assert played.ids[0] == plain[0]
    assert played.pending[3].banned == tuple(refused) and refused[0] == plain[1]
    assert played.ids[1] not in refused
    second = played.tokens[1]
    assert second.forced and second.trace is not None
    assert not set(refused) & {token for token, _ in second.trace.final}
    # What the model itself thought is not touched by the ban, and the draw is that of the place.
    assert set(refused) <= {token for token, _ in second.trace.top}
    assert second.trace.u == played.pending[1].token.trace.u  # type: ignore[union-attr]
    assert played.ids[2:] == ids(engine.generate(request((*PROMPT, *played.ids[:2]), n=2)))
    assert not played.tokens[2].forced


def test_the_last_candidate_cannot_be_banned(engine: Engine) -> None:
    params = replace(PARAMS, top_k=1)

    def ban_everything(steps: StepControl, event: TokenPending) -> None:
        assert steps.ban(event.token.id)

    only = replace(params, logit_bias=tuple((token, -np.inf) for token in range(600) if token not in (5, 6)))
    played = Played(engine, request(n=1, params=only), [ban_everything, ban_everything])
    assert {event.token.id for event in played.pending[:2]} == {5, 6}
    assert played.pending[2].banned == played.pending[1].banned
    assert "cannot be banned: without it nothing is left to draw from" in played.pending[2].refused
    assert played.ids == [played.pending[1].token.id]


def test_back_withdraws_and_the_same_token_comes_again(engine: Engine) -> None:
    plain = list(engine.generate(request(n=6)))
    back: Order = lambda steps, _: steps.back()  # noqa: E731
    played = Played(engine, request(n=6), [DRAW, DRAW, DRAW, back, back])
    assert played.ids == ids(plain)
    assert [e.n_tokens for e in played.events if isinstance(e, TokensWithdrawn)] == [2, 1]
    assert played.text == "".join(e.text for e in plain if isinstance(e, TokensGenerated))
    assert played.end.usage.generated == 6


def test_back_keeps_the_history_of_the_penalties(engine: Engine) -> None:
    params = replace(PARAMS, repeat_penalty=1.4, presence_penalty=0.5, dry_multiplier=0.8, repeat_last_n=-1)
    plain = ids(engine.generate(request(n=8, params=params)))
    back: Order = lambda steps, _: steps.back()  # noqa: E731
    assert Played(engine, request(n=8, params=params), [DRAW] * 4 + [back] * 3).ids == plain


def test_back_at_the_beginning_waits_on(engine: Engine) -> None:
    played = Played(engine, request(n=1), [lambda steps, _: steps.back()])
    assert len(played.pending) == 2 and len(played.ids) == 1
    assert played.pending[1].refused == "there is no token to take back: none was drawn since the answer began"


def test_orders_that_no_token_waits_for_are_not_taken(engine: Engine) -> None:
    steps = StepControl()
    assert not steps.draw() and not steps.pick(1)

    def twice(steps: StepControl, _: TokenPending) -> None:
        assert steps.draw() and not steps.draw()

    assert len(Played(engine, request(n=3), [twice] * 3, steps).pending) == 3


def test_runs_to_the_end_and_to_a_breakpoint(engine: Engine) -> None:
    plain = list(engine.generate(request(n=30)))
    traces = [t.trace for e in plain if isinstance(e, TokensGenerated) for t in e.tokens if t.trace is not None]
    to_the_end = Played(engine, request(n=30), [lambda steps, _: steps.run()])
    assert (len(to_the_end.pending), to_the_end.ids) == (1, ids(plain))
    rank = sorted(trace.rank for trace in traces)[-4]
    condition = parse_breakpoint(f"rank > {rank}")
    run: Order = lambda steps, _: steps.run(condition)  # noqa: E731
    hits = [trace.position for trace in traces[1:] if trace.rank > rank]
    assert hits
    played = Played(engine, request(n=30), [run] * (1 + len(hits)))
    assert [event.token.trace.position for event in played.pending[1:]] == hits  # type: ignore[union-attr]
    assert played.ids == ids(plain)
    straight = Played(engine, request(n=30), [run] * len(hits), StepControl(stepping=False, until=condition))
    assert [event.token.trace.position for event in straight.pending][-len(hits) :] == hits  # type: ignore[union-attr]


def test_a_run_can_be_paused(engine: Engine) -> None:
    steps = StepControl(stepping=False)
    seen = 0
    pending = 0
    for event in engine.generate(request(n=60), steps=steps):
        if isinstance(event, TokensGenerated):
            seen += len(event.tokens)
            steps.pause()
        elif isinstance(event, TokenPending):
            pending += 1
            steps.run()
    assert seen == 60 and pending >= 1


def test_a_setting_changed_while_it_waits_draws_again(engine: Engine) -> None:
    steps, live = StepControl(), LiveParams()
    greedy = replace(PARAMS, temperature=0.0)
    pending: list[TokenPending] = []
    changes: list[SettingsChanged] = []
    for event in engine.generate(request(n=3), live=live, steps=steps):
        if isinstance(event, SettingsChanged):
            changes.append(event)
        elif isinstance(event, TokenPending):
            pending.append(event)
            if len(pending) == 2:
                live.params = greedy
            elif len(pending) == 3:
                live.params = replace(PARAMS)
            else:
                steps.draw()
    assert [event.token.trace.u is None for event in pending] == [False, False, True, False, False]  # type: ignore[union-attr]
    assert pending[3].token.id == pending[1].token.id
    assert changes == [SettingsChanged(0, 1, greedy), SettingsChanged(0, 1, PARAMS)]


def test_stop_reaches_it_while_it_waits(engine: Engine) -> None:
    played = Played(engine, request(n=9), [DRAW, DRAW, lambda *_: None], _Stopping())
    assert (played.end.reason, len(played.ids)) == (FinishReason.CANCELLED, 2)


class _Stopping(StepControl):
    """Stops the answer from another thread as soon as it waits for the third token."""

    def __init__(self) -> None:
        super().__init__()
        self._cancel = CancelFlag()
        self._waits = 0

    def listen(self, cancel: CancelFlag, live: LiveParams) -> None:
        super().listen(cancel, live)
        self._cancel = cancel

    def wait(self) -> Decision | None:
        self._waits += 1
        if self._waits == 3:
            threading.Timer(0.05, self._cancel.set).start()
        return super().wait()


def test_waiting_takes_no_time_of_the_answer(engine: Engine) -> None:
    def slowly(steps: StepControl, _: TokenPending) -> None:
        threading.Timer(0.2, steps.draw).start()

    played = Played(engine, request(n=2), [slowly, slowly])
    assert played.end.timings.decode_s < 0.2


def test_an_end_token_waits_and_can_be_refused(engine: Engine) -> None:
    eos = engine.info.eos_id
    assert eos is not None
    asked = request(n=2, params=replace(PARAMS, logit_bias=((eos, 1000.0),)), ignore_eos=False)
    ended = Played(engine, asked, [])
    assert (ended.end.reason, ended.pending[0].token.id) == (FinishReason.EOS, eos)
    assert ended.end.end is not None and not ended.end.end.forced
    refused = Played(engine, asked, [lambda steps, _: steps.ban(eos)])
    assert len(refused.ids) == 1
    picked = Played(engine, request(ignore_eos=False), [lambda steps, _: steps.pick(eos)])
    assert picked.end.reason is FinishReason.EOS and picked.end.end is not None and picked.end.end.forced


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    assert desk.worker.close(10)


def test_the_worker_stops_changes_and_quits_while_a_token_waits(desk: Desk, noise_path: object) -> None:
    desk.worker.load(noise_path, OPTIONS)  # type: ignore[arg-type]
    desk.wait(ModelLoaded)
    steps = StepControl()
    first = desk.worker.generate(lambda _: request(), steps)
    assert desk.wait(TokenPending).token.trace.u is not None  # type: ignore[union-attr]
    desk.worker.set_params(replace(PARAMS, temperature=0))
    assert desk.wait(TokenPending).token.trace.u is None  # type: ignore[union-attr]
    desk.worker.cancel(first)
    assert desk.wait(GenerationFinished).reason is FinishReason.CANCELLED
    desk.worker.generate(lambda _: request(), steps)
    desk.wait(TokenPending)  # and the fixture closes the worker while it waits


def test_an_answer_that_runs_is_made_to_wait(desk: Desk, noise_path: object) -> None:
    desk.worker.load(noise_path, OPTIONS)  # type: ignore[arg-type]
    desk.wait(ModelLoaded)
    held, steps = threading.Event(), StepControl()

    def build(_: Engine) -> GenerationRequest:
        assert held.wait(30)
        return request()

    plain = desk.worker.generate(lambda _: request())
    assert desk.wait(GenerationFinished).request_id == plain
    late = desk.worker.generate(build)
    desk.worker.set_steps(steps)
    held.set()
    assert desk.wait(TokenPending).request_id == late
    steps.stop_at(parse_breakpoint("rank > 0"))
    assert steps.run(steps.breakpoint)
    second = desk.wait(TokenPending)
    assert second.request_id == late and steps.stepping
    steps.stop_at(None)
    assert steps.run()
    assert desk.wait(GenerationFinished).reason is FinishReason.LENGTH
