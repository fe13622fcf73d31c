"""A client's side of TLS, from PEM in memory."""

import os
import ssl

from allotment_operator.services.kafka.admin import Login


def client_context(login: Login) -> ssl.SSLContext:
    """Return a context that trusts the login's authority only, and shows its certificate if it has one."""
    context = ssl.create_default_context(cadata=login.authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if login.certificate:
        _load(context, login.certificate)
    return context


def _load(context: ssl.SSLContext, pem: str) -> None:
    """Load key and certificate: Python reads them from files only, so from one that exists in memory alone."""
    file = os.memfd_create("kafka-client-certificate")
    try:
        os.write(file, pem.encode())
        # Without a password OpenSSL would ask somebody at the terminal for that of an encrypted key.
        context.load_cert_chain(f"/proc/self/fd/{file}", password="")
    finally:
        os.close(file)
