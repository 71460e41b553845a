"""What the server has promised: for each document the states that it may be in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from quarry.v1 import types_pb2

State = tuple[tuple[str, str | int], ...] | None
"""Fields in order of name; None where there is no such document."""

Effect = Callable[[State], State]


def state_of(fields: Mapping[str, str | int]) -> State:
    return tuple(sorted(fields.items()))


def document_of(id: str, fields: Mapping[str, str | int]) -> types_pb2.Document:
    values = {
        name: types_pb2.FieldValue(integer_value=value)
        if isinstance(value, int)
        else types_pb2.FieldValue(string_value=value)
        for name, value in fields.items()
    }
    return types_pb2.Document(id=id, fields=values)


def fields_of(document: types_pb2.Document) -> dict[str, str | int]:
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in document.fields.items()}


@dataclass(frozen=True, eq=False)
class Write:
    """A request and what it does.

    Attributes:
        method: of DocumentService.
        request: the message.
        effects: by id, what becomes of the document.
    """

    method: str
    request: Any
    effects: Mapping[str, Effect]


@dataclass
class Oracle:
    """Everything that was acknowledged, and what may have happened besides.

    Attributes:
        allowed: by id, the states that the document may be in.
        versions: by id, the version that its last write was acknowledged with; only while that is certain.
        sequence: the highest sequence number ever acknowledged.
        answered: requests with ids, and what they were answered.
        acknowledged: how many writes were.
    """

    allowed: dict[str, set[State]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    sequence: int = 0
    answered: list[tuple[Write, Message]] = field(default_factory=list)
    acknowledged: int = 0

    def read_states(self, id: str) -> set[State]:
        return self.allowed.setdefault(id, {None})

    def lost_reply(self, write: Write) -> None:
        """It happened, or it did not."""
        for id, effect in write.effects.items():
            self.allowed[id] = self.read_states(id) | {effect(state) for state in self.read_states(id)}
            self.versions.pop(id, None)

    def settle(self, id: str, state: State, version: int = 0) -> None:
        """The document is known to be in this state."""
        assert state in self.read_states(id), f"{id} is {state}, which is none of {self.read_states(id)}"
        self._know(id, state, version)

    def wrote(self, id: str, effect: Effect, version: int, became: State) -> None:
        """A write of the document was acknowledged, and left it in ``became``."""
        possible = {effect(state) for state in self.read_states(id)}
        assert became in possible, f"{id} became {became}, which is none of {possible}"
        assert version > self.versions.get(id, 0), f"{id}: version {version} after {self.versions[id]}"
        self._know(id, became, version)

    def _know(self, id: str, state: State, version: int) -> None:
        self.allowed[id] = {state}
        if version:
            self.versions[id] = version
        else:
            self.versions.pop(id, None)

    def reached(self, sequence: int) -> None:
        self.sequence = max(self.sequence, sequence)
        self.acknowledged += 1

    def living(self) -> dict[str, dict[str, str | int]]:
        """Fields of the documents that exist; every document must be settled."""
        assert all(len(states) == 1 for states in self.allowed.values())
        return {id: dict(state) for id, (state,) in self.allowed.items() if state is not None}

    def gone(self) -> Iterable[str]:
        return [id for id, states in self.allowed.items() if states == {None}]
