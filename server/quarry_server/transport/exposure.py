"""Whom an open port lets in: refuses one that nobody has asked for, and says at each start what it means."""

import logging

from quarry.client.addresses import is_loopback
from quarry.config import Settings
from quarry.errors import FailedPreconditionError

logger = logging.getLogger(__name__)

ANYBODY = (
    "Quarry asks nobody for a key: whoever reaches it may read, change and delete every collection and "
    "document, read and purge the log of what people searched and clicked, take models out, bring models in "
    "and promote them, and start jobs."
)
IN_PLAINTEXT = (
    "%s can be reached from other machines, and it is not encrypted (--insecure): others can read and change "
    "everything on the way. " + ANYBODY + " Serve with TLS (--tls-cert and --tls-key), listen on 127.0.0.1, "
    "or let only machines through that you trust."
)
WITHOUT_CLIENT_CERTIFICATES = (
    "%s can be reached from other machines. " + ANYBODY + " Ask clients for a certificate (--tls-client-ca), "
    "listen on 127.0.0.1, or let only machines through that you trust."
)


def check_exposure(settings: Settings) -> None:
    """Raises FailedPreconditionError for a port that others reach in plaintext, unless `insecure` is set.

    It may wait for a resolver, for a host that is a name.
    """
    if settings.tls.on or settings.insecure or is_loopback(settings.host):
        return
    raise FailedPreconditionError(
        f"{settings.host or 'every address'} can be reached from other machines, which could then read and "
        "change everything: serve with TLS (--tls-cert FILE --tls-key FILE), or say --insecure (setting "
        "`insecure`) if everything on the way is yours",
        host=settings.host,
    )


def warn_if_exposed(settings: Settings, address: str) -> bool:
    """Logs a warning if other machines can reach the server and use it; tells whether.

    Args:
        address: where the server listens, for the message.
    """
    if settings.tls.client_ca or is_loopback(settings.host):
        return False
    logger.warning(WITHOUT_CLIENT_CERTIFICATES if settings.tls.on else IN_PLAINTEXT, address)
    return True
