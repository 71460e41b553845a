"""The names of the members that propose candidates to a mining job."""

from collections.abc import Iterable

from quarry.errors import DuplicateError, OutOfRangeError, RequiredError, UnknownValueError
from quarry.mining.presets import explain_unknown
from quarry.retrieval.registry import list_arms

FUSED, LSA, RERANKER = "fused", "lsa", "reranker"
"""What the live first stage merges; latent semantic analysis of the corpus; the re-ranker that serves."""
ENCODER_PREFIX = "encoder:"
"""In front of a model's name: a member of that name searches the model's vectors."""
MAX_MEMBERS = 16
MAX_MEMBER_BYTES = 1_024


def list_member_names() -> tuple[str, ...]:
    """Lists all members but further encoders: every arm is one."""
    return FUSED, *list_arms(), LSA, RERANKER


def check_members(members: Iterable[str]) -> None:
    """Raises InvalidArgumentError unless all are known, and each is there once."""
    names, seen = list_member_names(), set[str]()
    for index, member in enumerate(members):
        path = f"members[{index}]"
        if index >= MAX_MEMBERS:
            raise OutOfRangeError("members", f"are more than {MAX_MEMBERS}")
        if len(member.encode()) > MAX_MEMBER_BYTES:
            raise OutOfRangeError(path, f"is longer than {MAX_MEMBER_BYTES} bytes")
        if member in seen:
            raise DuplicateError(path, f"{member[:80]!r} is there twice")
        if member not in names and not member.startswith(ENCODER_PREFIX):
            known = [*names, f"{ENCODER_PREFIX}MODEL"]
            raise UnknownValueError(path, explain_unknown(member, "a member", known))
        if member == ENCODER_PREFIX:
            raise RequiredError(path, "names no model")
        seen.add(member)
