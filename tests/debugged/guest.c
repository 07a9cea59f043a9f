/* A kernel for a debugger to look into: a console, a network card, a stack of a few lines with planted defects.

   It runs from RAM of QEMU's machines virt (riscv64, aarch64, arm) and microvm (x86_64, i386), polls, and has no
   interrupts. Commands on its console: "send" (a datagram goes out), "sum" (some arithmetic), "say" (a line), "work" (a
   RISC-V's other processors do some), and those that end badly: "load", "store", "jump", "deep", "undefined", "odd" (not
   on an x86, which bears that). An x86 has no handler for any exception, but for page faults from "handle" on; a
   RISC-V's says nothing before that; others' stand still. From "astray" on handlers are where nothing is. Its card is of
   virtio's old kind (Virtual I/O Device Version 1.2, 4.2.4). */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long word;

#if defined(__riscv)
#define UNDEFINED "unimp"
#define HANDLERS_AT "csrw mtvec, %0"
#define UART ((volatile u8 *)0x10000000)
#define CARDS 0x10001000ul
#define CARD_STEP 0x1000
#define CARD_COUNT 8
#elif defined(__x86_64__) || defined(__i386__)
#define X86
#define UNDEFINED "ud2"
#define CARDS 0xfeb00000ul
#define CARD_STEP 0x200
#define CARD_COUNT 24
#else
#if defined(__aarch64__)
#define UNDEFINED ".inst 0"
#define HANDLERS_AT "msr vbar_el1, %0"
#else
#define UNDEFINED "udf #0"
#define HANDLERS_AT "mcr p15, 0, %0, c12, c0, 0"
#endif
#define UART ((volatile u32 *)0x09000000)
#define CARDS 0x0a000000ul
#define CARD_STEP 0x200
#define CARD_COUNT 32
#endif

#define PAGE 4096
#define RING 8
#define HEAD 10 /* struct virtio_net_hdr, without num_buffers */

/* ------------------------------------------------------------------ console */

#if defined(X86)
static u8 in_byte(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static void out_byte(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void put(char c) {
    while (!(in_byte(0x3fd) & 0x20)) {}
    out_byte(0x3f8, c);
}
static int get(void) { return in_byte(0x3fd) & 1 ? in_byte(0x3f8) : -1; }
#elif defined(__riscv)
static void put(char c) {
    while (!(UART[5] & 0x20)) {}
    UART[0] = c;
}
static int get(void) { return UART[5] & 1 ? UART[0] : -1; }
#else
static void put(char c) {
    while (UART[6] & 0x20) {}
    UART[0] = c;
}
static int get(void) { return UART[6] & 0x10 ? -1 : (int)(UART[0] & 0xff); }
#endif

static void say(const char *text) {
    for (; *text; text++) {
        if (*text == '\n') put('\r');
        put(*text);
    }
}

static int same(const char *a, const char *b) {
    while (*a && *a == *b) { a++; b++; }
    return *a == *b;
}

void *memset(void *to, int value, word count) {
    for (u8 *byte = to; count--; byte++) *byte = value;
    return to;
}

void *memcpy(void *to, const void *from, word count) {
    u8 *byte = to;
    for (const u8 *source = from; count--;) *byte++ = *source++;
    return to;
}

#if defined(__arm__) /* what compilers call by names of their own (Run-time ABI for the Arm Architecture, 5.3.4) */
void __aeabi_memclr4(void *to, word count) { memset(to, 0, count); }
void __aeabi_memcpy4(void *to, const void *from, word count) { memcpy(to, from, count); }
#endif

/* ------------------------------------------------------------------ card */

struct descriptor { u32 address, address_high, length; u16 flags, next; };
struct available { u16 flags, index, ring[RING]; };
struct used { u16 flags, index; struct { u32 id, length; } ring[RING]; };
struct queue {
    struct descriptor descriptors[RING];
    struct available available;
    struct used used __attribute__((aligned(PAGE)));
} __attribute__((aligned(PAGE)));

static struct queue receiving, sending;
static u8 received[RING][2048], outgoing[2048];
static volatile u32 *card;
static u16 seen;
static const u8 own[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

static void start_queue(u32 number, struct queue *queue) {
    card[0x30 / 4] = number;
    card[0x38 / 4] = RING;
    card[0x3c / 4] = PAGE;
    card[0x40 / 4] = (word)queue / PAGE;
}

static void start_card(void) {
    for (int number = 0; number < CARD_COUNT && !card; number++) {
        volatile u32 *found = (volatile u32 *)(CARDS + number * CARD_STEP);
        if (found[0] == 0x74726976 && found[2] == 1) card = found;
    }
    if (!card) return;
    card[0x70 / 4] = 0;
    card[0x70 / 4] = 3;
    card[0x20 / 4] = 0;
    card[0x28 / 4] = PAGE;
    start_queue(0, &receiving);
    start_queue(1, &sending);
    for (u16 number = 0; number < RING; number++) {
        receiving.descriptors[number] = (struct descriptor){(u32)(word)received[number], 0, 2048, 2, 0};
        receiving.available.ring[number] = number;
    }
    receiving.available.index = RING;
    card[0x70 / 4] = 7;
    card[0x50 / 4] = 0;
}

/* The frame is on the wire, or given up, when this returns. */
void card_transmit(const u8 *frame, u32 length) {
    if (!card) return;
    memset(outgoing, 0, HEAD);
    memcpy(outgoing + HEAD, frame, length);
    sending.descriptors[0] = (struct descriptor){(u32)(word)outgoing, 0, HEAD + length, 0, 0};
    sending.available.ring[sending.available.index % RING] = 0;
    __sync_synchronize();
    sending.available.index++;
    __sync_synchronize();
    card[0x50 / 4] = 1;
    for (u32 patience = 0; patience < 100000000; patience++)
        if (*(volatile u16 *)&sending.used.index == sending.available.index) return;
}

/* ------------------------------------------------------------------ stack */

struct packet {
    u8 bytes[128];
    u32 length;
    const char *why;
};

static u32 packets_sent;
u32 packets_received;

static u16 checksum(const u8 *data, u32 length) {
    u32 sum = 0;
    for (u32 at = 0; at < length; at += 2) sum += data[at] << 8 | data[at + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static void put16(u8 *to, u16 value) { to[0] = value >> 8; to[1] = value; }

static void set_time_to_live(u8 *header) { header[8] = 7; /* planted: who wrote this byte? */ }

static void ip_output(struct packet *packet, u8 protocol) {
    static const u8 addresses[8] = {10, 0, 2, 15, 10, 0, 2, 2};
    u8 *header = packet->bytes + 14;
    header[0] = 0x45;
    put16(header + 2, packet->length - 14);
    header[8] = 64;
    header[9] = protocol;
    memcpy(header + 12, addresses, 8);
    set_time_to_live(header);
    put16(header + 10, checksum(header, 20));
    memset(packet->bytes, 0xff, 6);
    memcpy(packet->bytes + 6, own, 6);
    put16(packet->bytes + 12, 0x0800);
    card_transmit(packet->bytes, packet->length);
    packets_sent++;
}

static void udp_output(struct packet *packet, u16 port, const char *text) {
    u8 *header = packet->bytes + 34;
    u32 length = 0;
    while (text[length]) { header[8 + length] = text[length]; length++; }
    put16(header, 9);
    put16(header + 2, port);
    put16(header + 4, 8 + length);
    packet->length = 42 + length;
    ip_output(packet, 17);
}

void send_hello(void) {
    struct packet packet = {.why = "hello"};
    udp_output(&packet, 7777, "hello");
}

/* A frame has come. */
void card_receive(const u8 *frame, u32 length) {
    packets_received++;
    if (length > 20 && frame[12] == 8 && frame[13] == 6) say("[arp]\n");
}

static void poll_card(void) {
    while (card && *(volatile u16 *)&receiving.used.index != seen) {
        u32 id = receiving.used.ring[seen % RING].id;
        card_receive(received[id] + HEAD, receiving.used.ring[seen % RING].length - HEAD);
        receiving.available.ring[receiving.available.index % RING] = id;
        __sync_synchronize();
        receiving.available.index++;
        seen++;
        card[0x50 / 4] = 0;
    }
}

/* ------------------------------------------------------------------ commands */

static int add(int a, int b) {
    int sum = a + b;
    return sum;
}

static int sum_up(int count) {
    int total = 0;
    for (int each = 1; each <= count; each++) total = add(total, each);
    return total;
}

static word deeper(word depth) {
    volatile u8 room[512];
    room[0] = depth;
    return deeper(depth + 1) + room[0];
}

#ifdef CALLED
void CALLED(void);
#endif

#ifdef X86
struct gate { u16 low, selector, kind, middle; u32 rest[sizeof(word) / 4 - 1 ? 2 : 0]; };
static struct gate gates[15] __attribute__((aligned(8)));
extern char on_page_fault[];

void page_fault(void) {
    say("panic: a page fault\n");
    for (;;) __asm__ volatile("hlt");
}

static void handle(void) {
    struct { u16 limit; word base; } __attribute__((packed)) table = {sizeof gates - 1, (word)gates};
    gates[14] = (struct gate){(u16)(word)on_page_fault, 8, 0x8e00, (word)on_page_fault >> 16};
    __asm__ volatile("lidt %0" : : "m"(table));
}
#else
static void have_handlers_at(word at) { __asm__ volatile(HANDLERS_AT : : "r"(at)); }
#endif

#ifdef __riscv
static void __attribute__((aligned(4))) on_fault(void) {
    say("panic: a fault\n");
    for (;;) {}
}

static void handle(void) { have_handlers_at((word)on_fault); }
#endif

#ifdef __riscv
/* The other processors: each sleeps until the first one interrupts it (QEMU's CLINT), works, and sleeps again. */
#define PROCESSORS 4
#define ROUNDS 100
#define INTERRUPTS ((volatile u32 *)0x02000000)
static volatile u32 sleeps[PROCESSORS], worked[PROCESSORS];

static void work(word number) { worked[number]++; }

void other_processor(word number) {
    __asm__ volatile("csrw mie, %0" : : "r"(8));
    for (;;) {
        sleeps[number] = 1;
        while (!INTERRUPTS[number]) __asm__ volatile("wfi");
        INTERRUPTS[number] = 0;
        for (u32 round = 0; round < ROUNDS; round++) work(number);
    }
}

static void have_all_work(void) {
    word woken = 0;
    for (word number = 1; number < PROCESSORS; number++) {
        if (!sleeps[number]) continue;
        sleeps[number] = 0;
        woken |= 1 << number;
        __sync_synchronize();
        INTERRUPTS[number] = 1;
    }
    for (word number = 1; number < PROCESSORS; number++)
        while (woken >> number & 1 && !sleeps[number]) {}
    say("all have worked\n");
}
#endif

static void run(const char *command) {
    if (same(command, "send")) send_hello();
    else if (same(command, "sum")) say(sum_up(5) == 15 ? "15\n" : "wrong\n"); /* adds */
    else if (same(command, "say")) say("a line\n");
#ifdef CALLED /* a function of another file */
    else if (same(command, "call")) CALLED();
#endif
    else if (same(command, "load")) say(*(const char **)0xdead00000ul);
    else if (same(command, "store")) *(volatile u32 *)0xdead00004ul = 1;
    else if (same(command, "jump")) ((void (*)(void))0xdead00008ul)();
    else if (same(command, "deep")) deeper(0);
    else if (same(command, "undefined")) __asm__ volatile(UNDEFINED); /* planted */
    else if (same(command, "odd")) __atomic_fetch_add((u32 *)((word)outgoing + 1), 1, __ATOMIC_SEQ_CST);
#if defined(X86) || defined(__riscv)
    else if (same(command, "handle")) handle();
#endif
#ifndef X86
    else if (same(command, "astray")) have_handlers_at(0xdead0000ul);
#endif
#ifdef __riscv
    else if (same(command, "work")) have_all_work();
#endif
}

void kernel(void) {
    char line[64];
    u32 length = 0;
    start_card();
    say("a kernel to look into\n> ");
    for (;;) {
        poll_card();
        int c = get();
        if (c < 0) continue;
        put(c);
        if (c != '\r' && c != '\n') {
            if (length < sizeof line - 1) line[length++] = c;
            continue;
        }
        put('\n');
        line[length] = 0;
        length = 0;
        run(line);
        say("> ");
    }
}
