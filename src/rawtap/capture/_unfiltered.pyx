# cython: language_level=3, boundscheck=False, wraparound=False
"""What passes an interface while a capture's filter selects nothing: how many frames, and of what kinds.

A second packet socket, without a ring and without a filter. The kernel counts on it every frame that passes
(PACKET_STATISTICS counts those as well that find the socket's buffer full, packet(7)), and the few that its small
buffer holds are the sample whose kinds are told. The capture's worker thread owns it, publishes what it has (see _account), looks when the socket is readable and
now and then, and looks away for good when the first packet was selected: then there is nothing to explain.
"""

from libc.errno cimport errno
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memset, strerror
from rawtap.capture._account cimport consult, publish


cdef extern from "<sys/socket.h>" nogil:
    struct c_sockaddr "sockaddr":
        pass
    int socket(int, int, int)
    int bind(int, const c_sockaddr *, unsigned int)
    int setsockopt(int, int, int, const void *, unsigned int)
    int getsockopt(int, int, int, void *, unsigned int *)
    ssize_t recv(int, void *, size_t, int)
    int AF_PACKET
    int SOCK_RAW
    int SOCK_NONBLOCK
    int SOCK_CLOEXEC
    int SOL_SOCKET
    int SOL_PACKET
    int SO_RCVBUF
    int SO_ATTACH_FILTER


cdef extern from "<unistd.h>" nogil:
    int close(int)


cdef extern from "<arpa/inet.h>" nogil:
    uint16_t htons(uint16_t)


cdef extern from "<linux/if_ether.h>" nogil:
    int ETH_P_ALL


cdef extern from "<linux/if_packet.h>" nogil:
    struct sockaddr_ll:
        unsigned short sll_family
        unsigned short sll_protocol
        int sll_ifindex
    struct tpacket_stats:
        unsigned int tp_packets
    int PACKET_STATISTICS
    int PACKET_IGNORE_OUTGOING


cdef extern from "<linux/filter.h>" nogil:
    struct sock_filter:
        unsigned short code
        unsigned char jt
        unsigned char jf
        uint32_t k
    struct sock_fprog:
        unsigned short len
        sock_filter *filter
    unsigned short BPF_RET
    unsigned short BPF_K


cdef enum:
    BUFFER = 32 << 10       # what the kernel makes room for: some forty small frames
    HEAD = 64               # Ethernet, a tag, IPv4 or IPv6, ports
    AT_ONCE = 256           # frames in one look
    IPV4 = 0x0800
    IPV6 = 0x86DD
    VLAN = 0x8100
    TCP = 6
    UDP = 17


cdef class UnfilteredCount:
    """Counts and tells the frames of one interface. See the module for who may call what."""

    def __cinit__(self):
        self.fd = -1

    def open(self, int index, *, bint loopback=False):
        """Begin to count on the interface of that index; needs CAP_NET_RAW in force in this thread.

        On the loopback interface each frame comes once, as in a capture (PACKET_IGNORE_OUTGOING, packet(7)).

        Raises:
            OSError: The kernel refuses.
        """
        cdef sockaddr_ll address
        cdef int size = BUFFER
        cdef int yes = loopback
        self.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if self.fd < 0:
            raise OSError(errno, strerror(errno).decode())
        setsockopt(self.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size))
        if loopback and setsockopt(self.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) != 0:
            raise OSError(errno, strerror(errno).decode())
        memset(&address, 0, sizeof(address))
        address.sll_family = AF_PACKET
        address.sll_protocol = htons(ETH_P_ALL)
        address.sll_ifindex = index
        if bind(self.fd, <const c_sockaddr *>&address, sizeof(address)) != 0:
            raise OSError(errno, strerror(errno).decode())
        self.watching = True

    def close(self):
        """Give the socket back; what was counted stays."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            with nogil:
                close(fd)

    def __dealloc__(self):
        self.close()

    @property
    def frames(self):
        """Frames that passed, as far as was looked."""
        return self._read().counted

    @property
    def sampled(self):
        """Of these, frames whose kind was told."""
        return self._read().sampled

    @property
    def kinds(self):
        """The sample: tuples (EtherType, IP protocol, lower port, frames), the commonest first."""
        cdef Passed passed = self._read()
        found = [
            (kind.protocol >> 8, kind.protocol & 0xFF, kind.port, kind.frames) for kind in passed.table[: passed.used]
        ]
        return sorted(found, key=lambda kind: -kind[3])

    cdef void look(self) noexcept nogil:
        """Take what the sample holds, and the kernel's count."""
        cdef unsigned char head[HEAD]
        cdef ssize_t size
        cdef int taken = 0
        if not self.watching:
            return
        while taken < AT_ONCE:
            size = recv(self.fd, head, HEAD, 0)
            if size < 0:
                break
            taken += 1
            self.own.sampled += 1
            self._tell(head, <size_t>size)
        self._count()
        self.changed = True
        self.publish()

    cdef void note(self, const unsigned char *frame, size_t size, uint64_t most) noexcept nogil:
        """Count a frame that somebody else has taken; tell its kind if it is among the first `most`."""
        self.own.counted += 1
        self.changed = True
        if self.own.sampled < most:
            self.own.sampled += 1
            self._tell(frame, size)

    cdef void publish(self) noexcept nogil:
        """Let others see what was noted."""
        if self.changed:
            self.changed = False
            publish(&self.turn, <uint64_t *>&self.published, <const uint64_t *>&self.own, sizeof(Passed))

    cdef Passed _read(self) noexcept:
        cdef Passed passed
        consult(&self.turn, <const uint64_t *>&self.published, <uint64_t *>&passed, sizeof(Passed))
        return passed

    cdef void look_away(self) noexcept nogil:
        """Count no more. Closing would wait for the kernel's other processors (synchronize_net), so that comes later."""
        cdef sock_filter nothing
        cdef sock_fprog program
        if not self.watching:
            return
        self.watching = False
        nothing.code = BPF_RET | BPF_K
        nothing.jt = nothing.jf = 0
        nothing.k = 0
        program.len = 1
        program.filter = &nothing
        setsockopt(self.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program))

    cdef void _count(self) noexcept nogil:
        cdef tpacket_stats stats
        cdef unsigned int size = sizeof(stats)
        stats.tp_packets = 0
        if getsockopt(self.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0:
            self.own.counted += stats.tp_packets  # reading resets it

    cdef void _tell(self, const unsigned char *frame, size_t size) noexcept nogil:
        """Count one frame of the sample under its kind, while there is a place for one."""
        cdef uint32_t type_, protocol = 0, port = 0, source, target
        cdef size_t at = 12
        cdef int place = 0
        cdef Passed *own = &self.own
        if size < 14:
            return
        if frame[12] << 8 | frame[13] == VLAN and size >= 18:
            at = 16
        type_ = frame[at] << 8 | frame[at + 1]
        at += 2
        if type_ == IPV4 and size >= at + 20:
            protocol = frame[at + 9]
            at += (frame[at] & 0x0F) * 4
        elif type_ == IPV6 and size >= at + 40:
            protocol = frame[at + 6]
            at += 40
        if protocol in (TCP, UDP) and size >= at + 4:
            source = frame[at] << 8 | frame[at + 1]
            target = frame[at + 2] << 8 | frame[at + 3]
            port = min(source, target)
        while place < <int>own.used and not (
            own.table[place].protocol == (type_ << 8 | protocol) and own.table[place].port == port
        ):
            place += 1
        if place == KINDS:
            return
        if place == <int>own.used:
            own.table[place].protocol = type_ << 8 | protocol
            own.table[place].port = port
            own.used += 1
        own.table[place].frames += 1
