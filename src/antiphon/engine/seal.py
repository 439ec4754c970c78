"""Encrypts what a client keeps for the server: reasoning and compacted contexts (`encrypted_content`).

AES-SIV (RFC 5297) is deterministic: the same text gives the same ciphertext, so that a replayed stream is identical,
and nothing more than that equality is revealed. A ciphertext opens on every process that has the same key, and only for
the purpose for which it was sealed: reasoning cannot be passed off as a compacted context, nor the other way round.
"""

import base64
import binascii
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from antiphon.errors import InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

Purpose = Literal["reasoning", "compaction", "keys"]


class Sealer:
    """Seals and opens texts with a key derived from the server's secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=64, person=b"antiphon.seal").digest()

    def seal(self, text: str, purpose: Purpose = "reasoning") -> str:
        """The text, encrypted, as URL-safe base64."""
        return base64.urlsafe_b64encode(self._cipher.encrypt(text.encode(), [_bound(purpose)])).decode()

    def open(self, sealed: str, param: str, purpose: Purpose = "reasoning") -> str:
        """The text again. Raises `InvalidRequest` for what this server did not seal, or not for this purpose."""
        from cryptography.exceptions import InvalidTag  # heavy (50 ms): only servers that seal pay for it

        try:
            return self._cipher.decrypt(base64.urlsafe_b64decode(sealed.encode()), [_bound(purpose)]).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            message = "The encrypted content could not be verified: it was not made by this server, or was altered."
            raise InvalidRequest(message, param=param, code="invalid_encrypted_content") from error

    @cached_property
    def _cipher(self) -> "AESSIV":
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # heavy, as above

        return AESSIV(self._key)


def _bound(purpose: Purpose) -> bytes:
    """What is authenticated beside the text; the number is that of the text's form."""
    return f"antiphon.{purpose}.v1".encode()
