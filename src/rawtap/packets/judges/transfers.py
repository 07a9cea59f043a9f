"""TFTP: files that are asked for and sent, each conversation between two ports (RFC 1350, 4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from rawtap.packets import mistakes, tftp
from rawtap.packets.exchanges import Requests
from rawtap.packets.findings import MAX_PENDING, MILLISECOND, SECOND, Findings, Packet
from rawtap.packets.headers import Ip
from rawtap.packets.lines import ip_text
from rawtap.packets.tftp import ACK, DATA, ERROR, OPTIONS, READ, WRITE, Tftp
from rawtap.packets.transport import UDP, Quoted, Udp

_GRACE = 3 * SECOND  # who sends waits 1 to 5 s before it sends again
_COPIED = MILLISECOND  # the same packet within it is a copy that the capture took at another place
_SHOWN = 60
_SAMPLE = 512  # bytes of the last packet that are kept, for a filter to be asked about what should follow it
_BLOCKS = 1 << 16
_WINDOW = _BLOCKS // 2
_SIZE_ASKED = 8  # by a client that wants to know a file's size alone, and breaks off: error 8, or 0
_Key = tuple[bytes, int, bytes]  # client, its port, server


@dataclass(slots=True)
class _Transfer:
    """One file on its way. `sent` is the newest block, `acked` the newest that was acknowledged."""

    client: str
    server: str
    file: str
    reads: bool
    request: Tftp
    ports: list[int] = field(default_factory=list)  # of the server, the one in use first
    first: int = 0  # the packet that answered the request
    size: int = tftp.BLOCK
    sent: int = 0
    sent_in: tuple[int, int] = (0, 0)  # packet, time
    acked: int = 0
    acked_in: int = 0
    last_block: int | None = None
    last: tuple[int, int, bool] = (0, 0, False)  # packet, time, by the server
    sample: tuple[bytes, int] = (b"", 0)
    is_over: bool = False
    blamed: tuple[str, Hashable] | None = None  # the finding that explains why it goes wrong later

    @property
    def sender(self) -> str:
        return self.server if self.reads else self.client

    @property
    def receiver(self) -> str:
        return self.client if self.reads else self.server

    @property
    def is_complete(self) -> bool:
        return self.last_block is not None and self.acked == self.last_block


class TransferJudge:
    """`requests` are those for a file; what follows one is a conversation with a port of the server's choice."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.requests = Requests("TFTP", _GRACE, "tftp.no_answer", "RFC 1350, 4")
        self._transfers: OrderedDict[_Key, _Transfer] = OrderedDict()
        self._askers: dict[tuple[bytes, int], _Key] = {}  # by a client's address and port, its latest request

    def see(self, packet: Packet) -> None:
        ip, udp = packet.frame.ip, packet.frame.transport
        if ip is None or not isinstance(udp, Udp):
            return
        if udp.destination_port == tftp.PORT:
            self._to_server(packet, ip, udp)
        elif (key := (ip.destination, udp.destination_port, ip.source)) in self._transfers:
            self._from_server(packet, udp, key)
        elif (key := (ip.source, udp.source_port, ip.destination)) in self._transfers:
            self._from_client(packet, udp, key)
        elif (ip.destination, udp.destination_port) in self._askers:
            self._elsewhere(packet, ip, udp)

    def refused(self, quoted: Quoted) -> None:
        """An ICMP error is about a request."""
        if quoted.protocol == UDP and quoted.destination_port == tftp.PORT:
            key = (quoted.source, quoted.source_port or 0, quoted.destination)
            if key in self._transfers:
                self.requests.refuse(key)
                self._transfers[key].is_over = True

    # -------------------------------------------------------------- requests

    def _to_server(self, packet: Packet, ip: Ip, udp: Udp) -> None:
        message = _message(packet, udp)
        key = (ip.source, udp.source_port, ip.destination)
        if message is None:
            return
        if message.opcode in {READ, WRITE}:
            self._request(packet, ip, udp, message, key)
        elif key in self._transfers and self._transfers[key].ports:
            self._from_client(packet, udp, key)

    def _request(self, packet: Packet, ip: Ip, udp: Udp, message: Tftp, key: _Key) -> None:
        client, server = ip_text(ip.source), ip_text(ip.destination)
        if udp.payload + _length(udp) <= len(packet.frame.data):
            self._format(packet, client, message)
        known = self._transfers.get(key)
        if known is not None and (known.is_over or known.is_complete or known.request != message):
            self._close(known, packet.at, self._findings, lambda _data, _length: True)
            self.requests.pending.pop(key, None)
            known = None
        if known is None:
            if len(self._transfers) >= MAX_PENDING:
                oldest, _ = self._transfers.popitem(last=False)
                self._askers.pop(oldest[:2], None)
            known = _Transfer(client, server, _shown(message), message.opcode == READ, message)
            self._transfers[key], self._askers[key[:2]] = known, key
        elif known.first and packet.at - known.last[1] > _COPIED:
            self._asked_again(packet, known)
            return
        what = "asks" if known.reads else "wants to write"
        of = f"the TFTP server {server} for" if known.reads else f"to the TFTP server {server}"
        says = f"{client} {what} {of} {known.file}, and no answer comes"
        self.requests.ask(key, (client, server), packet, says, f"{'read' if known.reads else 'write'} {known.file}")

    def _format(self, packet: Packet, client: str, message: Tftp) -> None:
        mode = message.strings[1] if len(message.strings) > 1 else ""
        if not message.ended or len(message.strings) < 2:  # noqa: PLR2004 - a file and a mode
            says = f"{client} sends a TFTP request that is no file and mode, each ended by a zero"
            found = f"{len(message.strings)} strings" + ("" if message.ended else ", and the last has no zero")
            self._say(packet, "tftp.request", client, says, "RFC 1350, 5", found, "two, or more with options")
        elif mode.lower() not in tftp.MODES:
            self._say(packet, "tftp.mode", client, f"{client} sends a TFTP request with a mode that there is none of",
                      "RFC 1350, 1", repr(mode[:_SHOWN]), " or ".join(tftp.MODES[:2]))  # fmt: skip

    def _asked_again(self, packet: Packet, known: _Transfer) -> None:
        """A client that sends its request again has not taken the answer."""
        client = known.client
        says = f"{client} asks again for {known.file}, though {known.server} has answered"
        evidence = (
            f"packet {known.first} answers from port {known.ports[0]}, as a server must that takes a port for each "
            f"transfer; packet {packet.number} asks again"
        )
        parties = (client, known.server, known.file)
        known.blamed = known.blamed or ("tftp.answer_ignored", parties)
        self._findings.add(
            "tftp.answer_ignored", parties, packet.number, says, "RFC 1350, 4", evidence, host=client,
            suspects=(known.first,),
        )  # fmt: skip

    # --------------------------------------------------------- conversations

    def _from_server(self, packet: Packet, udp: Udp, key: _Key) -> None:
        known, message = self._transfers[key], _message(packet, udp)
        if message is None or message.opcode in {READ, WRITE}:
            return
        if not known.ports:
            self.requests.heard(key, packet, self._findings)
            known.first = packet.number
        if udp.source_port not in known.ports:
            known.ports.append(udp.source_port)
        if self._findings.drops(packet.number) or udp.source_port != known.ports[0]:
            return
        if message.opcode == OPTIONS:
            self._options(packet, known, message)
        self._conversation(packet, known, message, by_server=True)

    def _from_client(self, packet: Packet, udp: Udp, key: _Key) -> None:
        known, message = self._transfers[key], _message(packet, udp)
        if message is None or not known.ports or message.opcode in {READ, WRITE, OPTIONS}:
            return
        if udp.destination_port not in known.ports:
            self._port(packet, known, udp.destination_port)
        elif not self._findings.drops(packet.number):
            known.ports.remove(udp.destination_port)
            known.ports.insert(0, udp.destination_port)
            self._conversation(packet, known, message, by_server=False)

    def _conversation(self, packet: Packet, known: _Transfer, message: Tftp, *, by_server: bool) -> None:
        if message.opcode == ERROR:
            self._error(packet, known, message, by_server=by_server)
        elif message.opcode == DATA and by_server == known.reads:
            self._data(packet, known, message)
        elif message.opcode == ACK and by_server != known.reads:
            self._acknowledges(packet, known, message)
        known.last = (packet.number, packet.at, by_server)
        known.sample = (packet.frame.data[:_SAMPLE], packet.frame.length)

    def _port(self, packet: Packet, known: _Transfer, found: int) -> None:
        expected = known.ports[0]
        name = "it is the port of requests" if found == tftp.PORT else mistakes.number(found, expected)
        says = mistakes.told(f"{known.client} answers {known.server} at another port than it sends from", name)
        self._say(packet, "tftp.port", known.client, says, "RFC 1350, 4", f"port {found}", f"port {expected}", known)

    def _options(self, packet: Packet, known: _Transfer, message: Tftp) -> None:
        asked, given = known.request.options, message.options
        known.size = message.option("blksize", known.size)
        unasked = next((name for name in given if name not in asked), None)
        says = f"{known.server} agrees to another option of a transfer than {known.client} has asked for"
        if unasked is not None:
            self._say(packet, "tftp.options", known.server, says, "RFC 2347", repr(unasked[:_SHOWN]),
                      ", ".join(sorted(asked))[:_SHOWN] or "no option")  # fmt: skip
        elif known.size > (most := known.request.option("blksize", known.size)):
            self._say(
                packet, "tftp.options", known.server, says, "RFC 2348", f"blksize {known.size}", f"{most} at most"
            )

    def _data(self, packet: Packet, known: _Transfer, message: Tftp) -> None:
        block, sender = message.number, known.sender
        if message.size > known.size:
            says = f"{sender} sends a larger block of {known.file} than was agreed on"
            self._say(packet, "tftp.block_size", sender, says, "RFC 1350, 5; RFC 2348", f"{message.size} bytes",
                      f"{known.size} at most", known)  # fmt: skip
        ahead = (block - known.sent) % _BLOCKS
        if ahead == 1 or (block, known.sent) == (1, _BLOCKS - 1):  # some go on with 1 behind the last number
            known.sent, known.sent_in = block, (packet.number, packet.at)
            if message.size < known.size:
                known.last_block = block
        elif not ahead or ahead > _WINDOW:
            self._again(packet, known, block)
        else:
            expected = (known.sent + 1) % _BLOCKS
            says = f"{sender} sends blocks of {known.file} with a number that is not the next"
            says = mistakes.told(says, mistakes.number(block, expected))
            known.blamed = known.blamed or ("tftp.block", (sender, known.file))
            self._findings.add(
                "tftp.block", (sender, known.file), packet.number, says, "RFC 1350, 5", host=sender,
                found=f"block {block}", expected=f"block {expected}", absence=True, dropped=False,
            )  # fmt: skip
            known.sent, known.sent_in = block, (packet.number, packet.at)

    def _again(self, packet: Packet, known: _Transfer, block: int) -> None:
        """A block that was sent before: its acknowledgment did not come, or was not taken."""
        number, at = known.sent_in
        if packet.at - at <= _COPIED:
            return
        was_acked = (known.acked - block) % _BLOCKS < _WINDOW and bool(known.acked_in)
        host, suspect = (known.sender, known.acked_in) if was_acked else (known.receiver, number)
        says = f"{known.sender} sends block {block} of {known.file} again"
        says += ", though it was acknowledged" if was_acked else f": {known.receiver} has not acknowledged it"
        evidence = f"packet {packet.number} comes {(packet.at - at) / SECOND:.3f} s after packet {number}"
        evidence += f"; packet {known.acked_in} acknowledges it" if was_acked else ""
        self._findings.add(
            "tftp.retransmission", (known.sender, known.receiver, known.file, was_acked), packet.number, says,
            "RFC 1350, 2 and 6", evidence, host=host, suspects=(suspect,), dropped=False, follows=known.blamed,
        )  # fmt: skip

    def _acknowledges(self, packet: Packet, known: _Transfer, message: Tftp) -> None:
        ahead = (message.number - known.sent) % _BLOCKS
        if not ahead or ahead > _WINDOW:
            if not known.acked_in or (message.number - known.acked) % _BLOCKS < _WINDOW:
                known.acked, known.acked_in = message.number, packet.number
            return
        name = mistakes.number(message.number, known.sent)
        says = f"{known.receiver} acknowledges a block of {known.file} that was not sent"
        self._say(packet, "tftp.block", known.receiver, mistakes.told(says, name), "RFC 1350, 5",
                  f"block {message.number}", f"block {known.sent} at most", known)  # fmt: skip

    def _error(self, packet: Packet, known: _Transfer, message: Tftp, *, by_server: bool) -> None:
        is_sized = known.first and not known.sent and "tsize" in known.request.options
        known.is_over = True
        if not by_server and message.number in {0, _SIZE_ASKED} and is_sized:
            return  # it wanted to know the file's size, and now it does
        name = tftp.ERRORS[message.number] if message.number < len(tftp.ERRORS) else "error"
        who, other = (known.server, known.client) if by_server else (known.client, known.server)
        doing = f"the {'reading' if known.reads else 'writing'} of {known.file}"
        says = f"{who} ends {doing} by {known.client}: {name}" if by_server else f"{who} ends {doing}: {name}"
        text = message.strings[0][:_SHOWN] if message.strings else ""
        self._findings.add(
            f"tftp.{name.replace(' ', '_')}", (who, other, message.number, known.file), packet.number, says,
            "RFC 1350, 7 and appendix" if message.number < _SIZE_ASKED else "RFC 2347",
            f"error {message.number}" + (f", {text!r}" if text else "") + _after(known), host=who, dropped=False,
        )  # fmt: skip

    def _elsewhere(self, packet: Packet, ip: Ip, udp: Udp) -> None:
        """An answer from an address that was not asked."""
        key = self._askers[ip.destination, udp.destination_port]
        message = _message(packet, udp)
        if message is None or key not in self._transfers or self._transfers[key].ports:
            return
        known, found, number = self._transfers[key], ip_text(ip.source), packet.number
        says = f"{known.client} asks the TFTP server {known.server} for {known.file}, and {found} answers"
        says = mistakes.told(says, mistakes.address(ip.source, key[2]))
        self.requests.mistaken(
            key,
            lambda findings: findings.add(
                "tftp.other_server", (found, known.client), number, says, "RFC 1350, 4", host=found, found=found,
                expected=known.server,
            ),
        )  # fmt: skip

    # ------------------------------------------------------------------- end

    def settle(self, until: int, findings: Findings, passes: Callable[[bytes, int], bool]) -> list[str]:
        """Report transfers that break off, and return notes; `passes` tells of a packet whether what answers it would
        be in the capture."""
        hidden = sum([self._close(known, until, findings, passes) for known in self._transfers.values()])
        return [f"The filter hides the rest of {hidden} TFTP transfers: whether they ended is not judged"] * bool(
            hidden
        )

    def _close(self, known: _Transfer, until: int, findings: Findings, passes: Callable[[bytes, int], bool]) -> bool:
        """Say of a transfer that it broke off, if it did; whether a filter would hide that."""
        number, at, by_server = known.last
        if known.is_over or known.is_complete or not known.first or not number or until - at < _GRACE:
            return False
        if not passes(*known.sample):
            return True
        silent, other = (known.client, known.server) if by_server else (known.server, known.client)
        due = "the next block" if silent == known.sender else f"an acknowledgment of block {known.sent}"
        says = f"The transfer of {known.file} from {known.sender} to {known.receiver} breaks off"
        waited = f"{(until - at) / SECOND:.1f} s after packet {number}"
        findings.add(
            "tftp.broken_off", (known.client, known.server, known.file), number, f"{says}: {silent} sends nothing more",
            "RFC 1350, 2 and 6", f"{due} is due, and nothing comes in the {waited}{_after(known)}",
            host=silent, group=other, suspects=(number,), absence=True, follows=known.blamed,
        )  # fmt: skip
        return False

    def _say(
        self, packet: Packet, what: str, host: str, says: str, rule: str, found: str, expected: str,
        known: _Transfer | None = None,
    ) -> None:  # fmt: skip
        if known is not None:
            known.blamed = known.blamed or (what, (what, host))
        self._findings.add(what, (what, host), packet.number, says, rule, host=host, found=found, expected=expected)


def _length(udp: Udp) -> int:
    """Bytes of data in a datagram, be it in fragments."""
    return udp.length - 8 if udp.length >= 8 else udp.end - udp.payload  # noqa: PLR2004 - the header


def _message(packet: Packet, udp: Udp) -> Tftp | None:
    return tftp.parse(packet.frame.data[udp.payload : udp.payload + _length(udp)], _length(udp))


def _shown(message: Tftp) -> str:
    name = message.strings[0] if message.strings else ""
    return repr(name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "...")


def _after(known: _Transfer) -> str:
    """How far a transfer came."""
    return f"; {known.sent} blocks were sent before" if known.sent else ""
