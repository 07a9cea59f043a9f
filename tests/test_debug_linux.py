"""A driver of Linux's is found by its types, and the frame in the members of what it is given."""

from __future__ import annotations

import anyio

from debugged import project
from support import PATIENCE, Account, serving
from test_debug import boot, debug, found, goes_on

_LINUX = """
typedef int netdev_tx_t;
typedef unsigned short __be16;
struct net_device { char name[16]; };
struct sk_buff {
    void *next, *prev;
    struct { int a, b; };
    char cb[48];
    MEMBERS
    unsigned char *head, *data;
    unsigned len;
};
static unsigned char room[128] = {[64] = 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
static struct net_device eth0 = {"eth0"};
netdev_tx_t loopback_xmit(struct sk_buff *skb, struct net_device *dev) { return skb->len + dev->name[0]; }
netdev_tx_t start_xmit(struct sk_buff *skb, struct net_device *dev) { return skb->len + dev->name[0]; }
__be16 eth_type_trans(struct sk_buff *skb, struct net_device *dev) { return skb->data[12] + dev->name[0]; }
void forward(void) {
    struct sk_buff skb = {.head = room, .data = room + 64, .len = 42};
    loopback_xmit(&skb, &eth0);
    start_xmit(&skb, &eth0);
    eth_type_trans(&skb, &eth0);
}
""".replace("MEMBERS", " ".join(f"unsigned m{number};" for number in range(30)))


def test_a_driver_of_linux_is_known_by_its_types(user: Account) -> None:
    root = user.home / "looked-into"
    root.mkdir()
    (root / "driver.c").write_text(_LINUX)
    project(user, "riscv64", "driver.c", "-DCALLED=forward")

    async def scenario() -> None:
        async with serving(user) as session:
            await boot(session, root)
            await debug(session, "attach")
            for on, name in (("transmit", "start_xmit"), ("receive", "eth_type_trans")):
                await debug(session, "delete")
                assert f"{name} (driver.c:" in (await found(session, "break", on=on, filter="arp"))[0]
                await goes_on(session)
                await session.call("qemu_send", command="call", timeout=PATIENCE)
                told = await debug(session, "where")
                assert told["place"].startswith(f"{name} (driver.c:")
                assert told["packets"].startswith("in memory: skb->data at 0x80")
                assert ", 42 bytes: " in told["packets"]
                await debug(session, "continue", timeout=0)
                await session.until_said("> call\n> ", read=lambda text: text.replace("\n\n", "\n"))

    anyio.run(scenario)
