"""Refuses a request that leaves out a field which the API's files mark as REQUIRED.

Lists are not looked at.
"""

from functools import cache

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from quarry.errors import RequiredError


def check_required(message: Message) -> None:
    """Looks at ``message`` and the single messages in it: those that are set, and those that are required.

    Raises:
        InvalidArgumentError: a required field is empty; ``field`` is its path.
    """
    if (path := _find_missing(message)) is not None:
        raise RequiredError(path, "is required, and is empty")


def _find_missing(message: Message) -> str | None:
    for field, required in _select_fields(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if field.message_type is None:
            if not value:
                return field.name
        elif (required or message.HasField(field.name)) and (below := _find_missing(value)) is not None:
            return f"{field.name}.{below}"
        elif required and not message.HasField(field.name):
            return field.name
    return None


@cache
def _select_fields(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, bool], ...]:
    """Selects the fields that are required or hold a message with required ones, and whether they are
    required."""
    found = ((field, _is_required(field)) for field in descriptor.fields if not field.is_repeated)
    return tuple(
        (field, required)
        for field, required in found
        if required or (field.message_type is not None and _requires_any(field.message_type, frozenset()))
    )


def _requires_any(descriptor: Descriptor, above: frozenset[str]) -> bool:
    """Tells whether the message or one below it has a required field.

    ``above`` are the messages that it is in.
    """
    if descriptor.full_name in above:
        return False
    inside = above | {descriptor.full_name}
    return any(
        _is_required(field) or (field.message_type is not None and _requires_any(field.message_type, inside))
        for field in descriptor.fields
        if not field.is_repeated
    )


def _is_required(field: FieldDescriptor) -> bool:
    behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviours
