# cython: language_level=3, boundscheck=False, wraparound=False
"""Starting a program with exactly what it may have, and nothing in between.

Theory of operation
-------------------
What a child must not have is given up by the child itself, between vfork(2) and execve(2): new privileges, every file
and port that its Landlock ruleset does not name, every capability but those it needs. All of these are attributes of a
thread that fork copies and execve keeps, so the server's own threads stay as they are. No program stands between, not
even for a moment, and a ruleset need not name one.

*vfork, not fork.* To copy the page tables of a server costs milliseconds; vfork copies nothing: the child runs in the
parent's memory while the calling thread waits, until execve. So the child's part is plain system calls on what was made
ready before, touches nothing of Python's and never returns. An error it leaves in the request itself, which the parent
reads when it goes on. Signals are blocked meanwhile, and the child takes back every handler before it opens them: else
one of the server's could run in it, on the server's memory.

*Order.* No-new-privileges comes before Landlock, which wants it, and before capabilities: with it execve cannot give
back what was given up, to root neither (capabilities(7); commoncap.c intersects with what there was). The tie to the
parent comes last: a change of credentials would undo it. The signal of that tie (PR_SET_PDEATHSIG) comes when the
*thread* that called `spawn` ends: it must be one that lives as long as the server. A parent that was gone before the
tie sends none, so the child looks afterwards whether it has the same one still.

Sources: vfork(2), landlock(7), prctl(2), capabilities(7), close_range(2), linux/security/commoncap.c.
"""

import os

from libc.errno cimport EINTR, EINVAL, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset


cdef extern from "<unistd.h>" nogil:
    int vfork()
    int getpid()
    int getppid()
    int setsid()
    int dup2(int, int)
    int close_range(unsigned int, unsigned int, int)
    int execve(const char *, char **, char **)
    int chdir(const char *)
    void _exit(int)
    long syscall(long, ...)
    long sysconf(int)
    int _SC_OPEN_MAX


cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_DUPFD_CLOEXEC
    int F_GETFD
    int F_SETFD
    int FD_CLOEXEC


cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    ctypedef void (*sighandler_t)(int)
    int sigfillset(sigset_t *)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    sighandler_t c_signal "signal"(int, sighandler_t)
    sighandler_t SIG_DFL
    sighandler_t SIG_IGN
    int SIG_SETMASK
    int SIGKILL
    int SIGPIPE
    int SIGXFSZ
    int NSIG


cdef extern from "<sys/wait.h>" nogil:
    int waitpid(int, int *, int)


cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)
    int PR_CAPBSET_DROP
    int PR_CAP_AMBIENT
    int PR_CAP_AMBIENT_CLEAR_ALL
    int PR_CAP_AMBIENT_RAISE
    int PR_SET_NO_NEW_PRIVS
    int PR_SET_PDEATHSIG


cdef extern from "<linux/capability.h>" nogil:
    struct __user_cap_header_struct:
        uint32_t version
        int pid
    struct __user_cap_data_struct:
        uint32_t effective
        uint32_t permitted
        uint32_t inheritable
    uint32_t _LINUX_CAPABILITY_VERSION_3
    int CAP_SETPCAP


cdef extern from "<sys/syscall.h>" nogil:
    long SYS_capget
    long SYS_capset


cdef extern from "<linux/close_range.h>" nogil:
    int CLOSE_RANGE_CLOEXEC


cdef enum:
    FIRST_FREE = 3              # after the standard streams
    CAPABILITIES = 64
    LANDLOCK_RESTRICT_SELF = 446  # the same on every architecture but alpha; older headers lack it
    NOT_STARTED = 127           # the shell's own, for a program that could not be

# Where a child can fail; the names are in _STEPS.
cdef enum Step:
    STREAMS = 1
    DESCRIPTORS
    FOLDER
    SESSION
    NO_NEW_PRIVILEGES
    LANDLOCK
    RIGHTS
    TIE
    EXECUTE

_STEPS = {
    STREAMS: "its standard streams", DESCRIPTORS: "its descriptors", FOLDER: "its folder", SESSION: "its session",
    NO_NEW_PRIVILEGES: "no-new-privileges", LANDLOCK: "its Landlock ruleset", RIGHTS: "its capabilities",
    TIE: "its tie to this process", EXECUTE: "the program itself",
}


cdef struct Request:
    char *path
    char *folder                # to run in; NULL for the server's
    char **argv
    char **envp
    int streams[3]
    int *passed
    Py_ssize_t passed_count
    int ruleset                 # -1 for none
    uint64_t capabilities       # bit N for capability N
    bint tied
    bint session
    int parent
    sigset_t signals            # as they were
    int step                    # where the child failed, 0 where it did not
    int number                  # an errno


# ------------------------------------------------------------------- the child


cdef void _in_child(Request *request) noexcept nogil:
    """Give up what is to be given up, become the program. In the parent's memory: system calls alone, no return."""
    request.step = _prepare(request)
    if request.step == 0:
        execve(request.path, request.argv, request.envp)
        request.step = EXECUTE
    request.number = errno
    _exit(NOT_STARTED)


cdef int _prepare(Request *request) noexcept nogil:
    """The step that failed, with its errno; 0 for none."""
    if not _streams(request):
        return STREAMS
    if not _descriptors(request):
        return DESCRIPTORS
    if request.folder != NULL and chdir(request.folder) != 0:
        return FOLDER
    if request.session and setsid() < 0:
        return SESSION
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return NO_NEW_PRIVILEGES
    if request.ruleset >= 0 and syscall(LANDLOCK_RESTRICT_SELF, request.ruleset, 0) != 0:
        return LANDLOCK
    if not _rights(request.capabilities):
        return RIGHTS
    if request.tied:
        if prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            return TIE
        if getppid() != request.parent:
            _exit(NOT_STARTED)
    _signals(&request.signals)
    return 0


cdef bint _streams(Request *request) noexcept nogil:
    """Put the three in their places, by way of copies: one may stand where another has to go."""
    cdef int copies[3]
    cdef int i
    for i in range(3):
        copies[i] = fcntl(request.streams[i], F_DUPFD_CLOEXEC, FIRST_FREE)
        if copies[i] < 0:
            return False
    for i in range(3):
        if dup2(copies[i], i) < 0:
            return False
    return True


cdef bint _descriptors(Request *request) noexcept nogil:
    """Keep those that are passed on, by their numbers; execve closes all others, of libraries that forgot as well."""
    cdef int fd
    cdef Py_ssize_t i
    if close_range(FIRST_FREE, <unsigned int>-1, CLOSE_RANGE_CLOEXEC) != 0:  # before Linux 5.11
        for fd in range(FIRST_FREE, <int>sysconf(_SC_OPEN_MAX)):
            fcntl(fd, F_SETFD, FD_CLOEXEC)
    for i in range(request.passed_count):
        if fcntl(request.passed[i], F_SETFD, 0) != 0:
            return False
    return True


cdef bint _rights(uint64_t kept) noexcept nogil:
    """Hold those capabilities and no others, and pass them through execve as ambient ones."""
    cdef __user_cap_header_struct header
    cdef __user_cap_data_struct sets[2]
    cdef int i
    header.version = _LINUX_CAPABILITY_VERSION_3
    header.pid = 0
    if syscall(SYS_capget, &header, sets) != 0:
        return False
    if sets[0].permitted >> CAP_SETPCAP & 1:  # root's: what no child of the child should find either
        sets[0].effective |= <uint32_t>1 << CAP_SETPCAP
        if syscall(SYS_capset, &header, sets) != 0:
            return False
        for i in range(CAPABILITIES):
            if not kept >> i & 1 and prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0 and errno != EINVAL:
                return False
    for i in range(2):
        sets[i].effective = sets[i].permitted = sets[i].inheritable = <uint32_t>(kept >> 32 * i)
    if prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 or syscall(SYS_capset, &header, sets) != 0:
        return False
    for i in range(CAPABILITIES):
        if kept >> i & 1 and prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) != 0:
            return False
    return True


cdef void _signals(const sigset_t *before) noexcept nogil:
    """No handler of the server's, and of what it ignores not what Python alone does (PEP 475, subprocess)."""
    cdef int number
    for number in range(1, NSIG):
        if c_signal(number, SIG_DFL) == SIG_IGN and number != SIGPIPE and number != SIGXFSZ:
            c_signal(number, SIG_IGN)
    pthread_sigmask(SIG_SETMASK, before, NULL)


# ------------------------------------------------------------------ the parent


cdef int _start(Request *request) noexcept nogil:
    """The child's pid, once it is the program; one that failed is reaped. -1 where there is none."""
    cdef int pid
    cdef sigset_t every
    sigfillset(&every)
    request.parent = getpid()
    pthread_sigmask(SIG_SETMASK, &every, &request.signals)
    pid = vfork()
    if pid == 0:
        _in_child(request)
    if pid < 0:
        request.number = errno
    elif request.step != 0:
        while waitpid(pid, NULL, 0) < 0 and errno == EINTR:
            pass
        pid = -1
    pthread_sigmask(SIG_SETMASK, &request.signals, NULL)
    return pid


def spawn(list argv, dict environment, tuple streams, tuple passed, *, folder, int ruleset, capabilities,
          bint tied, bint session):
    """Start a program and return its pid.

    Args:
        argv: Its arguments as bytes, the first of them its path.
        environment: Bytes to bytes.
        streams: Descriptors for its stdin, stdout and stderr.
        passed: Descriptors that it has by the same numbers.
        folder: Where it runs, as bytes; None for the server's own.
        ruleset: A Landlock ruleset's descriptor, -1 for none.
        capabilities: Numbers of those that it keeps.
        tied: Whether it is killed when the calling thread ends.
        session: Whether it begins a session of its own.

    Raises:
        OSError: It could not be; the text says at which step.
    """
    cdef Request request
    cdef list variables = [name + b"=" + value for name, value in environment.items()]
    cdef int pid
    memset(&request, 0, sizeof(request))
    if any(b"\0" in word for word in argv) or any(b"\0" in word for word in variables):
        raise ValueError("a NUL in an argument")
    request.argv = <char **>calloc(len(argv) + 1, sizeof(char *))
    request.envp = <char **>calloc(len(variables) + 1, sizeof(char *))
    request.passed = <int *>calloc(len(passed) + 1, sizeof(int))
    try:
        if request.argv == NULL or request.envp == NULL or request.passed == NULL:
            raise MemoryError
        for i, word in enumerate(argv):
            request.argv[i] = word
        for i, word in enumerate(variables):
            request.envp[i] = word
        for i, fd in enumerate(passed):
            request.passed[i] = fd
        for i in range(3):
            request.streams[i] = streams[i]
        for each in capabilities:
            request.capabilities |= <uint64_t>1 << <int>each
        request.path = request.argv[0]
        request.folder = NULL if folder is None else <char *>folder
        request.passed_count = len(passed)
        request.ruleset = ruleset
        request.tied = tied
        request.session = session
        pid = _start(&request)
    finally:
        free(request.argv)
        free(request.envp)
        free(request.passed)
    if pid < 0:
        where = _STEPS.get(request.step, "a new process")
        raise OSError(request.number, f"{os.strerror(request.number)}, at {where}", os.fsdecode(argv[0]))
    return pid
