/* A network stack that keeps the rules, but for a defect by number, in a Linux guest whose kernel leaves the card alone.
 *
 *     examined NUMBER
 *
 * It has the address 10.0.2.15, answers ARP and echo requests, puts fragments together, refuses UDP, TCP and protocols that
 * it does not have, and asks for whom it does not know. It says "ready", and ends when it is given a line.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum defect {
    NONE,
    ARP_OPERATION_SWAPPED, ARP_NOT_EXCHANGED, ARP_TARGET_ZERO, ARP_BROADCAST, ARP_LENGTHS_EXCHANGED,
    ARP_EVERY_ADDRESS, ARP_REPLY_ANSWERED, ARP_ANY_OPERATION, ARP_NO_PROBE, ARP_NO_UNICAST,
    ARP_NOT_LEARNED, ARP_ASKS_ONE, ARP_FLOOD, ARP_FORGETS, ARP_ANY_HARDWARE,
    IP_NO_SUM, IP_ANY_VERSION, IP_HEADER_FIXED, IP_LENGTH_BEYOND, IP_TTL_ONE,
    IP_NO_DF, IP_NO_OPTIONS, IP_OPTION_LOOP, IP_FROM_LOOPBACK, IP_ANY_DESTINATION,
    IP_TTL_ZERO, IP_LENGTH_SWAPPED, IP_SUM_WRONG, IP_PADDING, ECHO_SEQUENCE,
    ECHO_IDENTIFIER, ECHO_CUT, ICMP_NO_SUM, ICMP_QUOTE_EXCHANGED, ICMP_ANY_TYPE,
    ICMP_REPLY_ANSWERED, ICMP_ODD, ICMP_FOR_BROADCAST, ICMP_FOR_FRAGMENT, UDP_NO_SUM,
    UDP_SUM_NEEDED, UDP_LENGTH_BEYOND, UDP_CODE, FRAGMENTS_IN_ORDER, FRAGMENTS_HOLE,
    FRAGMENTS_ANY_NUMBER, FRAGMENTS_BEYOND, FRAGMENTS_ANY_SOURCE, TCP_ACK_LOW, TCP_RESET_ANSWERED,
    TCP_NO_SUM, TCP_ANY_OFFSET, LINK_OTHER_STATION, IP_FROM_GROUP, ICMP_FOR_ERROR,
    KERNEL_DIES,
    /* It dies of what nobody sends: each of these, or all of them. */
    DIES_ARP_LENGTH, DIES_IP_OPTION, DIES_IP_LENGTH, DIES_FRAGMENT_EMPTY, DIES_ICMP_CUT,
    DIES_ECHO_CODE, DIES_UDP_LENGTH, DIES_TCP_OFFSET, DIES_TCP_OPTION, DIES_VLAN,
    DIES_OF_ALL,
    DIES_OF_TYPE,  /* any that it does not know: little is left of a frame that kills, and it is soon found */
    LEAKS,
    DIES_DEEP,  /* of a datagram that begins with RAW!: each byte is looked at behind the one before it */
    TCP_SAME_NUMBER,  /* it listens on port 7777, and begins each connection with the same sequence number */
    ECHO_STOPS,  /* it does nothing any more once an echo is asked for */
    ARP_SELDOM,  /* it answers one question of ARP a second, and nothing else */
};

struct neighbor { uint8_t ip[4], mac[6]; int is_known; time_t asked; uint8_t kept[1514]; int kept_size; };

static int defect, card;
static struct sockaddr_ll where;
static uint8_t mac[6], own[4] = {10, 0, 2, 15};
static const uint8_t all[6] = {255, 255, 255, 255, 255, 255}, none[6];
static struct neighbor neighbors[32];

static void put16(uint8_t *at, unsigned value) { at[0] = value >> 8; at[1] = value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16); put16(at + 2, value); }
static unsigned get16(const uint8_t *at) { return at[0] << 8 | at[1]; }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static unsigned summed(uint32_t sum, const uint8_t *data, int size) {
    int odd = size & 1;
    for (; size > 1; size -= 2, data += 2) sum += get16(data);
    if (odd && defect != ICMP_ODD) sum += *data << 8;
    if (odd && defect == ICMP_ODD) sum += *data;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static unsigned pseudo(const uint8_t *from, const uint8_t *to, int protocol, int size) {
    return summed(summed(protocol + size, from, 4), to, 4);
}

static void send_frame(const uint8_t *to, unsigned type, const uint8_t *data, int size) {
    uint8_t frame[1514];
    memcpy(frame, to, 6);
    memcpy(frame + 6, mac, 6);
    put16(frame + 12, type);
    memcpy(frame + 14, data, size);
    sendto(card, frame, size + 14, 0, (struct sockaddr *)&where, sizeof where);
}

static void dies(int of, int is_so) {
    if (is_so && (defect == of || defect == DIES_OF_ALL)) abort();
}

/* ------------------------------------------------------------------- ARP */

static void send_arp(unsigned operation, const uint8_t *to, const uint8_t *target, const uint8_t *ip) {
    uint8_t message[28] = {0, 1, 8, 0, 6, 4};
    put16(message + 6, operation);
    memcpy(message + 8, mac, 6);
    memcpy(message + 14, own, 4);
    memcpy(message + 18, target, 6);
    memcpy(message + 24, ip, 4);
    if (operation == 2 && defect == ARP_OPERATION_SWAPPED) put16(message + 6, 0x0200);
    if (operation == 2 && defect == ARP_NOT_EXCHANGED) memcpy(message + 14, ip, 4), memcpy(message + 24, own, 4);
    if (operation == 2 && defect == ARP_TARGET_ZERO) memset(message + 18, 0, 6);
    if (operation == 2 && defect == ARP_LENGTHS_EXCHANGED) message[4] = 4, message[5] = 6;
    send_frame(to, ETHERTYPE_ARP, message, sizeof message);
}

static struct neighbor *find(const uint8_t *ip, int is_made) {
    struct neighbor *unused = 0;
    for (struct neighbor *each = neighbors; each < neighbors + 32; each++) {
        if (!memcmp(each->ip, ip, 4)) return each;
        if (!unused && !memcmp(each->ip, none, 4)) unused = each;
    }
    if (!is_made || !unused) return 0;
    memcpy(unused->ip, ip, 4);
    return unused;
}

static void learn(const uint8_t *ip, const uint8_t *address, int is_made) {
    struct neighbor *found = find(ip, is_made);
    if (!found || !memcmp(ip, none, 4)) return;
    if (found->is_known && defect == ARP_NOT_LEARNED) return;
    memcpy(found->mac, address, 6);
    found->is_known = 1;
    if (found->kept_size) send_frame(found->mac, ETHERTYPE_IP, found->kept, found->kept_size);
    found->kept_size = 0;
}

static void take_arp(const uint8_t *frame, int size) {
    const uint8_t *message = frame + 14;
    dies(DIES_ARP_LENGTH, size >= 22 && message[4] > 16);
    if (size < 42 || get16(message + 2) != 0x0800 || message[4] != 6 || message[5] != 4) return;
    if (get16(message) != 1 && defect != ARP_ANY_HARDWARE) return;
    int is_ours = !memcmp(message + 24, own, 4), operation = get16(message + 6);
    learn(message + 14, message + 8, is_ours && operation == 1);
    if (defect == ARP_EVERY_ADDRESS && operation == 1 && !is_ours) {
        uint8_t kept[4];
        memcpy(kept, own, 4), memcpy(own, message + 24, 4);
        send_arp(2, message + 8, message + 8, message + 14);
        memcpy(own, kept, 4);
    }
    if (!is_ours) return;
    static time_t answered;
    if (defect == ARP_SELDOM && answered == time(NULL)) return;
    answered = time(NULL);
    int is_asked = operation == 1 || (defect == ARP_REPLY_ANSWERED && operation == 2) ||
                   (defect == ARP_ANY_OPERATION && operation > 2);
    if (defect == ARP_NO_PROBE && !memcmp(message + 14, none, 4)) return;
    if (defect == ARP_NO_UNICAST && memcmp(frame, all, 6)) return;
    if (is_asked) send_arp(2, defect == ARP_BROADCAST ? all : message + 8, message + 8, message + 14);
}

/* -------------------------------------------------------------------- IP */

static void route(const uint8_t *packet, int size) {
    struct neighbor *to = find(packet + 16, 1);
    if (!to) return;
    if (to->is_known) return send_frame(to->mac, ETHERTYPE_IP, packet, size);
    if (defect != ARP_FORGETS) memcpy(to->kept, packet, size), to->kept_size = size;
    if (to->asked == time(0) && defect != ARP_FLOOD) return;
    to->asked = time(0);
    send_arp(1, defect == ARP_ASKS_ONE ? (uint8_t[6]){2, 0x72, 0x61, 0x77, 0x74, 1} : all, none, packet + 16);
}

static void send_ip(const uint8_t *to, int protocol, const uint8_t *data, int size) {
    static int number = 0x1200;
    number++;
    for (int at = 0; at == 0 || at < size; at += 1480) {
        uint8_t packet[1500] = {0x45};
        int part = size - at > 1480 ? 1480 : size - at;
        put16(packet + 2, part + 20);
        if (defect == IP_LENGTH_SWAPPED) put16(packet + 2, (part + 20) >> 8 | ((part + 20) & 255) << 8);
        put16(packet + 4, number);
        put16(packet + 6, at / 8 | (at + part < size ? 0x2000 : 0));
        packet[8] = defect == IP_TTL_ZERO ? 0 : 64;
        packet[9] = protocol;
        memcpy(packet + 12, own, 4);
        memcpy(packet + 16, to, 4);
        put16(packet + 10, ~summed(0, packet, 20) & 0xffff);
        if (defect == IP_SUM_WRONG) packet[10] ^= 1;
        memcpy(packet + 20, data + at, part);
        route(packet, part + 20);
    }
}

static int is_one_host(const uint8_t *ip) {
    if (ip[0] == 127 && defect != IP_FROM_LOOPBACK) return 0;
    if (ip[0] >= 224 && defect != IP_FROM_GROUP) return 0;
    return memcmp(ip, "\12\0\2\377", 4) && memcmp(ip, none, 4);
}

static void send_error(int code, const uint8_t *packet, int size, int is_to_us) {
    uint8_t message[1500] = {3, code};
    if (!is_to_us && defect != ICMP_FOR_BROADCAST) return;
    if (get16(packet + 6) & 0x1fff && defect != ICMP_FOR_FRAGMENT) return;
    int quoted = size > 548 ? 548 : size;
    memcpy(message + 8, packet, quoted);
    if (defect == ICMP_QUOTE_EXCHANGED) memcpy(message + 20, packet + 16, 4), memcpy(message + 24, packet + 12, 4);
    put16(message + 2, ~summed(0, message, quoted + 8) & 0xffff);
    send_ip(packet + 12, 1, message, quoted + 8);
}

static void take_icmp(const uint8_t *packet, const uint8_t *message, int size, int is_to_us) {
    static uint8_t reply[70000];
    if (message[0] == 200 && defect == KERNEL_DIES) {
        int trigger = open("/proc/sysrq-trigger", O_WRONLY);
        if (write(trigger, "c", 1) < 0) exit(1);
    }
    dies(DIES_ICMP_CUT, size && size < 8);
    if (size < 8 || (summed(0, message, size) != 0xffff && defect != ICMP_NO_SUM && defect != ICMP_ODD)) return;
    if (message[0] == 3 && message[1] > 15 && defect == ICMP_FOR_ERROR) send_error(2, packet, size + 20, is_to_us);
    if (defect == ARP_SELDOM) return;
    while (defect == ECHO_STOPS && message[0] == 8) pause();
    dies(DIES_ECHO_CODE, message[0] == 8 && message[1] > 0x70);
    int is_asked = message[0] == 8 || (message[0] == 0 && defect == ICMP_REPLY_ANSWERED);
    if (message[0] > 40 && defect == ICMP_ANY_TYPE) is_asked = 1;
    if (!is_asked || !is_to_us) return;
    memcpy(reply, message, size);
    reply[0] = reply[1] = 0;
    if (defect == ECHO_SEQUENCE) put16(reply + 6, 0);
    if (defect == ECHO_IDENTIFIER) reply[4] = message[5], reply[5] = message[4];
    if (defect == ECHO_CUT && size > 24) size -= 8;
    put16(reply + 2, 0);
    put16(reply + 2, ~summed(0, reply, size) & 0xffff);
    send_ip(packet + 12, 1, reply, size);
}

static void deep(const uint8_t *data) {
    static volatile int depth;
    if (data[0] != 'R') return;
    depth = 1;
    if (data[1] != 'A') return;
    depth = 2;
    if (data[2] != 'W') return;
    depth = 3;
    if (data[3] != '!') return;
    depth = 4;
    *(volatile char *)0 = depth;
}

static void take_udp(const uint8_t *packet, int all_size, const uint8_t *message, int size, int is_to_us) {
    dies(DIES_UDP_LENGTH, size >= 8 && get16(message + 4) < 8);
    if (size < 8 || get16(message + 4) < 8) return;
    int length = get16(message + 4), sum = get16(message + 6);
    if (length > size && defect != UDP_LENGTH_BEYOND) return;
    if (!sum && defect == UDP_SUM_NEEDED) return;
    int is_right = summed(pseudo(packet + 12, packet + 16, 17, length), message, length) == 0xffff;
    if (sum && !is_right && defect != UDP_NO_SUM) return;
    if (defect == DIES_DEEP && length >= 12) deep(message + 8);
    send_error(defect == UDP_CODE ? 2 : 3, packet, all_size, is_to_us);
}

static void take_tcp(const uint8_t *packet, const uint8_t *segment, int size, int is_to_us) {
    uint8_t reset[20] = {0};
    if (size < 20 || !is_to_us) return;
    int offset = (segment[12] >> 4) * 4, flags = segment[13];
    dies(DIES_TCP_OFFSET, offset > size);
    dies(DIES_TCP_OPTION, offset > 21 && offset <= size && segment[20] > 1 && segment[21] < 2);
    if ((offset < 20 || offset > size) && defect != TCP_ANY_OFFSET) return;
    if (summed(pseudo(packet + 12, packet + 16, 6, size), segment, size) != 0xffff && defect != TCP_NO_SUM) return;
    if (flags & 4 && defect != TCP_RESET_ANSWERED) return;
    memcpy(reset, segment + 2, 2);
    memcpy(reset + 2, segment, 2);
    reset[12] = 0x50;
    if (flags & 0x10) {
        memcpy(reset + 4, segment + 8, 4);
        reset[13] = 4;
    } else if (defect == TCP_SAME_NUMBER && flags == 2 && get16(segment + 2) == 7777) {
        put32(reset + 4, 0x12345678);
        put32(reset + 8, get32(segment + 4) + 1);
        reset[13] = 0x12;
    } else {
        put32(reset + 8, get32(segment + 4) + size - offset + !!(flags & 2) + (flags & 1) - (defect == TCP_ACK_LOW));
        reset[13] = 0x14;
    }
    put16(reset + 16, ~summed(pseudo(own, packet + 12, 6, 20), reset, 20) & 0xffff);
    send_ip(packet + 12, 6, reset, 20);
}

static void deliver(const uint8_t *packet, int size, int header, int is_to_us) {
    const uint8_t *data = packet + header;
    if (packet[9] == 1) take_icmp(packet, data, size - header, is_to_us);
    else if (packet[9] == 17) take_udp(packet, size, data, size - header, is_to_us);
    else if (packet[9] == 6) take_tcp(packet, data, size - header, is_to_us);
    else send_error(2, packet, size, is_to_us);
}

/* One packet in fragments for each of some identifications; which bytes are there is kept byte by byte. */
static void join(const uint8_t *packet, int size, int header, int is_to_us) {
    static struct { uint8_t key[11], data[65536], there[65536]; int used, end; } waiting[8], *to;
    static int next;
    uint8_t key[11] = {0};
    dies(DIES_FRAGMENT_EMPTY, size == header && packet[6] & 0x20);
    unsigned field = get16(packet + 6), at = (field & 0x1fff) * 8, more = field & 0x2000, part = size - header;
    if (defect != FRAGMENTS_ANY_SOURCE) memcpy(key, packet + 12, 4);
    if (defect != FRAGMENTS_ANY_NUMBER) memcpy(key + 8, packet + 4, 2);
    key[10] = packet[9];
    if (at + part > 65515 && defect != FRAGMENTS_BEYOND) return;
    if (at + part > 65515) *(volatile char *)0 = 1;
    if (more && part % 8) return;
    to = 0;
    for (int each = 0; each < 8; each++)
        if (waiting[each].used && !memcmp(waiting[each].key, key, sizeof key)) to = &waiting[each];
    if (!to) {
        to = &waiting[next++ % 8];
        memset(to, 0, sizeof *to);
        memcpy(to->key, key, sizeof key);
        to->used = 1, to->end = -1;
    }
    if (defect == FRAGMENTS_IN_ORDER && at && !to->there[at - 1]) return;
    memcpy(to->data + at, packet + header, part);
    memset(to->there + at, 1, part);
    if (!more) to->end = at + part;
    if (to->end < 0 || (defect != FRAGMENTS_HOLE && memchr(to->there, 0, to->end))) return;
    static uint8_t whole[70000];
    memcpy(whole, packet, 20);
    whole[0] = 0x45;
    put16(whole + 6, 0);
    memcpy(whole + 20, to->data, to->end);
    to->used = 0;
    deliver(whole, to->end + 20, 20, is_to_us);
}

/* Whether its options are well formed. */
static int options_fit(const uint8_t *packet, int header) {
    for (int at = 20; at < header && packet[at];) {
        int size = packet[at] == 1 ? 1 : at + 1 < header ? packet[at + 1] : 0;
        if (defect == IP_OPTION_LOOP && !size) for (;;) pause();
        dies(DIES_IP_OPTION, at + size > header);
        if (size < (packet[at] != 1) + 1 || at + size > header) return 0;
        at += size;
    }
    return 1;
}

static void take_ip(const uint8_t *packet, int size, int is_for_all) {
    if (size < 20) return;
    int header = defect == IP_HEADER_FIXED ? 20 : (packet[0] & 15) * 4, length = get16(packet + 2);
    dies(DIES_IP_LENGTH, length < 20 && packet[0] == 0x45);
    if (packet[0] >> 4 != 4 && defect != IP_ANY_VERSION) return;
    if (header < 20 || header > size || length < header) return;
    if (length > size && defect != IP_LENGTH_BEYOND) return;
    if (length > size || defect == IP_PADDING) length = size;
    if (summed(0, packet, header) != 0xffff && defect != IP_NO_SUM) return;
    int is_ours = !memcmp(packet + 16, own, 4), is_broadcast = !memcmp(packet + 16, all, 4);
    is_broadcast |= !memcmp(packet + 16, "\12\0\2\377", 4) || packet[16] >> 4 == 14;
    if (defect == IP_ANY_DESTINATION) is_ours = 1;
    if ((!is_ours && !is_broadcast) || !is_one_host(packet + 12) || (is_ours && is_for_all)) return;
    if (packet[8] < 2 && defect == IP_TTL_ONE) return;
    if (packet[6] & 0x40 && defect == IP_NO_DF) return;
    if (header > 20 && defect == IP_NO_OPTIONS) return;
    if (!options_fit(packet, header)) return;
    if (get16(packet + 6) & 0x3fff) {
        if (defect == ICMP_FOR_FRAGMENT && packet[9] == 253) return send_error(2, packet, length, is_ours);
        return join(packet, length, header, is_ours);
    }
    deliver(packet, length, header, is_ours || defect == ICMP_FOR_BROADCAST);
}

static void leak(void) {
    static void **all_of_it;
    void **more = malloc(1 << 15);
    memset(more, 1, 1 << 15);
    *more = all_of_it, all_of_it = more;
}

static void take(const uint8_t *frame, int size) {
    unsigned type = size < 14 ? 0 : get16(frame + 12);
    if (defect == LEAKS) leak();
    if (memcmp(frame, mac, 6) && !(frame[0] & 1) && defect != LINK_OTHER_STATION) return;
    dies(DIES_VLAN, type == ETHERTYPE_VLAN && size < 22);
    int is_known = type == ETHERTYPE_ARP || type == ETHERTYPE_IP || type == ETHERTYPE_IPV6 || type == ETHERTYPE_VLAN;
    if (defect == DIES_OF_TYPE && type > 1500 && !is_known) abort();
    if (type == ETHERTYPE_ARP) take_arp(frame, size);
    if (type == ETHERTYPE_IP) take_ip(frame + 14, size - 14, frame[0] & 1);
    if (type <= 1500 && size > 22 && !memcmp(frame + 14, "\252\252\3\0\0\0\10", 8)) take_ip(frame + 22, size - 22, frame[0] & 1);
}

/* A frame, with its tag: the kernel takes that off, and tells it beside the frame (packet(7), PACKET_AUXDATA). */
static int received(uint8_t *frame, int room, struct sockaddr_ll *from) {
    union { char room[CMSG_SPACE(sizeof(struct tpacket_auxdata))]; struct cmsghdr first; } beside;
    struct iovec data = {frame, room};
    struct msghdr message = {.msg_name = from, .msg_namelen = sizeof *from, .msg_iov = &data, .msg_iovlen = 1};
    message.msg_control = &beside, message.msg_controllen = sizeof beside;
    int got = recvmsg(card, &message, 0);
    struct cmsghdr *each = got < 14 ? 0 : CMSG_FIRSTHDR(&message);
    for (; each; each = CMSG_NXTHDR(&message, each)) {
        struct tpacket_auxdata told;
        if (each->cmsg_level != SOL_PACKET || each->cmsg_type != PACKET_AUXDATA) continue;
        memcpy(&told, CMSG_DATA(each), sizeof told);
        if (!(told.tp_status & TP_STATUS_VLAN_VALID)) continue;
        memmove(frame + 16, frame + 12, got - 12);
        put16(frame + 12, told.tp_status & TP_STATUS_VLAN_TPID_VALID ? told.tp_vlan_tpid : ETHERTYPE_VLAN);
        put16(frame + 14, told.tp_vlan_tci);
        got += 4;
    }
    return got;
}

int main(int arguments, char **argument) {
    struct ifreq request = {0};
    if (arguments != 2) return 2;
    defect = atoi(argument[1]);
    card = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    strcpy(request.ifr_name, "eth0");
    if (card < 0 || ioctl(card, SIOCGIFHWADDR, &request)) return perror("eth0"), 1;
    memcpy(mac, request.ifr_hwaddr.sa_data, 6);
    ioctl(card, SIOCGIFINDEX, &request);
    where = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = request.ifr_ifindex};
    if (bind(card, (struct sockaddr *)&where, sizeof where)) return perror("bind"), 1;
    int sees_tags = defect == DIES_VLAN || defect == DIES_OF_ALL, is_set = 1;
    if (sees_tags) setsockopt(card, SOL_PACKET, PACKET_AUXDATA, &is_set, sizeof is_set);
    if (defect == LINK_OTHER_STATION || sees_tags) {  /* else the card itself passes such frames over */
        struct packet_mreq all_frames = {.mr_ifindex = where.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
        setsockopt(card, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all_frames, sizeof all_frames);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        static uint8_t frame[66000];
        struct pollfd waiting[2] = {{card, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        struct sockaddr_ll from;
        if (poll(waiting, 2, -1) < 0 || waiting[1].revents) return 0;
        int got = received(frame, sizeof frame - 4, &from);
        if (got > 0 && from.sll_pkttype != PACKET_OUTGOING) take(frame, got);
    }
}
