# What headers.py is compiled with.

cimport cython
from rawtap.packets cimport transport
from rawtap.packets.bounds cimport need, word

cdef int TCP, UDP, ICMP, ICMP6, IGMP, _LENGTHS, _TAGS, _EXTENSIONS
cdef int _HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _NONE, _DESTINATION


cdef class Ethernet:
    cdef readonly long long offset
    cdef readonly bytes destination
    cdef readonly bytes source
    cdef readonly tuple tags
    cdef readonly object kind
    cdef readonly long long payload
    cdef readonly object stated


cdef class Ip:
    cdef public long long offset
    cdef public int version
    cdef public long long payload
    cdef public long long end
    cdef public long long stated_end
    cdef public int ttl
    cdef public int protocol
    cdef public bytes source
    cdef public bytes destination
    cdef public object fragment
    cdef public object identification
    cdef public object checksum
    cdef public bint length_is_zero
    cdef public tuple ends


cdef class Frame:
    cdef public bytes data
    cdef public long long length
    cdef public object link
    cdef public object kind
    cdef public long long payload
    cdef public tuple carriers
    cdef public object named
    cdef public Frame inner
    cdef public long long end
    cdef public object arp
    cdef public Ip ip
    cdef public object transport
    cdef public object application
    cdef public list problems
    cdef public object stop


@cython.locals(frame=Frame)
cpdef Frame parse(bytes data, long long length, int link_type)

cdef _ended(Frame frame, object stop)

cdef _carried(Frame frame, object what)

cdef tuple _deeper(Frame frame, object what)

@cython.locals(inner=Frame)
cdef _inside(Frame frame, object what)

@cython.locals(data=bytes, end="long long", number="long long", at="long long")
cpdef _ethernet(Frame frame, long long begin=*)

@cython.locals(data=bytes)
cdef tuple _untagged(Frame frame, long long kind, long long at)

@cython.locals(ip=Ip)
cdef _network(Frame frame, object kind, long long at)

@cython.locals(
    data=bytes, room="long long", total="long long", size="long long", end="long long", first=int, bits=int,
    length_is_zero=bint, source=bytes, destination=bytes
)
cdef Ip _ipv4(Frame frame, long long at)

@cython.locals(
    data=bytes, room="long long", total="long long", end="long long", stated=int, following=int, version=int,
    length_is_zero=bint, source=bytes, destination=bytes, ip=Ip
)
cdef Ip _ipv6(Frame frame, long long at)

@cython.locals(data=bytes, end="long long", at="long long", following=int, size="long long")
cdef _extended(Frame frame, Ip ip)

@cython.locals(data=bytes, at="long long", end="long long", protocol=int, fragment=bint, header=transport.Udp)
cdef _transport(Frame frame, Ip ip)

cdef _application(Frame frame, Ip ip, transport.Udp header)
