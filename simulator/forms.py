"""Bodies of type multipart/form-data, as uploads come."""

from __future__ import annotations

import email
import email.policy
from typing import Any

from simulator.errors import ApiError


def is_form(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def parts_of(content_type: str, body: bytes) -> dict[str, Any]:
    """Text fields as text, files as bytes, by name. ApiError 400 for what is no form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    if not message.is_multipart():
        raise ApiError(400, "Invalid multipart payload format")
    found: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = content if part.get_filename() is not None else content.decode("utf-8", "replace")
    return found
