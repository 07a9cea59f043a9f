from pylibpcap.pcap cimport bpf_program, pcap_t


cdef int compile_filter(pcap_t *handle, str expression, bint optimize, bpf_program *program) except -1
