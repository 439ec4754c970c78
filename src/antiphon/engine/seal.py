"""Encrypts reasoning that a client keeps for the server (`reasoning.encrypted_content`).

AES-SIV (RFC 5297) is deterministic: the same text gives the same ciphertext, so that a replayed stream is identical,
and nothing more than that equality is revealed. A ciphertext opens on every process that has the same key.
"""

import base64
import binascii
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from antiphon.errors import InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_PURPOSE = b"antiphon.reasoning.v1"


class Sealer:
    """Seals and opens texts with a key derived from the server's secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=64, person=b"antiphon.seal").digest()

    def seal(self, text: str) -> str:
        """The text, encrypted, as URL-safe base64."""
        return base64.urlsafe_b64encode(self._cipher.encrypt(text.encode(), [_PURPOSE])).decode()

    def open(self, sealed: str, param: str) -> str:
        """The text again. Raises `InvalidRequest` for what this server did not seal."""
        from cryptography.exceptions import InvalidTag  # heavy (50 ms): only servers that seal pay for it

        try:
            return self._cipher.decrypt(base64.urlsafe_b64decode(sealed.encode()), [_PURPOSE]).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            message = "The encrypted content could not be verified: it was not made by this server, or was altered."
            raise InvalidRequest(message, param=param, code="invalid_encrypted_content") from error

    @cached_property
    def _cipher(self) -> "AESSIV":
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # heavy, as above

        return AESSIV(self._key)
