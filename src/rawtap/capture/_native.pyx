# cython: language_level=3, boundscheck=False, wraparound=False
"""The capture path in C: libpcap's ring, from which the reader puts records into the queue.

Theory of operation
-------------------
One `LiveCapture` is one libpcap handle (python-libpcap's `BasePcap.handler`). **One thread at a time has it**: the session's
from `open` to `close`, and in between, while `run` runs, the reader. What other threads may do is said in `_worker`, which has
all that does not depend on where the frames come from.

*Arming.* libpcap's activate binds the socket before there is a filter, so frames that nobody asked for get into the
ring. `open` therefore attaches a reject-all filter to the socket at once, throws away exactly as many frames
as the kernel says came through before it, and replaces it by the capture's. From then on
every frame that the kernel counts is one that the filter selected, and the counts must balance.

*libpcap throws nothing away.* Where the kernel refuses a filter, pcap_setfilter would run it in user space, out of sight: such
a filter is refused here. It would also run each filter once more on the ring's first blocks, in user space, where `inbound`
selects nothing. So the program goes to the socket directly, but for a link type whose header libpcap makes up (DLT_LINUX_SLL):
then it moves the program's offsets. And on the loopback interface it would throw away every frame's outgoing copy: there
the kernel is told to hand none over (PACKET_IGNORE_OUTGOING, packet(7), Linux 4.20).

*Running.* The handle is non-blocking and the reader polls its descriptor, because pcap_dispatch on a quiet
TPACKET_V3 ring does not return on a time-out. pcap_dispatch calls `_on_packet` for each frame, without the GIL; that
puts a record into the `Queue` (see _queue), and after every batch the writer is given them.

*Nothing selected.* Until the filter has selected a packet, an `UnfilteredCount` (see _unfiltered) counts what passes unfiltered.

*Where a frame was seen.* What an interface has, and libpcap does not hand on, stands in the ring before the frame: its address
(sockaddr_ll), which tells the direction and the interface. pcapng records both. The place is known from how the kernel lays a
frame out (tpacket_rcv, net/packet/af_packet.c), and it is believed only where the times and lengths that stand there are
those that libpcap gave: of any other layout nothing is recorded.

*Several points.* Interfaces of one link type are captured together by one socket: libpcap opens the first, and then, with nothing
let in, the socket is bound to all interfaces of the network namespace, and the filter begins with a choice of theirs. So there is
one ring, one clock and one order of all their frames.

*Questions.* To have in the file all that was on the wire by then, the worker takes the kernel's count, reads on until it has
been given as many frames, and says which packet was the last of them.

*Stopping.* Frames sit in the kernel's unfinished ring block until its timer retires it. To stop, the worker
attaches the reject-all filter again, so nothing more can come in, and reads on until it has been given as many
frames as the kernel counted (received less dropped). What is missing at a deadline is reported as `unaccounted`.

Sources: pcap(3PCAP), pcap_set_tstamp_precision(3PCAP), packet(7),
https://docs.kernel.org/networking/packet_mmap.html, pcap-savefile(5).
"""

from libc.errno cimport ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport FILE as STDFILE
from libc.stdlib cimport free
from libc.string cimport memcpy, memset, strerror
from pylibpcap.base cimport BasePcap
from pylibpcap.pcap cimport (
    bpf_program,
    pcap_create,
    pcap_datalink,
    pcap_datalink_val_to_name,
    pcap_freecode,
    pcap_geterr,
    pcap_pkthdr,
    pcap_set_promisc,
    pcap_set_snaplen,
    pcap_set_timeout,
    pcap_setfilter,
    pcap_setnonblock,
    pcap_stat,
    pcap_t,
    sockaddr,
    u_char,
    u_int,
)
from rawtap._bpf cimport compile_filter
from rawtap._clock cimport now
from rawtap.capture._queue cimport (
    INTERFACE_REMOVED,
    MAX_PACKETS,
    MAX_SECONDS,
    PCAP_FAILED,
    RUNNING,
    STOPPED,
    Queue,
    Reason,
    append,
    fill,
    fits,
    go_on,
    record_size,
)
from rawtap.capture._unfiltered cimport UnfilteredCount
from rawtap.capture._worker cimport DRAIN_LIMIT_NS, Question, Sink, Worker, sooner

from rawtap._bpf import FilterRefused
from rawtap.capture._worker import MAX_SNAPLEN, FilterError, NativeError
from rawtap.packets.tags import has_vlan


cdef extern from "pcap/pcap.h" nogil:
    ctypedef struct pcap_dumper_t:
        pass
    ctypedef void (*nogil_handler "pcap_handler")(u_char *, const pcap_pkthdr *, const u_char *) noexcept nogil
    int PCAP_TSTAMP_PRECISION_NANO
    int PCAP_ERROR_BREAK
    int DLT_LINUX_SLL
    int DLT_LINUX_SLL2
    # python-libpcap declares this one without its fields.
    struct program_view "bpf_program":
        u_int bf_len
        void *bf_insns
    int pcap_set_buffer_size(pcap_t *, int)
    int pcap_set_tstamp_precision(pcap_t *, int)
    int pcap_get_selectable_fd(pcap_t *)
    int pcap_fileno(pcap_t *)
    void pcap_breakloop(pcap_t *)
    const char *pcap_statustostr(int)
    pcap_dumper_t *pcap_dump_fopen(pcap_t *, STDFILE *)
    void pcap_dump_close(pcap_dumper_t *)
    const char *pcap_lib_version()
    # python-libpcap declares these four as well, but so that they hold the GIL.
    int pcap_activate(pcap_t *)
    int pcap_dispatch(pcap_t *, int, nogil_handler, u_char *)
    int pcap_stats(pcap_t *, pcap_stat *)
    void pcap_close(pcap_t *)


cdef extern from "<stdio.h>" nogil:
    STDFILE *open_memstream(char **, size_t *)


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *, unsigned long, int)
    short POLLIN
    short POLLERR


cdef extern from "<sys/socket.h>" nogil:
    int setsockopt(int, int, int, const void *, unsigned int)
    int getsockopt(int, int, int, void *, unsigned int *)
    int getsockname(int, sockaddr *, unsigned int *)
    int bind(int, const sockaddr *, unsigned int)
    int AF_PACKET
    int SOL_SOCKET
    int SOL_PACKET
    int SO_ATTACH_FILTER
    int SO_GET_FILTER


cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_SETFD
    int FD_CLOEXEC


cdef extern from "<net/if.h>" nogil:
    enum:
        IF_NAMESIZE
    char *if_indextoname(unsigned int, char *)


cdef extern from "<linux/if_packet.h>" nogil:
    struct sockaddr_ll:
        unsigned short sll_family
        unsigned short sll_protocol
        int sll_ifindex
        unsigned char sll_pkttype
    int PACKET_IGNORE_OUTGOING
    int PACKET_OUTGOING


cdef extern from * nogil:
    """
    #include <pcap/pcap.h>
    #include <linux/if_packet.h>
    #define TAG_BYTES 4 /* that libpcap puts back into a frame, and leaves room for */
    /* The address of a frame at `bytes` behind its place in the ring, NULL if it is not there. */
    static inline const struct sockaddr_ll *ring_address_at(
        const struct pcap_pkthdr *h, const unsigned char *data, unsigned bytes)
    {
        const struct tpacket3_hdr *t = (const struct tpacket3_hdr *)(data - bytes);
        unsigned more = t->tp_mac == bytes ? 0 : TAG_BYTES;
        if (t->tp_mac != bytes + more || t->tp_snaplen + more != h->caplen || t->tp_len + more != h->len
            || t->tp_sec != (uint32_t)h->ts.tv_sec || t->tp_nsec != (uint32_t)h->ts.tv_usec)
            return NULL;
        return (const struct sockaddr_ll *)((const char *)t + TPACKET_ALIGN(sizeof(*t)));
    }
    /* A header of `link` bytes ends where the kernel aligns what follows it. */
    #define RING_PLACE(link) \
        (TPACKET_ALIGN(TPACKET3_HDRLEN + ((link) < 16 ? 16 : (link))) + TAG_BYTES - (link))
    static inline const struct sockaddr_ll *ring_address(const struct pcap_pkthdr *h, const unsigned char *data)
    {
        const struct sockaddr_ll *found = ring_address_at(h, data, RING_PLACE(14));
        if (!found) found = ring_address_at(h, data, RING_PLACE(18)); /* with a tag, which may be one put back */
        if (!found) found = ring_address_at(h, data, RING_PLACE(0));
        return found;
    }
    """
    const sockaddr_ll *ring_address(const pcap_pkthdr *, const u_char *)


cdef extern from "<arpa/inet.h>" nogil:
    unsigned short htons(unsigned short)


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
    unsigned short BPF_LD
    unsigned short BPF_W
    unsigned short BPF_ABS
    unsigned short BPF_JMP
    unsigned short BPF_JEQ
    int SKF_AD_OFF
    int SKF_AD_IFINDEX


cdef extern from "<linux/if_ether.h>" nogil:
    int ETH_P_ALL


cdef enum:
    BATCH = 65536               # frames between two looks at the stop flag under a flood
    STATS_INTERVAL_NS = 100_000_000
    DOWN_INTERVAL_NS = 100_000_000
    LOOK_INTERVAL_NS = 100_000_000
    QUIET_NS = 50_000_000       # in which a ring that gets nothing more has given all
    MOST_POINTS = 64            # a jump in a filter reaches 255 instructions
    MOST_INSTRUCTIONS = 4096    # BPF_MAXINSNS, of a socket's filter
    INBOUND = 1                 # draft-ietf-opsawg-pcapng, 4.3.1
    OUTBOUND = 2


cdef struct Points:             # interfaces that are captured
    int[MOST_POINTS] indexes
    uint32_t count
    uint32_t last               # where the last frame was seen
    uint64_t unplaced           # frames of which that is not known


cdef void _end(Sink *sink, Reason reason) noexcept nogil:
    """Record why the capture ends. What the ring holds by then is still saved."""
    if sink.queue.reason == RUNNING:
        sink.queue.reason = reason
    pcap_breakloop(<pcap_t *>sink.handle)


cdef void _on_packet(u_char *user, const pcap_pkthdr *h, const u_char *data) noexcept nogil:
    """Append one record: the hot path."""
    cdef Sink *sink = <Sink *>user
    cdef Queue *queue = &sink.queue
    cdef uint32_t kept = min(h.caplen, queue.snaplen)
    cdef size_t size = record_size(queue.pcapng, queue.flagged, kept)
    cdef uint32_t interface = 0, direction = 0
    sink.seen += 1
    if not queue.full and not fits(queue, size) and not go_on(queue, size):
        pcap_breakloop(<pcap_t *>sink.handle)
    if queue.full:
        queue.refused += 1
        return
    # Not microseconds but nanoseconds: the handle's precision is set to that.
    if queue.flagged:
        _look_up(<Points *>sink.points, ring_address(h, data), &interface, &direction)
    append(queue, size, <uint64_t>h.ts.tv_sec, <uint32_t>h.ts.tv_usec, kept, h.len, data, interface, direction)
    if queue.mark.packets >= queue.max_packets:
        fill(queue, MAX_PACKETS)
    if queue.full:
        pcap_breakloop(<pcap_t *>sink.handle)


cdef inline void _look_up(
    Points *points, const sockaddr_ll *address, uint32_t *interface, uint32_t *direction
) noexcept nogil:
    """The place of an address among the file's interfaces, and a frame's direction there, as pcapng's flags have it."""
    cdef uint32_t at
    if address == NULL:
        points.unplaced += 1
        return
    direction[0] = OUTBOUND if address.sll_pkttype == PACKET_OUTGOING else INBOUND
    if points.last < points.count and points.indexes[points.last] == address.sll_ifindex:
        interface[0] = points.last
        return
    for at in range(points.count):
        if points.indexes[at] == address.sll_ifindex:
            interface[0] = points.last = at


cdef void _on_unwanted(u_char *user, const pcap_pkthdr *h, const u_char *data) noexcept nogil:
    """Count a frame that came in before the filter was in force."""
    (<uint64_t *>user)[0] += 1


cdef class LiveCapture(Worker):
    """One capture of one interface into one file. See the module's theory of operation for who may call what."""

    cdef BasePcap pcap
    cdef pcap_t *handler
    cdef int pcap_fd
    cdef int retire_ms
    cdef int index
    cdef bint loopback
    cdef int unfiltered_fd
    cdef uint64_t base_counted
    cdef uint64_t base_dropped
    cdef bint went_down
    cdef Points points

    def __cinit__(self):
        self.unfiltered_fd = -1
        self.pcap = BasePcap.__new__(BasePcap)  # its own __init__ would open a savefile

    def open(self, str interface, *, int index, int ring_bytes, bint loopback=False, bint promiscuous=True,
             int retire_ms=5, tuple more=()):
        """Create and activate the handle with nothing let in yet; needs CAP_NET_RAW in force in this thread.

        `more` are the indexes of further interfaces, of the same link type, which are captured as well.

        `index` is the interface's, and what libpcap opened is held against it: to libpcap "any" is every interface
        of the host, whatever the one of that name may be, and other names are devices of its own as well. `loopback`: it is
        the loopback interface.

        The ring takes whole packets, and `snaplen` cuts them on their way to the file: libpcap runs the filter once more
        on those of its first blocks, as they were cut, and would lose packets that a short snaplen took the end of.

        Raises:
            NativeError: With libpcap's status (-5 no such device, -8 permission, -9 interface down) and text.
        """
        cdef int status
        cdef sockaddr_ll bound
        cdef unsigned int size = sizeof(bound)
        cdef bytes name = interface.encode()
        self.handler = self.pcap.handler = pcap_create(name, self.pcap.errbuf)
        if self.handler == NULL:
            raise NativeError((<bytes>self.pcap.errbuf).decode(errors="replace"))
        pcap_set_snaplen(self.handler, MAX_SNAPLEN)
        pcap_set_promisc(self.handler, promiscuous)
        pcap_set_timeout(self.handler, retire_ms)
        pcap_set_buffer_size(self.handler, ring_bytes)
        if pcap_set_tstamp_precision(self.handler, PCAP_TSTAMP_PRECISION_NANO) != 0:
            raise NativeError("nanosecond timestamps are not supported on this interface")
        with nogil:
            status = pcap_activate(self.handler)
        if status < 0:
            raise NativeError(self._libpcap_text(status), status)
        fcntl(pcap_fileno(self.handler), F_SETFD, FD_CLOEXEC)  # libpcap has no option to make it so
        if not self._reject_all():
            raise NativeError(f"the socket takes no filter: {strerror(errno).decode()}", 0, errno)
        if loopback and not self._ignore_outgoing():
            raise NativeError(f"PACKET_IGNORE_OUTGOING: {strerror(errno).decode()}; it takes Linux 4.20", 0, errno)
        if getsockname(pcap_fileno(self.handler), <sockaddr *>&bound, &size) != 0 or bound.sll_ifindex != index:
            raise NativeError(f"libpcap opened another device by the name {interface}")
        if status > 0:
            self.warning = self._libpcap_text(status)
        if pcap_setnonblock(self.handler, 1, self.pcap.errbuf) != 0:
            raise NativeError((<bytes>self.pcap.errbuf).decode(errors="replace"))
        self.sink.queue.flagged = self.out.flagged = self.sink.queue.pcapng
        self.sink.handle = self.handler
        self.sink.points = &self.points
        self._set_points((index, *more))
        self.retire_ms = retire_ms
        self.index, self.loopback = index, loopback
        self.pcap_fd = pcap_get_selectable_fd(self.handler)
        self.link_type = pcap_datalink(self.handler)
        self.link_type_name = _text(pcap_datalink_val_to_name(self.link_type)) or str(self.link_type)

    cdef int _set_points(self, tuple indexes) except -1:
        """The interfaces, in their order in the file; the socket is bound to all if there are several."""
        cdef sockaddr_ll everything
        if len(indexes) > MOST_POINTS:
            raise NativeError(f"{len(indexes)} interfaces are more than the {MOST_POINTS} that are captured together")
        self.points.count = len(indexes)
        for at, index in enumerate(indexes):
            self.points.indexes[at] = index
        if len(indexes) == 1:
            return 0
        memset(&everything, 0, sizeof(everything))
        everything.sll_family, everything.sll_protocol = AF_PACKET, htons(ETH_P_ALL)
        if bind(pcap_fileno(self.handler), <sockaddr *>&everything, sizeof(everything)) != 0:
            raise NativeError(f"the socket cannot be bound to all interfaces: {strerror(errno).decode()}", 0, errno)
        return 0

    def arm(self, str expression):
        """Compile `expression` and let what it selects into the ring. When this returns, the capture is armed.

        Raises:
            FilterError: With libpcap's text, or the bound that compiling passed.
            NativeError: libpcap's compiler cannot be run, or frames from before the filter did not leave the ring.
        """
        cdef bpf_program program
        try:
            # libpcap's optimizer spoils live programs that ask for tags: "arp and vlan 10" would select nothing.
            compile_filter(self.handler, expression, not has_vlan(expression), &program)
        except FilterRefused as error:
            raise FilterError(f"libpcap: {error}") from error
        except OSError as error:
            raise NativeError(f"libpcap's compiler cannot be run: {error.strerror}", 0, error.errno) from error
        try:
            self._discard_earlier()
            self._let_in(&program)
        finally:
            pcap_freecode(&program)

    cdef int _let_in(self, bpf_program *program) except -1:
        """Put the program in force in the kernel."""
        cdef int fd = pcap_fileno(self.handler)
        cdef unsigned int length = 0
        cdef sock_fprog direct
        cdef sock_filter[MOST_POINTS + 2 + MOST_INSTRUCTIONS] chosen
        if self.link_type in (DLT_LINUX_SLL, DLT_LINUX_SLL2):
            if pcap_setfilter(self.handler, program) != 0:
                raise FilterError("libpcap: " + _text(pcap_geterr(self.handler)))
            # The length of the socket's filter, where there is one (sk_get_filter, net/core/filter.c).
            if getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &length) != 0 or length == 0:
                raise FilterError("the kernel does not take it")
            return 0
        direct.len = (<program_view *>program).bf_len
        direct.filter = <sock_filter *>(<program_view *>program).bf_insns
        if self.points.count > 1:
            if direct.len > MOST_INSTRUCTIONS:
                raise FilterError(f"it comes to {direct.len} instructions, and {MOST_INSTRUCTIONS} are taken")
            self._choose(chosen)
            memcpy(&chosen[self.points.count + 2], direct.filter, direct.len * sizeof(sock_filter))
            direct.filter, direct.len = chosen, <unsigned short>(self.points.count + 2 + direct.len)
        if setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &direct, sizeof(direct)) != 0:
            cure = "; net.core.optmem_max bounds its length" if errno == ENOMEM else ""
            raise FilterError(f"the kernel does not take it: {strerror(errno).decode()}{cure}")
        return 0

    cdef void _choose(self, sock_filter *chosen) noexcept:
        """Instructions that let through to what follows them only frames of the points' interfaces."""
        cdef uint32_t at, count = self.points.count
        chosen[0].code, chosen[0].jt, chosen[0].jf = BPF_LD | BPF_W | BPF_ABS, 0, 0
        chosen[0].k = <uint32_t>(SKF_AD_OFF + SKF_AD_IFINDEX)
        for at in range(count):
            chosen[1 + at].code, chosen[1 + at].k = BPF_JMP | BPF_JEQ | BPF_K, self.points.indexes[at]
            chosen[1 + at].jt, chosen[1 + at].jf = <unsigned char>(count - at), 0
        chosen[count + 1].code, chosen[count + 1].k = BPF_RET | BPF_K, 0
        chosen[count + 1].jt = chosen[count + 1].jf = 0

    @property
    def unplaced(self):
        """Frames of which it is not known where they were seen."""
        return self.points.unplaced

    def header(self):
        """The savefile header, as libpcap itself writes it (24 bytes), with our snaplen in it (pcap-savefile(5))."""
        cdef char *memory = NULL
        cdef size_t size = 0
        cdef STDFILE *stream = open_memstream(&memory, &size)
        cdef pcap_dumper_t *dumper
        if stream == NULL:
            raise MemoryError
        dumper = pcap_dump_fopen(self.handler, stream)
        if dumper == NULL:
            raise NativeError(_text(pcap_geterr(self.handler)))
        pcap_dump_close(dumper)
        try:
            (<uint32_t *>memory)[4] = self.sink.queue.snaplen
            return memory[:size]
        finally:
            free(memory)

    def watch(self, UnfilteredCount unfiltered):
        """Let `unfiltered`, which is open, count until a packet was selected. Before `run`."""
        self.unfiltered = unfiltered
        self.unfiltered_fd = unfiltered.fd

    def close(self):
        """Free the handle and the buffer; the counters stay readable. Takes the kernel some 20 ms (synchronize_net)."""
        cdef pcap_t *handle = self.handler
        self.handler = self.pcap.handler = NULL
        if handle != NULL:
            with nogil:
                pcap_close(handle)
        self._free()

    cdef void _capture(self) noexcept nogil:
        self._loop()
        self._drain()

    cdef str _failure(self):
        return "libpcap: " + _text(pcap_geterr(self.handler))

    cdef void _loop(self) noexcept nogil:
        cdef Queue *queue = &self.sink.queue
        cdef pollfd[3] fds
        cdef int n
        cdef int64_t stats_due = 0, look_due = 0
        fds[0].fd = self.pcap_fd
        fds[1].fd = self.ask_fd
        fds[0].events = fds[1].events = fds[2].events = POLLIN
        while queue.reason == RUNNING:
            self._start_batch()
            n = pcap_dispatch(self.handler, BATCH, _on_packet, <u_char *>&self.sink)
            self._deliver(self.sink.seen)
            if n < 0:
                if n != PCAP_ERROR_BREAK:
                    _end(&self.sink, self._trouble())
                continue
            if n > 0:
                self._look_away()
                if stats_due == 0:
                    stats_due = now() + STATS_INTERVAL_NS
            fds[0].revents = fds[1].revents = fds[2].revents = 0
            fds[2].fd = self.unfiltered_fd if look_due == 0 else -1
            poll(fds, 3, 0 if n == BATCH else self._patience(sooner(stats_due, look_due)))
            if fds[0].revents & POLLERR:
                # The interface went down or is gone. libpcap would say so at once, before what is in the
                # unfinished block: let the kernel's timer retire that first.
                self.went_down = True
                poll(NULL, 0, 2 * self.retire_ms + 2)
            if fds[2].revents != 0:
                self._look()
                look_due = now() + LOOK_INTERVAL_NS
            elif look_due != 0 and now() >= look_due:
                look_due = 0
            if fds[1].revents != 0 and self._hear():
                _end(&self.sink, STOPPED)
            elif self.deadline != 0 and now() >= self.deadline:
                _end(&self.sink, MAX_SECONDS)
            elif stats_due != 0 and now() >= stats_due:
                self._read_stats()
                stats_due = 0

    cdef void _weigh(self, Question *question) noexcept nogil:
        self._read_stats()
        question.goal = self.sink.seen + self._outstanding()
        question.promised = self.sink.queue.mark.packets + self._outstanding()

    cdef int _patience(self, int64_t due) noexcept nogil:
        """Milliseconds that poll may wait; for ever (-1) where nothing is due.

        The kernel reports an interface that goes down, once, but not that it is removed after that: libpcap finds
        out when it is asked (pcap_dispatch looks for the device then), so it is asked now and then.
        """
        if self.went_down and due == 0:
            due = now() + DOWN_INTERVAL_NS
        return self._milliseconds(due)

    cdef void _look(self) noexcept nogil:
        if self.unfiltered_fd >= 0:
            self.unfiltered.look()

    cdef void _look_away(self) noexcept nogil:
        if self.unfiltered_fd >= 0:
            self.unfiltered_fd = -1
            self.unfiltered.look_away()

    cdef void _drain(self) noexcept nogil:
        """Let nothing more in, then take what the kernel has until the counts balance."""
        cdef int64_t give_up = now() + DRAIN_LIMIT_NS
        cdef int n
        if self.sink.queue.reason in (PCAP_FAILED, INTERFACE_REMOVED):
            self._read_stats()
            return
        self._look()
        self._reject_all()
        while True:
            n = pcap_dispatch(self.handler, BATCH, _on_packet, <u_char *>&self.sink)
            if n < 0 and n != PCAP_ERROR_BREAK:
                self.sink.queue.reason = self._trouble()
                self._read_stats()
                return
            self._read_stats()
            self._deliver(0)
            if self._outstanding() == 0 or now() >= give_up:
                return
            if n == 0:
                self._wait_ring(self.retire_ms)

    cdef void _wait_ring(self, int milliseconds) noexcept nogil:
        cdef pollfd ring
        ring.fd = self.pcap_fd
        ring.events = POLLIN
        poll(&ring, 1, milliseconds)

    cdef void _read_stats(self) noexcept nogil:
        """Take the kernel's counters. libpcap's are 32 bits wide; the differences are added up in 64."""
        cdef pcap_stat stats
        if pcap_stats(self.handler, &stats) != 0:
            self.stats_failed = errno or 1
            return
        self.stats_failed = 0
        self.counted += <uint32_t>(stats.ps_recv - <uint32_t>(self.counted + self.base_counted))
        self.dropped += <uint32_t>(stats.ps_drop - <uint32_t>(self.dropped + self.base_dropped))
        self.dropped_interface += <uint32_t>(stats.ps_ifdrop - <uint32_t>self.dropped_interface)

    cdef Reason _trouble(self) noexcept nogil:
        """Why libpcap reads no more: an interface that is gone is no failure, what it carried is all there.

        libpcap asks by the name, which the kernel forgets before the index (unlist_netdevice, net/core/dev.c): an index
        that is still there is asked for again.
        """
        cdef char[IF_NAMESIZE] name
        if if_indextoname(self.index, name) != NULL:
            poll(NULL, 0, DOWN_INTERVAL_NS // 1_000_000)
        return PCAP_FAILED if if_indextoname(self.index, name) != NULL else INTERFACE_REMOVED

    cdef bint _ignore_outgoing(self) noexcept nogil:
        cdef int yes = 1
        return setsockopt(pcap_fileno(self.handler), SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) == 0

    cdef bint _reject_all(self) noexcept nogil:
        """Attach a filter that accepts nothing to the socket (SO_ATTACH_FILTER, socket(7)); whether the kernel took it."""
        cdef sock_filter nothing
        cdef sock_fprog program
        nothing.code = BPF_RET | BPF_K
        nothing.jt = nothing.jf = 0
        nothing.k = 0
        program.len = 1
        program.filter = &nothing
        return setsockopt(pcap_fileno(self.handler), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0

    def _discard_earlier(self):
        """Empty the ring of what came in between activation and the reject-all filter, and start counting after it.

        On the loopback interface libpcap gives only some of it, and the ring's silence has to do.
        """
        cdef pcap_stat stats
        cdef uint64_t discarded = 0
        cdef int64_t give_up = now() + DRAIN_LIMIT_NS
        cdef int64_t quiet = now() + QUIET_NS
        cdef int n
        while True:
            with nogil:
                n = pcap_dispatch(self.handler, BATCH, _on_unwanted, <u_char *>&discarded)
            if n < 0 or pcap_stats(self.handler, &stats) != 0:
                raise NativeError(_text(pcap_geterr(self.handler)), n)
            if n > 0:
                quiet = now() + QUIET_NS
            if discarded >= stats.ps_recv - stats.ps_drop or (self.loopback and now() >= quiet):
                break
            if now() >= give_up:
                raise NativeError("frames from before the filter did not leave the ring")
            with nogil:
                self._wait_ring(self.retire_ms)
        self.base_counted = stats.ps_recv
        self.base_dropped = stats.ps_drop

    cdef str _libpcap_text(self, int status):
        detail = _text(pcap_geterr(self.handler))
        name = _text(pcap_statustostr(status))
        return f"{name}: {detail}" if detail and detail != name else name


cdef str _text(const char *text):
    return "" if text == NULL else (<bytes>text).decode(errors="replace")


def library_version():
    """libpcap's own name and version."""
    return _text(pcap_lib_version())
