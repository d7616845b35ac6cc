"""What an operator does with models: train, publish, activate, roll back, look at them, watch for drift."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from segment_trainer import drift, judging, showing, training
from segment_trainer.examples import Question
from segment_trainer.failures import NotPossible
from segment_trainer.reading import EventFile
from segment_trainer.sources import Say, Source
from segment_trainer.training import InForce, sha256_of
from segment_trainer.wiring import Store
from segmentation import scoring
from segmentation.calendar import instant_of
from segmentation.features import features
from segmentation.money import MINOR_UNITS
from segmentation.scoring import Model
from segmentation.settings import DatabaseSettings

_ACTIVATIONS_SHOWN = 50
_TOLD_EVERY = 100_000
"""Customers: by then one who waits wants to know that it goes on."""

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class EventsAsked:
    """A file of events, and how to read it."""

    file: Path
    rates: Path | None
    currency: str | None
    time_zone: str

    def load(self, events: EventFile, now: Now) -> EventFile:
        events.load(
            self.file,
            rates_file=self.rates,
            currency=self.currency,
            time_zone=self.time_zone,
            now=instant_of(now()),
        )
        return events


@dataclass(frozen=True, slots=True)
class TrainingAsked:
    """What `train` is asked for."""

    events: EventsAsked | None
    """None for the customers of the database."""
    cut: date | None
    horizon_days: int
    in_force: Path | None
    keep_segments: bool
    output: Path


def train(asked: TrainingAsked, now: Now, say: Say) -> str:
    """Writes a model with its card; says how good it is, and whether it could be published."""
    with ExitStack() as stack:
        in_force = None if asked.in_force is None else _in_force_of(asked.in_force)
        source: Source
        if asked.events is None:
            store = stack.enter_context(Store(DatabaseSettings.load()))
            in_force = in_force or _in_force(store)
            source = store.recorded(now(), say)
        else:
            source = asked.events.load(stack.enter_context(EventFile(say)), now)
        latest = training.latest(source, asked.horizon_days)
        question = Question(asked.cut or latest.cut, asked.horizon_days)
        document = training.train(
            source, question, say, now=now(), in_force=in_force, keep_segments=asked.keep_segments
        )
    try:
        asked.output.write_bytes(document)
    except OSError as error:
        raise NotPossible(f"{asked.output} cannot be written: {error}") from None
    card = scoring.parse(document, version=0).card
    found = judging.refusals(card, None if in_force is None else in_force.sha256)
    lines = [*showing.card(card), "", f"{asked.output} is written, {len(document):,} bytes."]
    if found:
        lines += ["It would be refused:", *(f"  {each.rule}: {each.sentence}" for each in found)]
    else:
        lines.append(f"Publish it with: segment-trainer publish {asked.output} --author NAME")
    return "\n".join(lines)


def publish(file: Path, *, author: str, note: str | None, force: str | None) -> str:
    """Stores a model under the next version, unless a rule speaks against it.

    Raises:
        NotPossible: it is refused; names each reason.
    """
    document = _text(file)
    model = scoring.parse(document, version=0)
    with Store(DatabaseSettings.load()) as store:
        in_force = _in_force(store)
        found = judging.refusals(model.card, None if in_force is None else in_force.sha256)
        if found and force is None:
            reasons = "".join(f"\n  {each.rule}: {each.sentence}" for each in found)
            raise NotPossible(
                f'{file} is refused; nothing was stored.{reasons}\nTo publish it all the same: --force "WHY"'
            )
        stored = store.run(
            store.models.publish(
                document,
                author=author,
                note=note,
                refusals=found,
                forced_because=force if found else None,
                by=store.by,
            )
        )
    overruled = f" Overruled, and noted: {', '.join(each.rule for each in found)}." if found else ""
    return (
        f"Stored as version {stored.version}.{overruled} It is not in force yet; put it in force with:\n"
        f"  segment-trainer activate {stored.version} --author NAME --reason WHY"
    )


def activate(version: int, *, author: str, reason: str) -> str:
    """Puts a model in force.

    Raises:
        NotPossible: there is no such version.
    """
    with Store(DatabaseSettings.load()) as store:
        done = store.run(store.models.activate(version, author=author, reason=reason, by=store.by))
    if done is None:
        raise NotPossible(f"there is no model {version}; `segment-trainer list` shows which there are")
    return (
        f"Model {version} is in force, in place of {_named(done.replaced_version)}. Workers score everyone by it now."
    )


def rollback(*, author: str, reason: str) -> str:
    """Puts in force what was so before.

    Raises:
        NotPossible: no model is in force.
    """
    with Store(DatabaseSettings.load()) as store:
        done = store.run(store.models.rollback(author=author, reason=reason, by=store.by))
    if done is None:
        raise NotPossible("no model is in force, so there is nothing to roll back")
    then = "The rules decide from now on" if done.version is None else f"Model {done.version} is in force again"
    return f"{then}, in place of {_named(done.replaced_version)}."


def listing(*, as_json: bool) -> str:
    """Every model, and when which was put in force."""
    with Store(DatabaseSettings.load()) as store:
        versions = store.run(store.models.versions())
        activations = store.run(store.models.activations(limit=_ACTIVATIONS_SHOWN))
    if as_json:
        return _json(
            {
                "models": [showing.version(each) for each in versions],
                "activations": [showing.activation(each) for each in activations],
            }
        )
    return "\n".join(showing.listing(versions, activations))


def show(version: int, *, document: bool, as_json: bool) -> str:
    """One model: its card, or the document itself.

    Raises:
        NotPossible: there is no such version.
    """
    with Store(DatabaseSettings.load()) as store:
        found = store.run(store.models.find(version))
        written = store.run(store.models.document(version)) if document else None
    if found is None:
        raise NotPossible(f"there is no model {version}; `segment-trainer list` shows which there are")
    if written is not None:
        return written
    told = showing.version(found)
    return (
        _json({**told, "card": found.card})
        if as_json
        else "\n".join([*showing.heading(told), *showing.card(found.card)])
    )


def watch(version: int | None, now: Now, say: Say, *, as_json: bool) -> str:
    """How far today's customers have moved from those that a model was made from; the one in force where none is named.

    Raises:
        NotPossible: there is no such version, or no customer.
    """
    with Store(DatabaseSettings.load()) as store:
        model = _model(store, version)
        reference = drift.Reference.read(model)
        as_of = store.today(now())
        tally = drift.Tally(model, reference.edges)
        recorded = store.recorded(now(), say)
        decimals = MINOR_UNITS[store.house.base_currency]
        told = 0
        for table in recorded.everyone():
            tally.count(features(table, as_of, decimals=decimals))
            if tally.customers >= told + _TOLD_EVERY:
                told = tally.customers
                say(f"{told:,} customers looked at ...")
    if not tally.customers:
        raise NotPossible("nobody has ordered yet")
    found = drift.compared(reference, tally)
    if as_json:
        return _json(
            {
                "model": model.version,
                "as_of": as_of.isoformat(),
                "customers": tally.customers,
                "drift": [each._asdict() for each in found],
            }
        )
    return "\n".join(showing.drift(found, model, as_of=as_of, customers=tally.customers))


def _model(store: Store, version: int | None) -> Model:
    if version is None:
        found = _in_force(store)
        if found is None:
            raise NotPossible("no model is in force; name a version, or put one in force with `activate`")
        return found.model
    document = store.run(store.models.document(version))
    if document is None:
        raise NotPossible(f"there is no model {version}; `segment-trainer list` shows which there are")
    return scoring.parse(document, version=version)


def _in_force(store: Store) -> InForce | None:
    for each in store.run(store.models.versions()):
        if each.in_force:
            document = store.run(store.models.document(each.version)) or ""
            return InForce(scoring.parse(document, version=each.version), sha256_of(document))
    return None


def _in_force_of(file: Path) -> InForce:
    document = _text(file)
    return InForce(scoring.parse(document, version=0), sha256_of(document))


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > scoring.LARGEST_DOCUMENT:
            raise NotPossible(f"{file} is no model: models have at most {scoring.LARGEST_DOCUMENT:,} bytes")
        # Exactly as it is: what it is recognised by is a hash of it.
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotPossible(f"{file} cannot be read: {error}") from None


def _named(version: int | None) -> str:
    return "no model" if version is None else f"model {version}"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
