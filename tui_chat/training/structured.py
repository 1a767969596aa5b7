"""Answers whose form is asked for: JSON, and words repeated as they are.

Like every skill, a function here takes the sources, a random generator and whether to use the wordings kept out of the
training, and returns exchanges that belong together.
"""

from __future__ import annotations

import json
from random import Random

from tui_chat.training.dialogue import Exchange
from tui_chat.training.skills import pseudo_word
from tui_chat.training.sources import FactTable, Sources, ways

_MAX_WORDS = 6


def json_answer(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """A record, a list, a fact or a sum, asked for as JSON."""
    kind = rng.choices(("record", "list", "capital", "opposite", "sum"), (32, 38, 10, 8, 12))[0]
    value: object
    match kind:
        case "record":
            value, slots = _record(sources, rng)
        case "list":
            category = rng.choice(list(sources.categories))
            count = rng.randint(2, 6)
            value = list(sources.categories[category][:count])
            slots = {"k": _number(count, rng), "c": category}
        case "sum":
            a, b = rng.randint(0, 10), rng.randint(0, 10)
            value, slots = {"a": a, "b": b, "sum": a + b}, {"a": str(a), "b": str(b)}
        case _:
            key, found = rng.choice(_table(sources, kind).pairs)
            value, slots = {"country" if kind == "capital" else "word": key, kind: found}, {"x": key}
    ask = rng.choice(ways(sources.json, kind, held_out)).format(**slots)
    answer = json.dumps(value, ensure_ascii=False)
    return [Exchange("json", ask, answer, rng.choice(sources.json["think"]), (answer,), plain=False)]


def repeat(sources: Sources, rng: Random, held_out: bool) -> list[Exchange]:
    """ "Repeat after me", once or twice."""
    exchanges = [_repeated(sources, rng, ways(sources.repeat, "ask", held_out))]
    if not held_out and rng.random() < 0.2:
        exchanges.append(_repeated(sources, rng, sources.repeat["again"]))
    return exchanges


def _repeated(sources: Sources, rng: Random, asks: tuple[str, ...]) -> Exchange:
    count = rng.randint(1, _MAX_WORDS)
    words = [
        pseudo_word(sources, rng).lower() if rng.random() < 0.3 else rng.choice(sources.repeat["words"])
        for _ in range(count)
    ]
    text = " ".join(words)
    if rng.random() < 0.4:
        text = text[0].upper() + text[1:]
    think = rng.choice(sources.repeat["think"]).format(t=text)
    return Exchange("repeat", rng.choice(asks).format(t=text), text, think, (text,), plain=False)


def _record(sources: Sources, rng: Random) -> tuple[dict[str, object], dict[str, str]]:
    """Two or three fields, and how a user would say them."""
    names = sources.names["real"]
    fields: dict[str, object] = {
        "name": rng.choice(names) if rng.random() < 0.5 else pseudo_word(sources, rng),
        "age": rng.randint(1, 99),
        "city": rng.choice(_table(sources, "capital").pairs)[1],
        "colour": rng.choice(sources.categories["colours"]),
        "animal": rng.choice(sources.categories["animals"]),
    }
    chosen = ["name", *rng.sample([key for key in fields if key != "name"], k=rng.choice((1, 1, 2)))]
    if rng.random() < 0.2:
        rng.shuffle(chosen)
    record = {key: fields[key] for key in chosen}
    between = rng.choice((" {v}", " {v}", ": {v}", " = {v}"))
    said = [key + between.format(v=value) for key, value in record.items()]
    joined = ", ".join(said) if rng.random() < 0.6 else f"{', '.join(said[:-1])} and {said[-1]}"
    return record, {"f": joined}


def _table(sources: Sources, identity: str) -> FactTable:
    return next(table for table in sources.facts if table.id == identity)


def _number(count: int, rng: Random) -> str:
    return rng.choice((str(count), ("two", "three", "four", "five", "six")[count - 2]))
