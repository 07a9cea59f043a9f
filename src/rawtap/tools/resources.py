"""Captures as MCP resources: what is known of each as JSON, and its files as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp_types import Annotations, Resource, ResourceLink, ResourceTemplate

from rawtap.blocking import on_disk
from rawtap.errors import CaptureUnknown, DiskStalled

if TYPE_CHECKING:
    from rawtap.lab.captures import Capture
    from rawtap.lab.lab import Lab

SCHEME = "capture://"
_LISTED = 32  # of the captures, the newest
_LONGEST_ID = 20
_LONGEST = 1 << 20  # of a file that is handed out, in bytes
_KINDS = {"pcap": "application/vnd.tcpdump.pcap", "pcapng": "application/x-pcapng"}  # the first is IANA's

TEMPLATE = ResourceTemplate(
    name="capture",
    title="A capture",
    uri_template=SCHEME + "{capture}",
    description="Its row of qemu_pcap_status: counters, drops, files, and why nothing was seen.",
    mime_type="application/json",
)


def listed(lab: Lab) -> list[Resource]:
    """The newest captures and the newest file of each."""
    captures = lab.captures.all()[-_LISTED:]
    return [resource for capture in captures for resource in (_row(capture), _file(capture))]


def _row(capture: Capture) -> Resource:
    state = "running" if capture.session.running else "ended"
    return Resource(
        uri=SCHEME + capture.id,
        name=capture.id,
        title=f"Capture {capture.id} on {capture.interface}",
        description=f"{state}; filter: {capture.session.request.filter or 'none'}",
        mime_type="application/json",
    )


def _file(capture: Capture) -> Resource:
    return Resource.model_validate(file_link(capture).model_dump(exclude={"type"}))


def file_link(capture: Capture) -> ResourceLink:
    """A link to the capture's file, or to the newest of a ring."""
    path = capture.session.path
    return ResourceLink(
        uri=path.as_uri(),
        name=path.name,
        title=f"Packets of {capture.id}",
        mime_type=_KINDS[capture.session.request.format],
        annotations=Annotations(audience=["user"]),
    )


def capture_of(lab: Lab, uri: str) -> Capture:
    """The capture whose row that URI is.

    Raises:
        CaptureUnknown: It is none.
    """
    return lab.captures.get(uri.removeprefix(SCHEME)[:_LONGEST_ID])


async def read(lab: Lab, uri: str) -> tuple[str | bytes, str]:
    """What is behind one of these URIs, and its MIME type.

    Raises:
        ResourceNotFoundError: There is none of that URI.
        ResourceError: The file is too long for an answer, or is gone.
    """
    if uri.startswith(SCHEME):
        try:
            capture = capture_of(lab, uri)
        except CaptureUnknown as error:
            raise ResourceNotFoundError(str(error)) from error
        from rawtap.tools.capture import row_of  # the tools are made when they are first needed

        return row_of(await lab.captures.report(capture)).model_dump_json(indent=1), "application/json"
    for capture in lab.captures.all():
        for path in capture.session.files:
            if path.as_uri() == uri:
                return await _bytes_of(path), _KINDS[capture.session.request.format]
    raise ResourceNotFoundError(f"{uri[:200]!r} is no capture and no file of one; resources/list has them")


async def _bytes_of(path: Path) -> bytes:
    try:
        data = await on_disk(path, _read, path)
    except OSError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror}") from error
    except DiskStalled as error:
        raise ResourceError(str(error)) from error
    if len(data) > _LONGEST:
        raise ResourceError(f"{path} is longer than {_LONGEST} bytes; open it by its path, or use qemu_pcap_read")
    return data


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LONGEST + 1)
