/* A guest for a PC whose console is like that of an embedded system's shell with VT100: a prompt in colours, characters
 * that are put in with escapes around them, and log lines that come at any moment, for which the line that is being
 * typed is erased and drawn again. "fault" and "restart" reset it, "stop" ends it. Multiboot, no C library. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

__asm__(".text\n .long 0x1badb002, 0, -0x1badb002\n");

enum { COM1 = 0x3f8, STATUS = COM1 + 5, CAN_READ = 1, CAN_WRITE = 0x20, ACPI_TIMER = 0x608, A_SECOND = 3579545 };

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static char line[512];
static u32 length, logged, since;

static void put(char one) {
  while (!(in8(STATUS) & CAN_WRITE)) {}
  out8(COM1, (u8)one);
}

static void say(const char *text) { while (*text) put(*text++); }

static int is(const char *word) {
  u32 at = 0;
  while (word[at] && word[at] == line[at]) at++;
  return !word[at] && (!line[at] || line[at] == ' ');
}

static void prompt(void) { say("\x1b[1;32muart:~$ \x1b[m"); }

/* A line of the log: what is being typed is taken from the screen, and drawn again below it. */
static void tell(const char *text) {
  say("\x1b[8D\x1b[J\x1b[1;33m[00:00:01.000,000] <wrn> ");
  say(text);
  say("\x1b[0m\r\n");
  prompt();
  say(line);
}

static u8 get(void) {
  while (!(in8(STATUS) & CAN_READ)) {
    if (logged == 1 && ((in32(ACPI_TIMER) - since) & 0xffffff) > 3 * A_SECOND) {  /* the answer to the command is long back */
      logged = 0;
      tell("net_if: a link came up");
    }
  }
  return in8(COM1);
}

static void read_line(void) {
  for (length = 0, line[0] = 0;;) {
    u8 key = get();
    if (key == '\r' || key == '\n') break;
    if (key == 3) { length = 0; line[0] = 0; say("\r\n"); prompt(); continue; }
    if (key < ' ' || length >= sizeof line - 1) continue;
    line[length++] = (char)key;
    line[length] = 0;
    say("\x1b[4h");
    put((char)key);
    say("\x1b[4l");
    if (logged == 2 && length == 4) { logged = 0; tell("bt_hci: a line in the middle of another"); }
  }
  say("\r\n");
}

static void obey(void) {
  struct { u16 limit; u32 base; } __attribute__((packed)) none = {0, 0};
  if (!length) return;
  if (is("echo")) { say(line + (length > 5 ? 5 : length)); say("\r\n"); }
  else if (is("later")) { logged = 1; since = in32(ACPI_TIMER); }
  else if (is("amid")) logged = 2;
  else if (is("fault")) __asm__ volatile("lidt %0; int3" : : "m"(none));
  else if (is("restart")) { out8(0x64, 0xfe); for (;;) {} }
  else if (is("stop")) { out16(0x604, 0x2000); for (;;) {} }
  else { say("\x1b[1;31m"); say(line); say(": command not found\x1b[0m\r\n"); }
}

void start(void) {
  say("\r\n*** Booting ***\r\n");
  for (;;) { prompt(); read_line(); obey(); }
}

__asm__(".globl _start\n_start: mov $stack_top, %esp\n call start\n .bss\n .align 16\n .skip 8192\nstack_top:\n .text\n");
