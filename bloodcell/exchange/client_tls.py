"""TLS towards a receiver: its certificate is checked, and this laboratory's own is shown where it asks for one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from bloodcell.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def client_context(
    receiver: str, ca_file: Path | None, certificate_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """Returns the context that checks the receiver's certificate and name.

    Args:
        receiver: What the receiver is called in a message.
        ca_file: Certificates of the authorities that are trusted; None: those of this machine.
        certificate_file: The laboratory's own certificate, with its key; None: it has none.
        key_file: The key, if it is in another file.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file:
            context.load_cert_chain(certificate_file, key_file)
    except OSError as error:  # an SSLError is one, too
        raise ConfigurationError(
            f"A certificate for {receiver} cannot be read: {error.strerror or error}. Next: correct "
            f"{'ca_file, certificate_file or key_file' if certificate_file else 'ca_file'} in the exchange file."
        ) from error
    return context
