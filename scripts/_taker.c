/* Takes frames out of the kernel's ring and throws them away: what no capture can exceed; bench.py compiles and runs it.
 *
 *     taker INTERFACE RING_BYTES
 *
 * Prints "armed", ends on SIGINT when nothing more is there, then prints its counters as JSON. Source: pcap(3PCAP).
 */
#define _DEFAULT_SOURCE
#include <pcap/pcap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK_MS = 10 };

static pcap_t *wire;
static volatile sig_atomic_t asked;
static unsigned long taken;

static void ask(int number)
{
    (void)number;
    asked = 1;
    pcap_breakloop(wire);
}

static void take(unsigned char *user, const struct pcap_pkthdr *header, const unsigned char *data)
{
    (void)user;
    (void)header;
    (void)data;
    taken++;
}

int main(int argc, char **argv)
{
    const struct sigaction action = { .sa_handler = ask };
    char why[PCAP_ERRBUF_SIZE];
    struct pcap_stat stats = { 0 };
    wire = argc == 3 ? pcap_create(argv[1], why) : NULL;
    if (wire == NULL) {
        fprintf(stderr, "usage: %s INTERFACE RING_BYTES\n", argv[0]);
        return 2;
    }
    pcap_set_snaplen(wire, 262144);
    pcap_set_promisc(wire, 1);
    pcap_set_timeout(wire, BLOCK_MS);
    pcap_set_buffer_size(wire, atoi(argv[2]));
    if (pcap_activate(wire) < 0) {
        pcap_perror(wire, argv[1]);
        return 1;
    }
    sigaction(SIGINT, &action, NULL);
    puts("armed");
    fflush(stdout);
    while (!asked)
        pcap_dispatch(wire, -1, take, NULL);
    usleep(2 * BLOCK_MS * 1000); /* the kernel hands over the last block */
    pcap_setnonblock(wire, 1, why);
    while (pcap_dispatch(wire, -1, take, NULL) > 0)
        ;
    pcap_stats(wire, &stats);
    printf("{\"saved\": %lu, \"dropped_kernel\": %u}\n", taken, stats.ps_drop);
    return 0;
}
