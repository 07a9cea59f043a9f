/* A network stack of a few hundred lines with a defect by number, for a Linux guest whose kernel leaves the card alone.
 *
 *     broken NUMBER MILLISECONDS
 *
 * It has the address 10.0.2.(100 + NUMBER). It does what the defect is of: it pings, asks for a name, takes a lease, opens
 * a connection. Then it says "ready", and answers ARP and pings until it is given a line, and for that long after it.
 * NUMBER 0 has no defect and does all of it.
 */
#include <arpa/inet.h>
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
    ARP_NOT_EXCHANGED, ARP_OPERATION_SWAPPED, ARP_OWN_ADDRESS_REVERSED, ARP_SILENT, ARP_TWO_ADDRESSES,
    ECHO_SEQUENCE_SWAPPED, ECHO_IDENTIFIER_ZERO, ECHO_SUM_NOT_COMPLEMENTED, ECHO_CUT, ECHO_BROADCAST,
    ECHO_LINK_ROTATED, ECHO_SOURCE_REVERSED, ECHO_EVERY_SECOND, ECHO_STOPS, IP_LENGTH_SWAPPED,
    IP_SUM_SWAPPED, IP_TTL_ZERO, LINK_SOURCE_GROUP, DNS_PORT_SWAPPED, DNS_CLASS_SWAPPED,
    DNS_IS_RESPONSE, UDP_SUM_NO_PSEUDO, UDP_LENGTH_NO_HEADER, DNS_COUNT_SWAPPED, DHCP_OTHER_XID,
    DHCP_ADDRESS_REVERSED, DHCP_ACK_IGNORED, DHCP_OFFER_IGNORED, DHCP_CHADDR_ROTATED, DHCP_COOKIE_SWAPPED,
    DHCP_PORT_SWAPPED, FRAGMENTS_IN_BYTES, TCP_SUM_NO_PSEUDO, TCP_ACK_SWAPPED, FRAGMENTS_NO_LAST,
    TCP_ACK_ONE_LOW, TCP_WINDOW_SHUTS, TCP_RESET_ASTRAY, TCP_FIN_IGNORED, TCP_SENDS_AGAIN,
    TCP_WRAP_FORGOTTEN, TCP_OPTION_LENGTH_ZERO, TCP_MSS_ZERO, TCP_OFFSET_IN_BYTES, TCP_ACK_NOT_SYN,
    ECHO_CODE, FRAGMENTS_OVERLAP, FRAGMENTS_GAP, DHCP_OPTION_LENGTH, TCP_SEQUENCE_NO_SYN,
    LINK_SOURCE_ZERO, LINK_SOURCE_FOREIGN, LINK_TYPE_SWAPPED, ARP_HARDWARE_EXCHANGED, ARP_OFF_LINK,
    ARP_TARGET_REVERSED, ARP_KIND_SWAPPED, IP_DF_SWAPPED, ECHO_SAME_SEQUENCE, ECHO_TYPE_KEPT,
    ECHO_ADDRESSES_KEPT, DNS_NO_ZERO, DNS_DOTS, DNS_TYPE_SWAPPED,
    DHCP_NO_END, DHCP_NO_ADDRESS, DHCP_OTHER_CARD, DHCP_OPERATION, DHCP_PORTS_EXCHANGED,
    TCP_SYN_CHANGES, TCP_NO_ACK_FLAG, TCP_SEQUENCE_SWAPPED, TCP_FIN_FAR, TCP_ACK_FAR,
    TCP_MSS_SWAPPED, TCP_DATA_AFTER_FIN,
};

static int defect, card, count_replies, is_shut, is_awaited;
static struct sockaddr_ll where;
static uint8_t mac[6], own[4] = {10, 0, 2, 100}, host[4] = {10, 0, 2, 2}, host_mac[6];
static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
static uint8_t got[2048];  /* the frame that came last */
static int got_size;

static void put16(uint8_t *at, unsigned value) { at[0] = value >> 8; at[1] = value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, value >> 16); put16(at + 2, value); }
static unsigned get16(const uint8_t *at) { return at[0] << 8 | at[1]; }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }
static unsigned swapped(unsigned value) { return (value & 255) << 8 | value >> 8; }

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static uint32_t add(uint32_t sum, const uint8_t *data, int size) {
    for (; size > 1; size -= 2, data += 2) sum += get16(data);
    return size ? sum + (*data << 8) : sum;
}

static unsigned folded(uint32_t sum) {
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static void send_frame(const uint8_t *to, unsigned type, const uint8_t *data, int size) {
    uint8_t frame[2048] = {0};
    memcpy(frame, to, 6);
    memcpy(frame + 6, mac, 6);
    if (defect == LINK_SOURCE_GROUP && type == ETHERTYPE_IP) frame[6] |= 1;
    if (defect == LINK_SOURCE_ZERO && type == ETHERTYPE_IP) memset(frame + 6, 0, 6);
    if (defect == LINK_TYPE_SWAPPED && type == ETHERTYPE_IP) type = swapped(type);
    put16(frame + 12, type);
    memcpy(frame + 14, data, size);
    sendto(card, frame, size + 14 < 60 ? 60 : size + 14, 0, (struct sockaddr *)&where, sizeof where);
}

static void send_arp(int operation, const uint8_t *to, const uint8_t *target) {
    uint8_t message[28] = {0, 1, 8, 0, 6, 4};
    static int times;
    put16(message + 6, operation);
    memcpy(message + 8, mac, 6);
    memcpy(message + 14, own, 4);
    memcpy(message + 18, operation == 1 ? (uint8_t[6]){0} : to, 6);
    memcpy(message + 24, target, 4);
    if (operation == 2 && defect == ARP_NOT_EXCHANGED) {
        memcpy(message + 14, target, 4);
        memcpy(message + 24, own, 4);
    }
    if (operation == 2 && defect == ARP_OPERATION_SWAPPED) put16(message + 6, swapped(operation));
    if (defect == ARP_OWN_ADDRESS_REVERSED)
        for (int at = 0; at < 6; at++) message[8 + at] = mac[5 - at];
    if (defect == ARP_TWO_ADDRESSES && times++ % 2) message[8 + 5] ^= 0x11, message[8 + 4] ^= 0x11;
    if (operation == 2 && defect == ARP_HARDWARE_EXCHANGED) {
        memcpy(message + 8, to, 6);
        memcpy(message + 18, mac, 6);
    }
    if (operation == 2 && defect == ARP_KIND_SWAPPED) put16(message, 0x0100);
    send_frame(operation == 1 ? all : to, ETHERTYPE_ARP, message, sizeof message);
}

static void send_ip(const uint8_t *to, const uint8_t *destination, int protocol, const uint8_t *data, int size,
                    unsigned fragment) {
    uint8_t packet[2000] = {0x45, 0};
    static int number = 0x1200;
    put16(packet + 2, defect == IP_LENGTH_SWAPPED ? swapped(size + 20) : (unsigned)size + 20);
    put16(packet + 4, fragment ? 77 : ++number);
    put16(packet + 6, defect == IP_DF_SWAPPED ? 0x0040 : fragment);
    packet[8] = defect == IP_TTL_ZERO ? 0 : 64;
    packet[9] = protocol;
    memcpy(packet + 12, own, 4);
    if (destination == (const uint8_t *)0) memset(packet + 12, 0, 4);
    if (protocol == 1 && defect == ECHO_SOURCE_REVERSED && data[0] == 0)
        for (int at = 0; at < 4; at++) packet[12 + at] = own[3 - at];
    memcpy(packet + 16, destination ? destination : all, 4);
    if (protocol == 1 && defect == ECHO_ADDRESSES_KEPT && data[0] == 0) {
        memcpy(packet + 12, host, 4);
        memcpy(packet + 16, own, 4);
    }
    unsigned sum = ~folded(add(0, packet, 20)) & 0xffff;
    put16(packet + 10, defect == IP_SUM_SWAPPED ? swapped(sum) : sum);
    memcpy(packet + 20, data, size);
    send_frame(to, ETHERTYPE_IP, packet, size + 20);
}

static void send_echo(int type, unsigned identifier, unsigned sequence, const uint8_t *data, int size) {
    uint8_t message[1500] = {type, type == 0 && defect == ECHO_CODE}, rotated[6];
    const uint8_t *to = host_mac;
    if (type == 0) {
        if (defect == ECHO_SEQUENCE_SWAPPED) sequence = swapped(sequence);
        if (defect == ECHO_IDENTIFIER_ZERO) identifier = 0;
        if (defect == ECHO_CUT) size -= 8;
        if (defect == ECHO_BROADCAST) to = all;
        for (int at = 0; at < 6; at++) rotated[at] = host_mac[(at + 1) % 6];
        if (defect == ECHO_LINK_ROTATED) to = rotated;
        count_replies++;
        if (defect == ECHO_SAME_SEQUENCE) sequence = 1;
        if (defect == ECHO_TYPE_KEPT) message[0] = 8;
        if (defect == ECHO_EVERY_SECOND && count_replies % 2 == 0) return;
        if (defect == ECHO_STOPS && count_replies > 2) return;
    }
    put16(message + 4, identifier);
    put16(message + 6, sequence);
    memcpy(message + 8, data, size);
    unsigned sum = folded(add(0, message, size + 8));
    put16(message + 2, type == 0 && defect == ECHO_SUM_NOT_COMPLEMENTED ? sum : ~sum & 0xffff);
    if (defect == FRAGMENTS_IN_BYTES || defect == FRAGMENTS_NO_LAST) {
        send_ip(to, host, 1, message, 800, 0x2000);
        send_ip(to, host, 1, message + 800, size + 8 - 800, defect == FRAGMENTS_IN_BYTES ? 800 : 0x2000 | 100);
    } else if (defect == FRAGMENTS_OVERLAP || defect == FRAGMENTS_GAP) {
        send_ip(to, host, 1, message, 800, 0x2000);
        send_ip(to, host, 1, message + 800, size + 8 - 800, defect == FRAGMENTS_OVERLAP ? 99 : 101);
    } else
        send_ip(to, host, 1, message, size + 8, 0);
}

/* TCP and UDP: the sum with its pseudo header, at `at` of the segment. */
static void send_summed(const uint8_t *to, const uint8_t *destination, int protocol, uint8_t *data, int size, int at,
                        int bare) {
    uint32_t sum = add(0, data, size);
    if (!bare) {
        if (destination) sum = add(add(sum, own, 4), destination, 4);
        else sum = add(sum, all, 4);
        sum += protocol + size;
    }
    put16(data + at, ~folded(sum) & 0xffff);
    send_ip(to, destination, protocol, data, size, 0);
}

static void send_udp(const uint8_t *to, const uint8_t *destination, int from, int port, const uint8_t *data, int size) {
    uint8_t datagram[1500] = {0};
    put16(datagram, from);
    put16(datagram + 2, port);
    put16(datagram + 4, defect == UDP_LENGTH_NO_HEADER ? size : size + 8);
    memcpy(datagram + 8, data, size);
    send_summed(to, destination, 17, datagram, size + 8, 6, defect == UDP_SUM_NO_PSEUDO);
}

static void send_tcp(int port, uint32_t sequence, uint32_t acknowledgment, int flags, const char *data) {
    uint8_t segment[1500] = {0};
    int is_syn = flags & 2, header = 20;
    int is_mss = defect == TCP_MSS_ZERO || defect == TCP_MSS_SWAPPED;
    if (is_syn && (defect == TCP_OPTION_LENGTH_ZERO || is_mss)) header = 24;
    if (defect == TCP_ACK_ONE_LOW && acknowledgment) acknowledgment--;
    if (defect == TCP_ACK_SWAPPED && acknowledgment)
        acknowledgment = __builtin_bswap32(acknowledgment);
    put16(segment, port);
    put16(segment + 2, 8080);
    put32(segment + 4, defect == TCP_SEQUENCE_SWAPPED && *data ? __builtin_bswap32(sequence) : sequence);
    if (defect == TCP_NO_ACK_FLAG && *data) flags &= ~0x10;
    if (defect == TCP_ACK_FAR && !is_syn && *data == 0 && acknowledgment) acknowledgment += count_replies++ > 0;
    put32(segment + 8, acknowledgment);
    segment[12] = defect == TCP_OFFSET_IN_BYTES ? header : header / 4 << 4;
    segment[13] = flags;
    put16(segment + 14, defect != TCP_WINDOW_SHUTS ? 8192 : is_shut ? 0 : 1460);
    if (header > 20) memcpy(segment + 20, is_mss ? "\2\4\0\0" : "\3\0\7\0", 4);
    if (header > 20 && defect == TCP_MSS_SWAPPED) put16(segment + 22, swapped(1460));
    memcpy(segment + header, data, strlen(data));
    send_summed(host_mac, host, 6, segment, header + strlen(data), 16, defect == TCP_SUM_NO_PSEUDO);
}

/* When an answer is there at the latest. Without a defect it comes, however slow the machine is: then this costs nothing. */
static long soon(long milliseconds) { return now() + (defect ? milliseconds : 30 * milliseconds); }

/* Answer what comes, until `until` or, where `protocol` is given, until a packet of it to us: 1 then. */
static int serve(long until, int protocol) {
    for (long left; (left = until - now()) > 0;) {
        struct pollfd waiting[2] = {{card, POLLIN, 0}, {is_awaited ? STDIN_FILENO : -1, POLLIN, 0}};
        struct sockaddr_ll from;
        socklen_t size = sizeof from;
        if (poll(waiting, 2, left) <= 0 || waiting[1].revents) return 0;
        got_size = recvfrom(card, got, sizeof got, 0, (struct sockaddr *)&from, &size);
        if (got_size < 42 || from.sll_pkttype == PACKET_OUTGOING) continue;
        if (get16(got + 12) == ETHERTYPE_ARP && !memcmp(got + 38, own, 4)) {
            if (get16(got + 20) == 1) {
                memcpy(host_mac, got + 22, 6);
                if (defect != ARP_SILENT) send_arp(2, got + 22, got + 28);
            } else if (protocol == -1) {
                memcpy(host_mac, got + 22, 6);
                return 1;
            }
        }
        if (get16(got + 12) != ETHERTYPE_IP) continue;
        if (got[23] == 1 && got[34] == 8 && !memcmp(got + 30, own, 4))
            send_echo(0, get16(got + 38), get16(got + 40), got + 42, get16(got + 16) - 28);
        else if (got[23] == protocol && (protocol != 1 || got[34] == 0))
            return 1;
    }
    return 0;
}

static void ping(int size) {
    uint8_t data[1400];
    memset(data, 'x', sizeof data);
    send_echo(8, 0x1234, 1, data, size);
    serve(soon(300), 1);
}

static void ask_name(void) {
    uint8_t message[64] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7};
    memcpy(message + 13, "gateway", 8);
    put16(message + 21, 1);
    put16(message + 23, defect == DNS_CLASS_SWAPPED ? 256 : 1);
    if (defect == DNS_IS_RESPONSE) message[2] |= 0x80;
    if (defect == DNS_COUNT_SWAPPED) put16(message + 4, 256);
    int size = 25;
    if (defect == DNS_TYPE_SWAPPED) put16(message + 21, 256);
    if (defect == DNS_DOTS) memcpy(message + 12, "gate.way", 9);
    if (defect == DNS_NO_ZERO) memcpy(message + 20, "\0\1\0\1", 4), size = 24;
    send_udp(host_mac, host, 4000, defect == DNS_PORT_SWAPPED ? swapped(53) : 53, message, size);
    serve(soon(500), 17);
}

static uint8_t offered[4], server[4];

static void send_dhcp(int type, uint32_t xid) {
    uint8_t message[300] = {defect == DHCP_OPERATION ? 2 : 1, 1, 6, 0};
    put32(message + 4, xid);
    message[10] = 0x80;  /* answers by broadcast */
    memcpy(message + 28, mac, 6);
    if (defect == DHCP_CHADDR_ROTATED)
        for (int at = 0; at < 6; at++) message[28 + at] = mac[(at + 1) % 6];
    if (defect == DHCP_OTHER_CARD) message[33] ^= 1, message[10] = 0;
    put32(message + 236, defect == DHCP_COOKIE_SWAPPED ? 0x63538263 : 0x63825363);
    uint8_t *at = message + 240;
    *at++ = 53, *at++ = 1, *at++ = type;
    if (type == 3) {
        if (defect != DHCP_NO_ADDRESS) *at++ = 50, *at++ = 4;
        for (int index = 0; index < 4 && defect != DHCP_NO_ADDRESS; index++)
            *at++ = offered[defect == DHCP_ADDRESS_REVERSED ? 3 - index : index];
        *at++ = 54, *at++ = 4;
        memcpy(at, server, 4), at += 4;
    }
    if (defect == DHCP_OPTION_LENGTH) *at++ = 12, *at++ = 200, *at++ = 'x';
    if (defect != DHCP_NO_END) *at = 255;
    int is_exchanged = defect == DHCP_PORTS_EXCHANGED;
    send_udp(all, 0, is_exchanged ? 67 : 68, defect == DHCP_PORT_SWAPPED ? swapped(67) : is_exchanged ? 68 : 67, message,
             sizeof message);
}

static int dhcp_came(int type, uint32_t xid, long until) {
    while (serve(until, 17)) {
        const uint8_t *message = got + 42, *at = message + 240;
        if (get16(got + 36) != 68 || get32(message + 4) != xid) continue;
        memcpy(offered, message + 16, 4);
        int found = 0;
        while (at < got + got_size && *at != 255) {
            if (*at == 53) found = at[2];
            if (*at == 54) memcpy(server, at + 2, 4);
            at += *at ? at[1] + 2 : 1;
        }
        if (found == type) return 1;
    }
    return 0;
}

static void lease(void) {
    uint32_t xid = 0x12340000 + defect, other = defect == DHCP_OTHER_XID ? __builtin_bswap32(xid) : xid;
    for (int turn = 0; turn < 2; turn++) {
        send_dhcp(1, xid);
        if (!dhcp_came(2, xid, now() + 4500) || defect == DHCP_OFFER_IGNORED) continue;
        for (int again = 0; again < (defect == DHCP_ACK_IGNORED ? 2 : 1); again++) {
            send_dhcp(3, other);
            dhcp_came(5, other, now() + 3000);
            serve(now() + 100, 0);
        }
        return;
    }
}

static void connect_to_host(void) {
    uint32_t ours = defect == TCP_WRAP_FORGOTTEN ? 0xfffffffe : 1000, theirs;
    int port = 40000 + defect;
    for (int again = 0; defect == TCP_SYN_CHANGES && again < 2; again++) {
        send_tcp(port, ours += 7000, 0, 2, "");
        serve(now() + 200, 0);
    }
    if (defect == TCP_SYN_CHANGES) return;
    send_tcp(port, ours++, 0, 2, "");
    if (!serve(now() + 3000, 6) || got[47] != 0x12) return;
    theirs = get32(got + 38) + (defect != TCP_ACK_NOT_SYN);
    if (defect == TCP_SEQUENCE_NO_SYN) ours--;
    send_tcp(port, ours, theirs, 0x10, "");
    if (defect == TCP_RESET_ASTRAY) {
        send_tcp(port, ours + 100000, theirs, 4, "");
        serve(now() + 250, 1);  /* what was on its way is over */
    }
    send_tcp(port, ours, theirs, 0x18, defect == TCP_WINDOW_SHUTS ? "more!" : "hello");
    if (defect == TCP_SENDS_AGAIN) {
        serve(now() + 50, 1);
        send_tcp(port, ours, theirs, 0x18, "hello");
    }
    ours = defect == TCP_WRAP_FORGOTTEN ? 0xffffffff : ours + 5;
    for (long until = soon(500); serve(until, 6);) {
        int size = get16(got + 16) - 20 - (got[46] >> 4) * 4, ends = got[47] & 1;
        if (defect == TCP_FIN_IGNORED) ends = 0;
        if (size || ends) theirs = get32(got + 38) + size + ends;
        is_shut = is_shut || size > 0;
        if (size || ends) send_tcp(port, ours, theirs, 0x10, "");
        if (ends) break;
    }
    for (int again = 0; defect == TCP_FIN_FAR && again < 2; again++) {
        send_tcp(port, ours + 1, theirs, 0x11, "");
        serve(now() + 300, 1);
    }
    if (defect != TCP_WINDOW_SHUTS && defect != TCP_FIN_FAR) send_tcp(port, ours, theirs, 0x11, "");
    if (defect == TCP_DATA_AFTER_FIN) send_tcp(port, ours + 1, theirs, 0x18, "late");
    serve(soon(300), 6);
}

int main(int arguments, char **argument) {
    struct ifreq request = {0};
    if (arguments != 3) return 2;
    defect = atoi(argument[1]);
    own[3] += defect;
    card = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    strcpy(request.ifr_name, "eth0");
    if (card < 0 || ioctl(card, SIOCGIFHWADDR, &request)) return perror("eth0"), 1;
    memcpy(mac, request.ifr_hwaddr.sa_data, 6);
    ioctl(card, SIOCGIFINDEX, &request);
    where = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = request.ifr_ifindex};
    if (bind(card, (struct sockaddr *)&where, sizeof where)) return perror("bind"), 1;
    if (defect == LINK_SOURCE_FOREIGN) memcpy(mac, (uint8_t[6]){2, 0, 0, 0x12, 0x34, 0x56}, 6);
    int is_lease = (defect >= DHCP_OTHER_XID && defect <= DHCP_PORT_SWAPPED) || defect == DHCP_OPTION_LENGTH ||
                   (defect >= DHCP_NO_END && defect <= DHCP_PORTS_EXCHANGED);
    int is_large = defect == FRAGMENTS_IN_BYTES || defect == FRAGMENTS_NO_LAST || defect == FRAGMENTS_OVERLAP ||
                   defect == FRAGMENTS_GAP;
    int is_name = (defect >= DNS_PORT_SWAPPED && defect <= DNS_COUNT_SWAPPED) ||
                  (defect >= DNS_NO_ZERO && defect <= DNS_TYPE_SWAPPED);
    int is_stream = defect == TCP_SUM_NO_PSEUDO || defect == TCP_ACK_SWAPPED || defect == TCP_SEQUENCE_NO_SYN ||
                    (defect >= TCP_ACK_ONE_LOW && defect <= TCP_ACK_NOT_SYN) ||
                    (defect >= TCP_SYN_CHANGES && defect <= TCP_DATA_AFTER_FIN);
    if (!defect || is_lease) lease();
    if (!is_lease) {
        /* Who has asked is known, and not asked for: to be seen replying it has to be silent before. */
        int is_asked = defect == ARP_NOT_EXCHANGED || defect == ARP_OPERATION_SWAPPED || defect == ARP_SILENT ||
                       defect == ARP_HARDWARE_EXCHANGED || defect == ARP_KIND_SWAPPED;
        for (int turn = is_asked ? 2 : defect == ARP_TWO_ADDRESSES ? 0 : 1; turn < 2; turn++) {
            send_arp(1, all, defect == ARP_OFF_LINK ? (uint8_t[4]){192, 0, 2, 1}
                             : defect == ARP_TARGET_REVERSED ? (uint8_t[4]){2, 2, 0, 10} : host);
            serve(now() + 3000, -1);
        }
        if (!defect || is_large) ping(is_large ? 1200 : 56);
        if (!defect || is_name) ask_name();
        if (!defect || is_stream) connect_to_host();
    }
    puts("ready");
    fflush(stdout);
    is_awaited = 1;
    serve(now() + 600000, 0);
    is_awaited = 0;
    char line[80];
    if (!fgets(line, sizeof line, stdin)) return 1;
    serve(now() + atoi(argument[2]), 0);
    return 0;
}
