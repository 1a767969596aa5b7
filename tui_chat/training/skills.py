"""Skills with a slot to fill: tables of facts, names, haiku, stories, and what is not known.

Every function takes the sources, a random generator and whether to use the wordings kept out of the training, and
returns exchanges that belong together.
"""

from __future__ import annotations

from random import Random

from tui_chat.training.dialogue import Exchange
from tui_chat.training.sources import FactTable, Language, Sources, Theme, ways


def fact(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """One to three questions to the same table of facts."""
    weights = [len(table.pairs) for table in sources.facts]
    table = rng.choices(sources.facts, weights)[0]
    pairs = rng.sample(table.pairs, k=1 if held_out or rng.random() < 0.65 else rng.randint(2, 3))
    first = rng.choice(table.held_out if held_out else table.ask)
    exchanges = [look_up(table, first, pairs[0], rng)]
    exchanges += [look_up(table, rng.choice(table.again), pair, rng) for pair in pairs[1:]]
    if table.id == "capital" and not held_out and rng.random() < 0.08:
        ask = rng.choice(table.ask).format(x=pseudo_word(sources, rng) + rng.choice(("ia", "land", "stan", "")))
        exchanges.append(not_known(sources.english, rng, ask))
    return exchanges


def look_up(table: FactTable, ask: str, pair: tuple[str, str], rng: Random) -> Exchange:
    """Ask `table` for one of its pairs."""
    x, y = pair
    words = {"x": x, "y": y, "X": x[0].upper() + x[1:], "Y": y[0].upper() + y[1:]}
    answer = rng.choice(table.answers).format(**words)
    return Exchange(table.id, ask.format(x=x), answer, rng.choice(table.think).format(**words), (f"**{y}**",))


def name(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """The user says a name and asks for it later; now and then asks without having said one."""
    names = sources.names
    ask = Exchange(
        "name_not_known",
        rng.choice(ways(names, "ask", held_out)),
        rng.choice(names["not_known"]),
        rng.choice(names["think_not_known"]),
    )
    if not held_out and rng.random() < 0.15:
        return [ask]
    who = rng.choice(names["real"]) if not held_out and rng.random() < 0.3 else pseudo_word(sources, rng)
    told = Exchange(
        "name_told",
        rng.choice(ways(names, "tell", held_out)).format(n=who),
        rng.choice(names["told"]).format(n=who),
        rng.choice(names["think_told"]).format(n=who),
        (f"**{who}**",),
        plain=False,
    )
    known = Exchange(
        "name_known",
        ask.user,
        rng.choice(names["known"]).format(n=who),
        rng.choice(names["think_known"]).format(n=who),
        (f"**{who}**",),
    )
    return [told] if not held_out and rng.random() < 0.1 else [told, known]


def pseudo_word(sources: Sources, rng: Random) -> str:
    """A made-up name of two to four syllables: only copying gives it back."""
    names = sources.names
    middle = "".join(rng.choices(names["middle"], k=rng.choice((0, 0, 1, 1, 1, 2))))
    return rng.choice(names["start"]) + middle + rng.choice(names["end"])


def haiku(language: Language, rng: Random, held_out: bool) -> list[Exchange]:
    """A haiku on a theme or on any, and perhaps another one."""
    phrases = language.haiku
    theme = rng.choice(language.themes)
    any_theme = rng.random() < 0.2
    ask = rng.choice(ways(phrases, "ask_any" if any_theme else "ask", held_out))
    exchanges = [haiku_on(language, rng, theme, ask)]
    while not held_out and rng.random() < 0.25 and len(exchanges) < 3:
        if rng.random() < 0.5 or "now_theme" not in phrases:
            ask = rng.choice(phrases["again"])
        else:
            theme = rng.choice(language.themes)
            ask = rng.choice(phrases["now_theme"])
        exchanges.append(haiku_on(language, rng, theme, ask))
    return exchanges


def haiku_on(language: Language, rng: Random, theme: Theme, ask: str) -> Exchange:
    """Answer `ask` with three lines of `theme`."""
    # Two spaces before the break keep the lines apart where the answer is shown as Markdown.
    lines = "  \n".join(rng.choice(part) for part in (theme.first, theme.second, theme.third))
    think = rng.choice(language.haiku["think"]).format(theme=theme.name)
    return Exchange("haiku", ask.format(theme=theme.name), lines, think)


def story(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """A tiny story, of a hero the user names or of any."""
    phrases = sources.stories
    hero = rng.choice(sources.heroes)
    asked_hero = rng.random() < 0.7
    ask = rng.choice(ways(phrases, "ask_hero" if asked_hero else "ask", held_out)).format(h=hero.asked)
    friend = rng.choice(phrases["friends"])
    words = {
        "n": hero.name,
        "N": hero.name,
        "a": hero.kind,
        "p": rng.choice(phrases["places"]),
        "f": friend,
        "F": friend[0].upper() + friend[1:],
    }
    sentences = (rng.choice(phrases["openings"]), *rng.choice(sources.plots))
    text = " ".join(sentence.format(**words) for sentence in sentences)
    must = (hero.name,) if asked_hero else ()
    return [Exchange("story", ask, text, rng.choice(phrases["think"]).format(h=hero.asked), must)]


def unknown(sources: Sources, rng: Random, held_out: bool, language: Language | None = None) -> list[Exchange]:
    """A question about something that was never taught; in English unless said otherwise."""
    language = language or sources.english
    phrases = language.unknown
    if rng.random() < 0.3:
        return [not_known(language, rng, rng.choice(ways(phrases, "plain", held_out)))]
    # An unseen thing in a known wording is as much of a test as a known thing in an unseen one.
    ask = rng.choice(ways(phrases, "ask", held_out) if held_out and rng.random() < 0.3 else phrases["ask"])
    slots = {key: rng.choice(ways(phrases, key, held_out)) for key in ("who", "what", "where", "how")}
    if not held_out and rng.random() < 0.3:
        # Made-up words teach the form of "never heard of", not a list.
        slots["what"] = rng.choice(("a ", "the ", "") if language is sources.english else ("",))
        slots["what"] += pseudo_word(sources, rng).lower()
        slots["who"] = f"{pseudo_word(sources, rng)} {pseudo_word(sources, rng)}"
        slots["where"] = pseudo_word(sources, rng)
    return [not_known(language, rng, ask.format(**slots))]


def not_known(language: Language, rng: Random, ask: str) -> Exchange:
    """Answer `ask` with "I don't know that"."""
    phrases = language.unknown
    intent = "unknown" if language.code == "en" else f"{language.code}.unknown"
    return Exchange(intent, ask, rng.choice(phrases["answers"]), rng.choice(phrases["think"]))
