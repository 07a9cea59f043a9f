/* A resolver that keeps the rules, but for a defect by number, in a Linux guest.
 *
 *     resolver NUMBER SERVER
 *
 * It asks that name server for one name after the other, and sends a datagram to each address that it is told. It says
 * "ready", and ends when it is given a line.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum defect {
    NONE,
    QUERY_IS_RESPONSE, CLASS_SWAPPED, NO_RECURSION, NAME_WITH_DOTS, NUMBER_FIXED,
    NUMBER_COUNTED, PORT_FIXED, ASKS_ONCE, ASKS_FAST, ASKS_FOR_EVER,
    ANY_NUMBER, ANY_ADDRESS, ANY_PORT, ANY_QUESTION, ANY_MESSAGE,
    NO_POINTERS, EXACT_LETTERS, NO_ALIAS, NO_UNKNOWN, NO_ZERO_TTL,
    NO_TCP, TAKES_CUT, NAME_ERROR_AGAIN, FAILURE_AGAIN, FOLLOWS_EVERYWHERE,
    LABELS_BEYOND, DATA_BEYOND, COUNTS_BEYOND, CUT_BEYOND, ANY_TYPE,
    ALIASES_FOR_EVER,
};
enum came { NOTHING, ADDRESS, NO_NAME, FAILURE, CUT, UNREADABLE };

static int defect;
static struct sockaddr_in server = {.sin_family = AF_INET};
static uint8_t query[512], address[4];
static int query_size, has_ended;

static void put16(uint8_t *at, unsigned value) { at[0] = value >> 8; at[1] = value; }
static unsigned get16(const uint8_t *at) { return at[0] << 8 | at[1]; }

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void dies(int of, int is_so) {
    if (is_so && defect == of) abort();
}

/* --------------------------------------------------------------- The query */

static void make_query(int number) {
    static uint16_t id = 0x1200;
    char name[64];
    memset(query, 0, sizeof query);
    if (defect == NUMBER_COUNTED) id++;
    else if (defect != NUMBER_FIXED) getrandom(&id, sizeof id, 0);
    put16(query, id);
    put16(query + 2, (defect == NO_RECURSION ? 0 : 0x0100) | (defect == QUERY_IS_RESPONSE ? 0x8000 : 0));
    put16(query + 4, 1);
    int size = snprintf(name, sizeof name, "n%d.Host.test", number), at = 12;
    if (defect == NAME_WITH_DOTS) {
        memcpy(query + at, name, size);
        at += size;
    } else for (char *label = strtok(name, "."); label; label = strtok(0, ".")) {
        query[at++] = strlen(label);
        memcpy(query + at, label, strlen(label));
        at += strlen(label);
    }
    put16(query + at + 1, 1);
    put16(query + at + 3, defect == CLASS_SWAPPED ? 256 : 1);
    query_size = at + 5;
}

/* -------------------------------------------------------------- The answer */

/* The name at `at` as text of labels, each with a dot; where it ends, or -1. */
static int read_name(const uint8_t *data, int size, int at, char *text) {
    int end = 0, used = 0;
    for (int steps = 0; ; steps++) {
        if (steps > 128 && defect != FOLLOWS_EVERYWHERE) return -1;
        if (at >= size) return -1;
        int length = data[at];
        if (length >= 0xc0) {
            if (at + 2 > size || defect == NO_POINTERS) return -1;
            if (!end) end = at + 2;
            at = get16(data + at) & 0x3fff;
            continue;
        }
        if (!length) break;
        dies(LABELS_BEYOND, at + 1 + length > size);
        if (length > 63 || at + 1 + length > size || used + length + 1 > 255) return -1;
        memcpy(text + used, data + at + 1, length);
        used += length;
        text[used++] = '.';
        at += 1 + length;
    }
    text[used] = 0;
    return end ? end : at + 1;
}

static int is_same(const char *one, const char *other) {
    return defect == EXACT_LETTERS ? !strcmp(one, other) : !strcasecmp(one, other);
}

static enum came read_records(const uint8_t *data, int size) {
    static char asked[256], wanted[256], owner[256];
    int questions = get16(data + 4), records = get16(data + 6), at = read_name(data, size, 12, asked);
    dies(COUNTS_BEYOND, questions > 1 || records > 100);
    if (questions != 1 || at < 0 || at + 4 > size) return UNREADABLE;
    int first = at += 4;
    strcpy(wanted, asked);
    for (int number = 0; number < records; number++) {
        at = read_name(data, size, at, owner);
        if (at < 0 || at + 10 > size) return UNREADABLE;
        int type = get16(data + at), ttl = get16(data + at + 4) | get16(data + at + 6), length = get16(data + at + 8);
        at += 10;
        dies(DATA_BEYOND, at + length > size);
        if (at + length > size) return UNREADABLE;
        if (type != 1 && type != 5 && defect == NO_UNKNOWN) return UNREADABLE;
        int is_alias = is_same(owner, wanted) && type == 5 && defect != NO_ALIAS;
        if (is_alias && read_name(data, size, at, wanted) < 0) return UNREADABLE;
        if (is_same(owner, wanted) && type == 1 && length == 4 && (ttl || defect != NO_ZERO_TTL)) {
            memcpy(address, data + at, 4);
            return ADDRESS;
        }
        at += length;
        if (is_alias && defect == ALIASES_FOR_EVER) number = -1, at = first;  /* records may be in any order */
    }
    return NO_NAME;
}

static enum came read_answer(const uint8_t *data, int size, const struct sockaddr_in *from) {
    dies(CUT_BEYOND, size < 12);
    if (from->sin_addr.s_addr != server.sin_addr.s_addr && defect != ANY_ADDRESS) return NOTHING;
    if (size < 12) return NOTHING;
    if (get16(data) != get16(query) && defect != ANY_NUMBER) return NOTHING;
    if (!(data[2] & 0x80) && defect != ANY_MESSAGE) return NOTHING;
    int compared = query_size - (defect == ANY_TYPE ? 4 : 0);
    int is_asked = size >= query_size && !memcmp(data + 12, query + 12, compared - 12);
    if (data[3] == 0x83) return NO_NAME;
    if (data[3] == 0x82) return FAILURE;
    if (data[2] & 2 && defect != TAKES_CUT) return CUT;
    enum came came = read_records(data, size);
    return is_asked || defect == ANY_QUESTION ? came : NOTHING;
}

/* ------------------------------------------------------------------- Asking */

static void ask_by_tcp(void) {
    struct timeval patience = {2, 0};
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(stream, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    connect(stream, (struct sockaddr *)&server, sizeof server);  /* nobody listens there: to ask is enough */
    close(stream);
}

/* What comes within so many milliseconds. An answer that cannot be read is passed over, as if it had not come. */
static enum came wait_for_answer(int card, int beside, int milliseconds) {
    static uint8_t data[2000];
    for (long until = now() + milliseconds; now() < until && !has_ended;) {
        struct pollfd waiting[3] = {{card, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}, {beside, POLLIN, 0}};
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        if (poll(waiting, 3, until - now() > 0 ? until - now() : 0) < 1) break;
        if (waiting[1].revents) has_ended = 1;
        if (!waiting[0].revents && !waiting[2].revents) continue;
        int got = recvfrom(waiting[2].revents ? beside : card, data, sizeof data, 0, (struct sockaddr *)&from, &size);
        enum came came = got < 0 ? NOTHING : read_answer(data, got, &from);
        if (came != NOTHING && came != UNREADABLE) return came;
    }
    return NOTHING;
}

/* With a defect it hears at the next port as well; -1 without. */
static int ear_beside(int card) {
    struct sockaddr_in own;
    socklen_t size = sizeof own;
    if (defect != ANY_PORT) return -1;
    int next = socket(AF_INET, SOCK_DGRAM, 0);
    getsockname(card, (struct sockaddr *)&own, &size);
    own.sin_port = htons(ntohs(own.sin_port) + 1);
    if (bind(next, (struct sockaddr *)&own, sizeof own)) perror("bind"), exit(1);
    return next;
}

static void resolve(int number) {
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(defect == PORT_FIXED ? 5353 : 0)};
    int card = socket(AF_INET, SOCK_DGRAM, 0), failures = 0, most = defect == ASKS_ONCE ? 1 : 3;
    if (bind(card, (struct sockaddr *)&own, sizeof own)) perror("bind"), exit(1);
    int beside = ear_beside(card);
    make_query(number);
    for (int tries = 0; (tries < most || defect == ASKS_FOR_EVER) && !has_ended; tries++) {
        sendto(card, query, query_size, 0, (struct sockaddr *)&server, sizeof server);
        enum came came = wait_for_answer(card, beside, defect == ASKS_FAST ? 300 : 1500);
        if (came == ADDRESS) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
            memcpy(&to.sin_addr, address, 4);
            sendto(card, "hello", 5, 0, (struct sockaddr *)&to, sizeof to);
        }
        if (came == CUT && defect != NO_TCP) ask_by_tcp();
        if (came == NO_NAME && defect == NAME_ERROR_AGAIN) tries = 0;
        else if (came == FAILURE) tries = defect == FAILURE_AGAIN || failures++ < 3 ? 0 : most;
        else if (came != NOTHING) break;
    }
    if (!has_ended) wait_for_answer(card, beside, 300);
    if (beside >= 0) close(beside);
    close(card);
}

int main(int arguments, char **argument) {
    if (arguments != 3) return 2;
    defect = atoi(argument[1]);
    server.sin_port = htons(53);
    if (!inet_aton(argument[2], &server.sin_addr)) return 2;
    puts("ready");
    fflush(stdout);
    for (int number = 1; !has_ended; number++) resolve(number);
    return 0;
}
