/* Sends numbered frames as fast, or at exactly the rate, as it is told; bench.py compiles and runs it.
 *
 *     sender INTERFACE COUNT SIZES RATE CPU
 *
 * COUNT broadcast frames, EtherType 0x88B5 (IEEE 802 local experimental 1), numbered from 0 in the four bytes after the
 * header. SIZES is their size in bytes, or several that take turns, like 60,60,1514. RATE is frames a second, 0 for as fast
 * as possible. Pinned to CPU. Prints "SENT SECONDS RETRIES". Sources: packet(7), sendmmsg(2).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, LARGEST = 9216, HEADER = 14, NUMBERED = HEADER + 4, TURNS = 64 };

static const unsigned char header[HEADER] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5,
};

static unsigned char frames[BATCH][LARGEST];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];
static size_t sizes[TURNS];
static int turns;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Sleeps where it is worth it, so that several senders can share a CPU, and spins the rest. */
static void wait_until(int64_t due)
{
    const int64_t worth_a_sleep = 50000;
    if (due - now_ns() > worth_a_sleep) {
        struct timespec t = { .tv_sec = due / 1000000000, .tv_nsec = due % 1000000000 };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    }
    while (now_ns() < due)
        ;
}

static void pin(size_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die("sched_setaffinity");
    prctl(PR_SET_TIMERSLACK, 1UL); /* a sleep may end 50 us late otherwise */
}

static int open_socket(const char *interface)
{
    const int yes = 1;
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface) };
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    if (address.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die(interface);
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes) != 0)
        die("PACKET_QDISC_BYPASS");
    return fd;
}

/* Returns whether all of them are sizes that can be sent. */
static int read_sizes(char *text)
{
    for (char *word = strtok(text, ","); word != NULL; word = strtok(NULL, ",")) {
        const long size = atol(word);
        if (turns == TURNS || size < NUMBERED || size > LARGEST)
            return 0;
        sizes[turns++] = (size_t)size;
    }
    return turns > 0;
}

static void prepare(void)
{
    for (int i = 0; i < BATCH; i++) {
        memcpy(frames[i], header, HEADER);
        parts[i].iov_base = frames[i];
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

/* Returns how often the kernel had no room. */
static long send_batch(int fd, long first, int count)
{
    long retries = 0;
    for (int i = 0; i < count; i++) {
        uint32_t number = htonl((uint32_t)(first + i));
        memcpy(frames[i] + HEADER, &number, sizeof number);
        parts[i].iov_len = sizes[(first + i) % turns];
    }
    for (int done = 0; done < count;) {
        int n = sendmmsg(fd, messages + done, (unsigned)(count - done), 0);
        if (n >= 0)
            done += n;
        else if (errno == ENOBUFS || errno == EAGAIN)
            retries++;
        else if (errno != EINTR)
            die("sendmmsg");
    }
    return retries;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s INTERFACE COUNT SIZES RATE CPU\n", argv[0]);
        return 2;
    }
    const long count = atol(argv[2]);
    const double rate = atof(argv[4]);
    if (count < 1 || !read_sizes(argv[3]) || rate < 0) {
        fprintf(stderr, "COUNT, SIZES or RATE is out of range\n");
        return 2;
    }
    pin((size_t)atoi(argv[5]));
    const int fd = open_socket(argv[1]);
    prepare();
    /* At a low rate a batch is what is due in a millisecond, so that it is the rate at every moment. */
    long batch = rate > 0 && rate < BATCH * 1000.0 ? (long)(rate / 1000) : BATCH;
    if (batch < 1)
        batch = 1;
    long sent = 0, retries = 0;
    const int64_t start = now_ns();
    while (sent < count) {
        const int n = (int)(count - sent < batch ? count - sent : batch);
        if (rate > 0)
            wait_until(start + (int64_t)((double)sent / rate * 1e9));
        retries += send_batch(fd, sent, n);
        sent += n;
    }
    printf("%ld %.9f %ld\n", sent, (double)(now_ns() - start) / 1e9, retries);
    return 0;
}
