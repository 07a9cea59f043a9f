# cython: language_level=3, boundscheck=False, wraparound=False
"""Compiling a filter, bounded: whatever the expression, an answer after about a second of a processor's time.

Theory of operation
-------------------
pcap_compile is given text that an agent wrote. It can run for many seconds (an OR of 290 ports: 6 s), take memory
without bound, crash in its optimizer, and ask the DNS for what it takes for a name. None of that can be
stopped from outside in a thread. So it runs in a child made by fork(2), which has the live handle as it is (link
type and the handling of VLAN tags decide what comes out), and the program comes back through a pipe.

*The child* never touches Python. It gives up every capability, closes all but the pipe, has /dev/null for its standard
streams, cannot open a socket, opens no file but those that name services (Landlock, where the kernel has it), and has
little memory and little time. It dies with its parent. All signals stay blocked, so that no handler of the server's
runs in it.

*The parent* waits for the answer until the child has worked for its time, and kills it then. What counts is the child's
processor time, since on a busy machine the simplest filter may take a second; ten times as much passes at most. It always
reaps the child, by its own pid; one that has given its answer is reaped in a thread of its own, which ends within
milliseconds.

*Locks.* Other threads run at the fork, and only glibc's own state is made good in the child: malloc, stdio, the
loader and the NSS database (glibc's posix/fork.c). libpcap looks services and protocols up by getaddrinfo and
getprotobyname_r, which take no other lock once the NSS modules are loaded. Were the child to meet a lock that nobody
in it can open, then those ten times end it: the filter is refused, and nothing hangs.

*Jumps.* bpf_validate lets a program jump backwards, and bpf_filter follows: one that goes in a circle runs for ever. The
kernel refuses every backward jump, and so does this module, wherever the program is to run. What needs one is `protochain`.

*Harmless expressions* (`is_harmless`) are compiled in place. A fork costs 2 to 5 ms, depending on the server's memory;
to compile "udp port 53" takes 10 us.

Sources: pcap_compile(3PCAP), fork(2), prctl(2), setrlimit(2), capabilities(7), seccomp(2), landlock(7), proc(5) for
statm, clock_getcpuclockid(3).
"""

import ipaddress
import os
import re
import signal

from libc.errno cimport EACCES, EINTR, ENOSYS, EOPNOTSUPP, EPERM, errno
from libc.signal cimport SIGKILL
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdio cimport sscanf
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strncpy
from pylibpcap.pcap cimport bpf_program, pcap_close, pcap_freecode, pcap_open_dead, pcap_t, u_int
from rawtap._clock cimport now, time_on


cdef extern from "pcap/pcap.h" nogil:
    struct bpf_insn:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k
    # python-libpcap declares this one without its length.
    struct program_view "bpf_program":
        u_int bf_len
        bpf_insn *bf_insns
    u_int PCAP_NETMASK_UNKNOWN
    # python-libpcap declares these two as well, but so that they hold the GIL.
    const char *pcap_geterr(pcap_t *)
    int pcap_compile(pcap_t *, bpf_program *, const char *, int, u_int)
    int bpf_validate(const bpf_insn *, int)
    u_int bpf_filter(const bpf_insn *, const unsigned char *, u_int, u_int)


cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int, void *, size_t)
    ssize_t c_write "write"(int, const void *, size_t)
    int c_close "close"(int)
    int pipe2(int *, int)
    int dup2(int, int)
    int close_range(unsigned int, unsigned int, int)
    int fork()
    int getppid()
    int getpid()
    void _exit(int)
    long syscall(long, ...)
    long sysconf(int)
    int _SC_PAGESIZE


cdef extern from "<fcntl.h>" nogil:
    int c_open "open"(const char *, int)
    int fcntl(int, int, int)
    int O_RDONLY
    int O_RDWR
    int O_CLOEXEC
    int O_PATH
    int F_DUPFD


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *, unsigned long, int)
    short POLLIN


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int kill(int, int)
    int sigfillset(sigset_t *)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int SIG_SETMASK


cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_attr_t:
        pass
    int pthread_attr_init(pthread_attr_t *)
    int pthread_attr_setdetachstate(pthread_attr_t *, int)
    int pthread_attr_setstacksize(pthread_attr_t *, size_t)
    int pthread_attr_destroy(pthread_attr_t *)
    int pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *) noexcept nogil, void *)
    int PTHREAD_CREATE_DETACHED


cdef extern from "<time.h>" nogil:
    int clock_getcpuclockid(int, int *)


cdef extern from "<sys/wait.h>" nogil:
    int waitpid(int, int *, int)
    int WIFSIGNALED(int)
    int WTERMSIG(int)


cdef extern from "<sys/resource.h>" nogil:
    struct c_rlimit "rlimit":
        unsigned long rlim_cur
        unsigned long rlim_max
    int getrlimit(int, c_rlimit *)
    int setrlimit(int, const c_rlimit *)
    int RLIMIT_AS
    int RLIMIT_CORE
    int RLIMIT_CPU
    int RLIMIT_DATA


cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)
    int PR_SET_PDEATHSIG
    int PR_SET_NO_NEW_PRIVS
    int PR_SET_SECCOMP


cdef extern from "<linux/seccomp.h>" nogil:
    int SECCOMP_MODE_FILTER
    uint32_t SECCOMP_RET_ALLOW
    uint32_t SECCOMP_RET_ERRNO


cdef extern from "<linux/filter.h>" nogil:
    struct sock_filter:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k
    struct sock_fprog:
        unsigned short len
        sock_filter *filter
    int BPF_LD
    int BPF_W
    int BPF_ABS
    int BPF_JMP
    int BPF_JA
    int BPF_JEQ
    int BPF_RET
    int BPF_K
    int BPF_MAXINSNS


cdef extern from "<linux/capability.h>" nogil:
    struct __user_cap_header_struct:
        uint32_t version
        int pid
    struct __user_cap_data_struct:
        uint32_t effective
        uint32_t permitted
        uint32_t inheritable
    uint32_t _LINUX_CAPABILITY_VERSION_3


cdef extern from "<sys/syscall.h>" nogil:
    long SYS_capset
    long SYS_socket


cdef enum:
    CHILDS_PIPE = 3
    ETHERNET = 1                # DLT_EN10MB
    LARGEST_SNAPLEN = 262144    # libpcap's MAXIMUM_SNAPLEN, pcap-int.h
    MEMORY_BYTES = 128 << 20    # what takes 6 s has wanted 38 MB by then
    TIME_NS = 1_000_000_000     # of a processor
    BUSY = 10                   # times as much may pass meanwhile
    REAPER_STACK = 64 << 10
    # linux/landlock.h; the calls' numbers are the same on every architecture but alpha, and older headers lack them.
    LANDLOCK_CREATE_RULESET = 444
    LANDLOCK_ADD_RULE = 445
    LANDLOCK_RESTRICT_SELF = 446
    PATH_BENEATH = 1
    READ_FILE = 1 << 2
    EVERYTHING = (1 << 13) - 1  # of its first version: to open, to make and to remove

cdef enum Outcome:
    NONE                        # the child ended without a word
    COMPILED
    REFUSED                     # libpcap's text says why
    TOO_LONG                    # more instructions than the kernel takes
    NOT_RUN                     # the system refused something that the child needs; its errno
    TIMED_OUT
    GOT_NO_PROCESSOR            # in ten times its time

MAX_INSTRUCTIONS = BPF_MAXINSNS  # linux/bpf_common.h

# Words that each add a few comparisons to a program and nothing else: no arithmetic (`[`, `len`), no loop
# (`protochain`), nothing that moves the offsets of what follows (`vlan`, `mpls`, `pppoes`, `geneve`), no name to look
# up. Whatever the order of a few of them, the program is short and libpcap's optimizer is done within milliseconds.
_HARMLESS_WORDS, _HARMLESS_CHARACTERS = 16, 256
_HARMLESS_WORD = re.compile(
    r"and|or|not|ether|ip|ip6|arp|rarp|tcp|udp|sctp|icmp|icmp6|igmp|pim|src|dst|host|net|port|proto"
    r"|less|greater|broadcast|multicast"
    # Numbers are those that libpcap's scanner.l takes for numbers; anything else would be the name of a host.
    r"|[0-9]{1,5}|0x[0-9a-fA-F]{1,8}|[0-9]{1,3}(?:\.[0-9]{1,3}){0,3}(?:/[0-9]{1,2})?"
    r"|[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}"
)
_PORTRANGE = re.compile(r"portrange +[0-9]{1,5}-[0-9]{1,5}(?![-_.:/A-Za-z0-9])")  # elsewhere 1-2 would be a name
_BETWEEN_WORDS = re.compile(r"(?:[ \r\n\t()!]|&&|\|\|)+")

# libpcap's texts where it was given no memory; gencode.c, optimize.c, grammar.y, scanner.l.
_OUT_OF_MEMORY = ("out of memory", "memory exhausted", "malloc", "calloc", "realloc", "out of dynamic memory")


# What the NSS modules read to find a service, a protocol or a host of the user's own (nsswitch.conf(5)), and where the
# modules are.
cdef const char *NAMES[13]
NAMES[:] = [
    b"/etc/nsswitch.conf", b"/etc/services", b"/etc/protocols", b"/etc/hosts", b"/etc/networks", b"/etc/ethers",
    b"/etc/host.conf", b"/etc/gai.conf", b"/etc/resolv.conf", b"/etc/ld.so.cache", b"/usr", b"/lib",
    b"/var/lib/misc",
]


class FilterRefused(Exception):
    """The expression is no filter, or compiling it would have passed a bound; libpcap's own text in the first case."""


class BoundPassed(FilterRefused):
    """The second case, or its compiler crashed: what the filter would select is not known."""


cdef struct Bounds:
    int64_t time_ns                 # of a processor
    size_t memory_bytes             # beyond what the server has


cdef struct Patience:               # with a child
    int child
    int64_t work_ns
    int64_t ends                    # of now(), however little it has worked by then


cdef struct Reply:                  # what the child writes; `count` instructions follow
    int outcome
    uint32_t count
    int number                      # an errno
    char text[256]                  # PCAP_ERRBUF_SIZE


cdef struct Answer:
    Reply reply
    bpf_insn *instructions          # malloc's
    int status                      # waitpid's


# ------------------------------------------------------------------- the child


cdef void _in_child(
    pcap_t *handle, const char *expression, bint optimize, const Bounds *bounds, int parent, int out
) noexcept nogil:
    """Compile, tell the parent, end. Nothing of Python's may be touched in here."""
    cdef program_view program
    cdef Reply reply
    memset(&reply, 0, sizeof(reply))
    if not (
        _give_up(parent) and _close_all_but(&out) and _limit(bounds) and _refuse_files() and _refuse_sockets()
    ):
        reply.outcome = NOT_RUN
        reply.number = errno
    elif pcap_compile(handle, <bpf_program *>&program, expression, optimize, PCAP_NETMASK_UNKNOWN) != 0:
        reply.outcome = REFUSED
        strncpy(reply.text, pcap_geterr(handle), sizeof(reply.text) - 1)
    else:
        reply.count = program.bf_len
        reply.outcome = COMPILED if reply.count <= BPF_MAXINSNS else TOO_LONG
    _send(out, &reply, sizeof(reply))
    if reply.outcome == COMPILED:
        _send(out, program.bf_insns, reply.count * sizeof(bpf_insn))
    _exit(0)


cdef bint _give_up(int parent) noexcept nogil:
    """Every capability, the means to get any back, and life without the parent."""
    cdef __user_cap_header_struct header
    cdef __user_cap_data_struct nothing[2]
    memset(nothing, 0, sizeof(nothing))
    header.version = _LINUX_CAPABILITY_VERSION_3
    header.pid = 0
    if prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 or syscall(SYS_capset, &header, nothing) != 0:
        return False
    if getppid() != parent:  # it ended before the line above
        _exit(1)
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


cdef bint _close_all_but(int *out) noexcept nogil:
    """Keep the pipe alone, with /dev/null as standard streams: stdout is the server's MCP channel, and a TAP or a
    socket that another thread closes meanwhile must be gone at once."""
    cdef int null = c_open("/dev/null", O_RDWR)
    cdef int kept = fcntl(out[0], F_DUPFD, CHILDS_PIPE + 1)
    if null < 0 or kept < 0:
        return False
    if dup2(null, 0) < 0 or dup2(null, 1) < 0 or dup2(null, 2) < 0 or dup2(kept, CHILDS_PIPE) < 0:
        return False
    out[0] = CHILDS_PIPE
    return close_range(CHILDS_PIPE + 1, <unsigned int>-1, 0) == 0


cdef bint _limit(const Bounds *bounds) noexcept nogil:
    """Time and memory. What malloc has got from the kernel and does not use may be used as well, so address space
    alone would be no bound: RLIMIT_DATA counts what becomes writable."""
    cdef char text[256]
    cdef unsigned long size = 0
    cdef unsigned long data = 0
    cdef unsigned long page = sysconf(_SC_PAGESIZE)
    cdef int statm = c_open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    cdef ssize_t n = c_read(statm, text, sizeof(text) - 1)
    c_close(statm)
    if n <= 0:
        return False
    text[n] = 0
    # size resident shared text lib data dt, in pages
    if sscanf(text, "%lu %*u %*u %*u %*u %lu", &size, &data) != 2:
        return False
    return (
        _lower(RLIMIT_CORE, 0)
        and _lower(RLIMIT_CPU, bounds.time_ns // 1_000_000_000 + 1)  # for a parent that is stopped
        and _lower(RLIMIT_AS, size * page + bounds.memory_bytes)
        and _lower(RLIMIT_DATA, data * page + bounds.memory_bytes)
    )


cdef bint _lower(int resource, unsigned long value) noexcept nogil:
    cdef c_rlimit limit
    if getrlimit(resource, &limit) != 0:
        return False
    limit.rlim_cur = limit.rlim_max = min(limit.rlim_cur, value)
    return setrlimit(resource, &limit) == 0


cdef struct Beneath:                # landlock_path_beneath_attr, which is packed
    uint64_t allowed
    int parent


cdef bint _refuse_files() noexcept nogil:
    """Only `NAMES` can be opened from here on, to be read. A kernel without Landlock has none to refuse others by."""
    cdef uint64_t handled = EVERYTHING
    cdef Beneath rule
    cdef int i
    cdef int ruleset = syscall(LANDLOCK_CREATE_RULESET, &handled, sizeof(handled), 0)
    if ruleset < 0:
        return errno in (ENOSYS, EOPNOTSUPP, EPERM)
    rule.allowed = READ_FILE
    for i in range(13):
        rule.parent = c_open(NAMES[i], O_PATH | O_CLOEXEC)
        if rule.parent >= 0 and syscall(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, &rule, 0) != 0:
            return False
        c_close(rule.parent)
    if syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
        return False
    c_close(ruleset)
    return True


cdef bint _refuse_sockets() noexcept nogil:
    """socket(2) fails with EACCES from here on: libpcap asks the DNS for every word that it takes for a host."""
    cdef sock_filter rules[4]
    cdef sock_fprog program
    rules[0] = _rule(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0)  # seccomp_data.nr
    rules[1] = _rule(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_socket)
    rules[2] = _rule(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EACCES)
    rules[3] = _rule(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW)
    program.len = 4
    program.filter = rules
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, <unsigned long>&program, 0, 0) == 0


cdef sock_filter _rule(int code, uint8_t if_true, uint8_t if_false, uint32_t k) noexcept nogil:
    cdef sock_filter rule
    rule.code = code
    rule.jt = if_true
    rule.jf = if_false
    rule.k = k
    return rule


cdef void _send(int out, const void *data, size_t size) noexcept nogil:
    cdef size_t sent = 0
    cdef ssize_t n
    while sent < size:
        n = c_write(out, <const char *>data + sent, size - sent)
        if n < 0 and errno != EINTR:
            _exit(1)
        sent += max(n, 0)


# ------------------------------------------------------------------ the parent


cdef void _ask_child(
    pcap_t *handle, const char *expression, bint optimize, const Bounds *bounds, Answer *answer
) noexcept nogil:
    """Compile in a child and fill `answer`; a child that gave none is gone when this returns."""
    cdef int ends[2]
    cdef int pid
    cdef int parent = getpid()
    cdef Patience patience
    cdef sigset_t every
    cdef sigset_t before
    memset(answer, 0, sizeof(answer[0]))
    if pipe2(ends, O_CLOEXEC) != 0:
        _not_run(answer)
        return
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    pid = fork()
    if pid == 0:
        _in_child(handle, expression, optimize, bounds, parent, ends[1])
    if pid < 0:
        _not_run(answer)
    c_close(ends[1])
    if pid > 0:
        patience.child, patience.work_ns, patience.ends = pid, bounds.time_ns, now() + BUSY * bounds.time_ns
        if not _receive(ends[0], answer, &patience):
            answer.reply.outcome = TIMED_OUT if _worked(pid) >= bounds.time_ns else GOT_NO_PROCESSOR
            kill(pid, SIGKILL)
        if answer.reply.outcome in (TIMED_OUT, GOT_NO_PROCESSOR, NONE) or not _reap_beside(pid):
            _reap(pid, &answer.status)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    c_close(ends[0])


cdef int64_t _worked(int pid) noexcept nogil:
    """A process's time on processors so far, ns; 0 if it is gone."""
    cdef int clock
    return time_on(clock) if clock_getcpuclockid(pid, &clock) == 0 else 0


cdef int64_t _left(const Patience *patience) noexcept nogil:
    """How long to wait at least before there is no patience any more, ns."""
    return max(min(patience.ends - now(), patience.work_ns - _worked(patience.child)), 0)


cdef void _reap(int pid, int *status) noexcept nogil:
    while waitpid(pid, status, 0) < 0 and errno == EINTR:
        pass


cdef void *_reaper(void *pid) noexcept nogil:
    _reap(<int><long>pid, NULL)
    return NULL


cdef bint _reap_beside(int pid) noexcept nogil:
    """Reap a child that has said all in a thread of its own, where that can be had: to take down a copy of the server's
    memory takes the kernel as long as to make it, and the caller has its program already."""
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef int status
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    pthread_attr_setstacksize(&attributes, REAPER_STACK)
    status = pthread_create(&thread, &attributes, _reaper, <void *><long>pid)
    pthread_attr_destroy(&attributes)
    return status == 0


cdef void _not_run(Answer *answer) noexcept nogil:
    answer.reply.outcome = NOT_RUN
    answer.reply.number = errno


cdef bint _receive(int end, Answer *answer, const Patience *patience) noexcept nogil:
    """Take what the child says until it has said all or is gone; False where patience ended."""
    cdef size_t size
    cdef int got = _read_all(end, &answer.reply, sizeof(Reply), patience)
    if got <= 0 or answer.reply.outcome != COMPILED:
        answer.reply.outcome = answer.reply.outcome if got > 0 else NONE
        return got >= 0
    size = min(answer.reply.count, BPF_MAXINSNS) * sizeof(bpf_insn)
    answer.instructions = <bpf_insn *>malloc(size)
    if answer.instructions == NULL:
        _not_run(answer)
        return True
    got = _read_all(end, answer.instructions, size, patience)
    if got <= 0:
        answer.reply.outcome = NONE
    return got >= 0


cdef int _read_all(int end, void *into, size_t size, const Patience *patience) noexcept nogil:
    """1 where all was read, 0 where the other end is closed before, -1 where patience ends."""
    cdef size_t got = 0
    cdef int64_t left
    cdef ssize_t n
    cdef pollfd wanted
    wanted.fd = end
    wanted.events = POLLIN
    while got < size:
        left = _left(patience)
        n = poll(&wanted, 1, <int>((left + 999_999) // 1_000_000))
        if n == 0 and left == 0:
            return -1
        if n > 0:
            n = c_read(end, <char *>into + got, size - got)
            if n == 0:
                return 0
        if n < 0 and errno != EINTR:
            return 0
        got += max(n, 0)
    return 1


# ------------------------------------------------------------- for the callers


def is_harmless(str expression):
    """Whether `expression` cannot take long or much to compile, nor have libpcap look anything up."""
    if len(expression) > _HARMLESS_CHARACTERS:
        return False
    words = [word for word in _BETWEEN_WORDS.split(_PORTRANGE.sub("port", expression)) if word]
    return len(words) <= _HARMLESS_WORDS and all(
        _HARMLESS_WORD.fullmatch(word) or ("::" in word and _is_network6(word)) for word in words
    )


cdef bint _is_network6(str word):
    address, slash, prefix = word.partition("/")
    return is_ipv6(address) and (not slash or (prefix.isdecimal() and len(prefix) <= 3))


def is_ipv6(str word):
    """Whether `word` is an IPv6 address to libpcap's scanner as well: one without a zone."""
    if "%" in word:
        return False
    try:
        ipaddress.IPv6Address(word)
    except ValueError:
        return False
    return True


cdef int compile_filter(pcap_t *handle, str expression, bint optimize, bpf_program *program) except -1:
    """Compile `expression` for `handle` into `program`, which the caller frees with pcap_freecode.

    Takes at most about a second and does not hold the GIL.

    Raises:
        FilterRefused: With libpcap's text, or the bound that was passed.
        OSError: No child could be made.
    """
    cdef Bounds bounds
    bounds.time_ns = TIME_NS
    bounds.memory_bytes = MEMORY_BYTES
    return _compile(handle, expression, optimize, program, &bounds, not is_harmless(expression))


cdef int _compile(
    pcap_t *handle, str expression, bint optimize, bpf_program *program, const Bounds *bounds, bint in_child
) except -1:
    cdef bytes text = expression.encode()
    cdef const char *c_text = text
    cdef int status
    cdef Answer answer
    if in_child:
        with nogil:
            _ask_child(handle, c_text, optimize, bounds, &answer)
        _take(&answer, bounds, <program_view *>program)
        _require_end(<program_view *>program)
        return 0
    with nogil:
        status = pcap_compile(handle, program, c_text, optimize, PCAP_NETMASK_UNKNOWN)
    if status != 0:
        raise FilterRefused(_text(pcap_geterr(handle)))
    _require_end(<program_view *>program)
    return 0


cdef bint _ends(const bpf_insn *program, u_int count) noexcept nogil:
    """Whether a valid program comes to its end whatever the packet: it jumps forwards only.

    Conditional jumps have no sign; libpcap takes the distance of the other kind for a signed one.
    """
    cdef u_int at
    for at in range(count):
        if program[at].code == (BPF_JMP | BPF_JA) and <int>program[at].k < 0:
            return False
    return True


cdef int _require_end(program_view *program) except -1:
    """Free a program that may not come to its end, and refuse the expression."""
    if _ends(program.bf_insns, program.bf_len):
        return 0
    pcap_freecode(<bpf_program *>program)
    raise FilterRefused(
        "its program jumps backwards, and the kernel takes no such (that is what protochain needs); "
        "without protochain, ip6 or ip[9] and ip6[6] select by the first header"
    )


cdef int _take(Answer *answer, const Bounds *bounds, program_view *program) except -1:
    """Hand the program over, or raise why there is none."""
    cdef Reply *reply = &answer.reply
    if reply.outcome == COMPILED and bpf_validate(answer.instructions, reply.count):
        program.bf_len = reply.count
        program.bf_insns = answer.instructions
        return 0
    free(answer.instructions)
    if reply.outcome == NOT_RUN:
        raise OSError(reply.number, os.strerror(reply.number))
    is_no_filter = reply.outcome == REFUSED and _text(reply.text) not in _OUT_OF_MEMORY
    raise (FilterRefused if is_no_filter else BoundPassed)(_why_refused(answer, bounds))


cdef str _why_refused(Answer *answer, const Bounds *bounds):
    cdef Reply *reply = &answer.reply
    text = _text(reply.text)
    if reply.outcome == REFUSED and text not in _OUT_OF_MEMORY:
        return text
    if reply.outcome == REFUSED:
        return f"its compiler wanted more than {bounds.memory_bytes >> 20} MiB of memory; use a simpler expression"
    if reply.outcome == TIMED_OUT:
        return f"its compiler was not done after {bounds.time_ns / 1e9:g} s of work; use a simpler expression"
    if reply.outcome == GOT_NO_PROCESSOR:
        return f"its compiler got no {bounds.time_ns / 1e9:g} s of work done in {BUSY} times as long; try again"
    if reply.outcome == TOO_LONG:
        return f"the program has {reply.count} instructions, of which the kernel takes {MAX_INSTRUCTIONS}"
    if reply.outcome == NONE and WIFSIGNALED(answer.status):
        name = signal.Signals(WTERMSIG(answer.status)).name
        return f"its compiler crashed on this expression ({name}); use a simpler one"
    return "its compiler ended without a program that can be used"


cdef str _text(const char *text):
    return (<bytes>text).decode(errors="replace")


def syntax_error(str expression):
    """libpcap's text if `expression` is no filter for Ethernet, else ""; only for one without names to look up."""
    try:
        instructions(expression, optimize=False)
    except FilterRefused as error:
        return str(error)
    return ""


def instructions(
    str expression,
    *,
    int link_type=ETHERNET,
    bint optimize=True,
    in_child=None,
    double seconds=TIME_NS / 1e9,
    size_t memory_bytes=MEMORY_BYTES,
):
    """The program for a capture file of that link type, as bytes; `in_child` says where to compile, else it is chosen.

    Raises:
        FilterRefused: With libpcap's text, or the bound that was passed.
        OSError: No child could be made.
    """
    cdef Bounds bounds
    cdef program_view program
    cdef bint away = not is_harmless(expression) if in_child is None else in_child
    cdef pcap_t *handle = pcap_open_dead(link_type, LARGEST_SNAPLEN)
    if handle == NULL:
        raise MemoryError
    bounds.time_ns = <int64_t>(seconds * 1e9)
    bounds.memory_bytes = memory_bytes
    try:
        _compile(handle, expression, optimize, <bpf_program *>&program, &bounds, away)
        try:
            return (<char *>program.bf_insns)[:program.bf_len * sizeof(bpf_insn)]
        finally:
            pcap_freecode(<bpf_program *>&program)
    finally:
        pcap_close(handle)


def passes(bytes program, bytes frame):
    """Whether a frame passes a program that `instructions` made.

    Raises:
        ValueError: It is no program.
    """
    cdef const bpf_insn *first = <const bpf_insn *><const char *>program
    cdef const unsigned char *data = frame
    cdef u_int count = <u_int>(len(program) // sizeof(bpf_insn))
    if len(program) % sizeof(bpf_insn) != 0 or not bpf_validate(first, <int>count) or not _ends(first, count):
        raise ValueError("it is no program for a filter")
    return bpf_filter(first, data, <unsigned int>len(frame), <unsigned int>len(frame)) != 0
