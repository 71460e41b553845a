"""Attribution tokens say what was signed, or nothing."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.feedback.attribution_tokens import (
    DAY_US,
    Attribution,
    SigningKey,
    TokenError,
    TokenSigner,
    compute_page_digest,
    rotate_keys,
)
from quarry.feedback.tables import open_feedback

SIGNER = TokenSigner([SigningKey(1, b"a" * 32, 0)])
attributions = st.builds(
    Attribution,
    st.uuids().map(lambda id: id.hex),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}" if n else ""),
    st.binary(min_size=8, max_size=8),
)
ONE = Attribution("5b0e6a8b1c2d4e5f90a1b2c3d4e5f607", 10, 3, "77ce279526e6a6eb", b"12345678")


@given(attributions)
def test_a_token_says_what_was_signed(attribution: Attribution) -> None:
    token = SIGNER.sign(attribution)
    assert SIGNER.read(token) == attribution
    assert len(token) <= 512
    assert token.isascii()


@given(st.data())
def test_a_token_with_any_bit_changed_is_refused(data: st.DataObject) -> None:
    token = SIGNER.sign(ONE)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    with pytest.raises(TokenError):
        SIGNER.read(changed)


@given(st.text(max_size=600) | st.binary(max_size=300).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        SIGNER.read(text)


def test_a_token_has_one_spelling() -> None:
    token = SIGNER.sign(ONE)
    for other in (token + "=", token + "==", f" {token}", token + "\n", token.replace("-", "+") + "A"):
        with pytest.raises(TokenError):
            SIGNER.read(other)


def test_another_servers_token_is_refused() -> None:
    other = TokenSigner([SigningKey(1, b"b" * 32, 0)])
    with pytest.raises(TokenError, match="is not one that this server gave"):
        SIGNER.read(other.sign(ONE))


def test_a_token_of_an_old_key_is_accepted_and_one_of_a_removed_key_has_expired() -> None:
    old, new = SigningKey(1, b"a" * 32, 0), SigningKey(2, b"b" * 32, 1)
    token = TokenSigner([old]).sign(ONE)
    assert TokenSigner([old, new]).read(token) == ONE
    with pytest.raises(TokenError, match="has expired"):
        TokenSigner([new]).read(token)


def test_keys_change_after_their_time_and_go_when_nothing_needs_them(tmp_path: Path) -> None:
    engine = open_feedback(tmp_path / "feedback.db")
    ids = []
    for day in (0, 29, 30, 59, 61, 394, 396):
        with engine.begin() as connection:
            keys = rotate_keys(connection, 30 * DAY_US, 365 * DAY_US, now=day * DAY_US)
        ids.append([key.id for key in keys])
    assert ids == [[1], [1], [1, 2], [1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 3, 4]]
    engine.dispose()


def test_a_digest_depends_on_the_documents_and_their_order() -> None:
    assert len({compute_page_digest(ids) for ids in (["a", "b"], ["b", "a"], ["ab"], ["a"], [])}) == 5
