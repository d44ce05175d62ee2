"""The simulator's own certificate authority, made at start."""

import ssl
from pathlib import Path

import trustme


def make(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """Write `ca.pem` into the directory; answer its path and a server context for 127.0.0.1 and localhost."""
    authority = trustme.CA(organization_name="Simulated tenant")
    server = authority.issue_cert("127.0.0.1", "localhost", "::1")
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.configure_cert(context)
    return ca_file, context
