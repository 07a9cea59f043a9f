"""A QEMU line becomes a profile, or says what of it does not: nothing of it is passed on unread."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawtap.errors import ProfileInvalid, RequestInvalid
from rawtap.guest.choosing import as_toml, chosen
from rawtap.guest.devices import board
from rawtap.guest.profile import MachineSpec
from rawtap.guest.qemu_line import Line, read


def table_of(line: str) -> dict[str, Any]:
    """What a line says, carried whole, as the file that it can be kept in; it is a valid profile."""
    found = read(line)
    assert found.left == ()
    chosen(Path("/"), None, found, {})
    return tomllib.loads(as_toml(found.table))


def left_of(line: str) -> str:
    return "; ".join(read(line).left)


def test_a_teaching_kernel_of_risc_v_is_carried_with_its_place_and_its_default() -> None:
    line = (
        "qemu-system-riscv64 -machine virt -bios none -kernel kernel/kernel -m 128M -smp 3 -nographic "
        "-global virtio-mmio.force-legacy=false -drive file=fs.img,if=none,format=raw,id=x0 "
        "-device virtio-blk-device,drive=x0,bus=virtio-mmio-bus.0 "
        "-netdev user,id=net0,hostfwd=udp::26999-:2000 -object filter-dump,id=net0,netdev=net0,file=packets.pcap "
        "-device e1000,netdev=net0,bus=pcie.0"
    )
    found = read(line)
    assert found.network
    assert found.dumped
    assert found.left == ()
    assert found.table == {
        "arch": "riscv64",
        "machine": "virt",
        "bios": "none",
        "kernel": "kernel/kernel",
        "memory": "128M",
        "smp": 3,
        "globals": {"virtio-mmio.force-legacy": False},
        "bus": "mmio",
        "nic": "e1000",
        "mac": "52:54:00:12:34:56",
        "nic_options": {"bus": "pcie.0"},
        "drives": [{"path": "fs.img", "interface": "virtio", "format": "raw", "options": {"bus": "virtio-mmio-bus.0"}}],
    }


def test_ide_drives_are_in_the_order_of_their_numbers_and_a_pc_has_its_screen() -> None:
    line = (
        "qemu-system-i386 -serial mon:stdio -drive file=fs.img,index=1,media=disk,format=raw "
        "-drive file=xv6.img,index=0,media=disk,format=raw -smp 2 -m 512"
    )
    said = table_of(line)
    assert [each["path"] for each in said["drives"]] == ["xv6.img", "fs.img"]
    assert (said["screen"], said["nic"], said["machine"]) == ("VGA", "e1000", "pc")
    assert table_of(line.replace("-serial mon:stdio", "-nographic"))["machine"] == "pc,graphics=off"


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("-M q35,accel=kvm:tcg,smm=off", "machine", "q35,smm=off"),
        ("-machine type=q35", "machine", "q35"),
        ("-usb", "machine", "pc,usb=on"),
        ("-cpu qemu64,+avx,-sse", "cpu", "qemu64,+avx,-sse"),
        ("-cpu host", "cpu", "max"),
        ("-m size=1g", "memory", "1G"),
        ("-m 1.5G", "memory", "1536M"),
        ("-smp cpus=4,cores=2,threads=2", "topology", {"cores": 2, "threads": 2}),
        ("-smp 4,maxcpus=4", "smp", 4),
        ("--append 'root=/dev/sda console=ttyS0'", "bootargs", "root=/dev/sda console=ttyS0"),
        ("-initrd initrd.gz", "initrd", "initrd.gz"),
        ("-bios OVMF.fd", "firmware", "OVMF.fd"),
        ("-boot d", "boot", "d"),
        ("-boot order=nc", "boot", "nc"),
        ("-icount shift=7,align=off,sleep=on", "icount", 7),
        ("-net nic -net user,hostfwd=tcp::1-:2,restrict=on", "nic", "e1000"),
        ("-device virtio-net-pci,mq=on,vectors=4,speed=100,romfile=", "nic_options",
         {"mq": True, "vectors": 4, "speed": 100}),
        ("-device virtio-rng-pci,max-bytes=1024,period=1000", "devices", [
            {"driver": "virtio-rng-pci", "max-bytes": 1024, "period": 1000}]),
        ("-parallel none -d cpu_reset", "smp", 0),
        ("-snapshot", "overlay", True),
        ("-no-reboot", "on_reset", "stop"),
        ("-rtc base=localtime", "rtc", "localtime"),
        ("-icount shift=7", "icount", 7),
        ("-dtb a.dtb", "dtb", "a.dtb"),
        ("-serial null -serial stdio", "console", "serial1"),
        ("-debugcon stdio", "console", "debugcon"),
        ("-nic user,model=rtl8139,mac=52:54:00:12:34:56", "mac", "52:54:00:12:34:56"),
        ("-net nic,model=ne2k_pci -net user", "nic", "ne2k_pci"),
        ("-device virtio-net-pci,netdev=n -netdev user,id=n", "nic", "virtio-net"),
        ("-netdev user,id=n,tftp=boot,bootfile=/a.0 -device e1000,netdev=n", "tftp", "boot"),
        ("-device isa-debug-exit,iobase=0xf4,iosize=0x04", "devices", [
            {"driver": "isa-debug-exit", "iobase": "0xf4", "iosize": "0x04"}]),
        ('-device \'{"driver":"isa-debug-exit","iobase":244}\'', "devices", [
            {"driver": "isa-debug-exit", "iobase": 244}]),
        ("-usbdevice tablet", "devices", [{"driver": "usb-tablet"}]),
        ("-device loader,file=a.bin,addr=0x80000000,cpu-num=0", "loaders", [
            {"path": "a.bin", "address": 0x80000000, "cpu": 0}]),
        ("-fw_cfg name=opt/a,string=b", "fw_cfg", [{"name": "opt/a", "text": "b"}]),
        ("-virtfs local,path=src,mount_tag=host,security_model=none", "shares", [{"path": "src", "tag": "host"}]),
        ("-global driver=cfi.pflash01,property=secure,value=on", "globals", {"cfi.pflash01.secure": True}),
        ("-vga none", "screen", "none"),
    ],
)  # fmt: skip
def test_an_option_is_carried_in_a_profiles_own_words(words: str, key: str, value: object) -> None:
    assert table_of(f"qemu-system-x86_64 -kernel k {words}")[key] == value


@pytest.mark.parametrize(
    ("words", "drive"),
    [
        ("-hda a.img", {"path": "a.img", "interface": "ide"}),
        ("a.img", {"path": "a.img", "interface": "ide"}),
        ("-hdb a.qcow2", {"path": "a.qcow2", "interface": "ide", "format": "qcow2",
                          "options": {"bus": "ide.0", "unit": 1}}),
        ("-cdrom a.iso", {"path": "a.iso", "interface": "ide", "media": "cdrom",
                          "options": {"bus": "ide.1", "unit": 0}}),
        ("-fda a.img", {"path": "a.img", "interface": "floppy"}),
        ("-pflash a.fd", {"path": "a.fd", "interface": "pflash"}),
        ("-drive if=pflash,format=raw,readonly=on,file=a.fd",
         {"path": "a.fd", "interface": "pflash", "format": "raw", "readonly": True}),
        ("-drive file=a.img,if=virtio,format=raw,cache=none,snapshot=on",
         {"path": "a.img", "interface": "virtio", "format": "raw", "overlay": True}),
        ("-drive id=d,file=a.img,format=raw,if=none -device nvme,drive=d,serial=x",
         {"path": "a.img", "interface": "nvme", "format": "raw", "serial": "x"}),
        ("-drive id=d,file=a.img,format=raw,if=none -device ahci,id=ahci -device ide-hd,drive=d,bus=ahci.0",
         {"path": "a.img", "interface": "ide", "format": "raw", "options": {"bus": "ahci.0"}}),
        ("-drive id=d,file=a.img,format=raw,if=none -device usb-storage,drive=d",
         {"path": "a.img", "interface": "usb", "format": "raw"}),
        ("-drive id=d,file=a.iso,format=raw,if=none -device virtio-scsi-pci -device scsi-cd,drive=d",
         {"path": "a.iso", "interface": "scsi", "format": "raw", "media": "cdrom"}),
        ("-blockdev driver=file,filename=a.img,node-name=f -blockdev driver=raw,file=f,node-name=d "
         "-device virtio-blk-pci,drive=d", {"path": "a.img", "interface": "virtio", "format": "raw"}),
        ("-blockdev driver=file,filename=a.img,node-name=f,read-only=on -device virtio-blk-pci,drive=f",
         {"path": "a.img", "interface": "virtio", "format": "raw", "readonly": True}),
        ("-drive file=a.img,if=virtio,format=raw,readonly=true,snapshot=yes",
         {"path": "a.img", "interface": "virtio", "format": "raw", "readonly": True, "overlay": True}),
        ('-blockdev \'{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"a,b.img"}}\' '
         "-device virtio-blk-pci,drive=d", {"path": "a,b.img", "interface": "virtio", "format": "qcow2"}),
        ("-drive file=a,,b.img,if=virtio,format=raw", {"path": "a,b.img", "interface": "virtio", "format": "raw"}),
    ],
)  # fmt: skip
def test_a_drive_is_carried_with_what_the_guest_finds_it_on(words: str, drive: dict[str, Any]) -> None:
    assert table_of(f"qemu-system-x86_64 {words}")["drives"] == [drive]


@pytest.mark.parametrize(
    "words",
    [
        "-device vfio-pci,host=01:00.0",
        "-device usb-host,vendorid=1",
        "-device vhost-scsi-pci,wwpn=x",
        "-drive file=fat:rw:floppy:/etc,format=raw",
        "-drive file=nbd://elsewhere/x,format=raw",
        "-drive file=a.vmdk,format=vmdk",
        "-hda a.vmdk",
        "-drive file=a.vdi,if=virtio",
        "-machine memory-backend=m",
        "-object memory-backend-file,id=m,size=8M,mem-path=pages -numa node,memdev=m",
        "-incoming exec:reboot",
        "-plugin x.so",
        "-semihosting",
        "-D /etc/passwd -d exec",
        "-chardev-of-my-own x",
        "-netdev user,id=n,guestfwd=tcp:1.2.3.4:5-cmd:reboot",
        "-smbios type=1,serial=x",
        "-machine pc,dumpdtb=/tmp/x",
        "-global virtio-net-pci.romfile=/etc/passwd",
        "-device qemu-xhci,romfile=/etc/passwd",
        "-device virtio-net-pci,netdev=n,ebpf-rss-fds=3",
        "-device virtio-rng-pci,vhostfd=3",
        "-object memory-backend-file,id=m,size=1G,mem-path=/dev/shm/x",
        "-serial null " * 8 + "-serial tcp::4444,server",
        "-netdev user,id=n,smb=/etc",
    ],
)
def test_what_is_not_carried_is_named_with_its_reason_and_reaches_nothing(words: str) -> None:
    found = read(f"qemu-system-x86_64 -kernel k {words}")
    assert found.left
    assert all(": " in each for each in found.left)
    for word in ("/etc/passwd", "mem-path", "exec", "cmd", "elsewhere", "01:00", "fat:", "dumpdtb", "x.so"):
        assert word not in as_toml(found.table)
    chosen(Path("/"), None, found, {})


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("-g 1024x768x32", "-g 1024x768x32"),
        ("-no-fd-bootchk", "-no-fd-bootchk"),
        ("-icount shift=7,align=on", "-icount align=on"),
        ("-icount shift=7,sleep=off,rr=replay", "-icount sleep=off,rr=replay"),
        ("-boot order=c,menu=on", "-boot menu=on"),
        ("-rtc driftfix=slew", "-rtc driftfix=slew"),
        ("-parallel file:lp", "-parallel file:lp"),
        ("-smp 2,books=2", "-smp books=2"),
        ("-global x", "-global x"),
        ("-fw_cfg name=opt/a,gen_id=g", "-fw_cfg name=opt/a,gen_id=g"),
        ("-drive file=a,format=raw,if=ide,cyls=10", "-drive cyls=10"),
        ("-blockdev driver=file,filename=a,node-name=f,x-check=on -blockdev driver=raw,file=f,node-name=d "
         "-device virtio-blk-pci,drive=d", "-blockdev x-check=on"),
        ("-blockdev driver=raw,node-name=d,offset=512,file.driver=file,file.filename=a -device virtio-blk-pci,drive=d",
         "-blockdev offset=512"),
        ("-device VGA,vgamem_mb=64", "-device VGA vgamem_mb=64"),
        ("-L a -L b", "-L b"),
        ("-fsdev local,id=f,path=p,readonly=on -device virtio-9p-pci,fsdev=f,mount_tag=t,addr=3",
         "-device virtio-9p-pci addr=3"),
        ("-device vhost-vsock-pci,guest-cid=3,event_idx=off", "-device vhost-vsock-pci event_idx=off"),
        ("-device loader,file=f,data-len=4", "-device loader data-len=4"),
        ("-semihosting-config enable=on,userspace=on", "-semihosting-config userspace=on"),
        ("-net nic,vectors=3", "-net nic vectors=3"),
        ("-netdev user,id=n,hostfwd=tcp:[::1]:2222-:22", "hostfwd tcp:[::1]:2222-:22"),
        ('-netdev \'{"type":"user","id":"n","hostfwd":[{"str":"tcp::1-:2"}]}\'', "hostfwd [{'str'"),
        ("-device virtio-net-pci,romfile=x", "virtio-net,romfile=x"),
    ],
)  # fmt: skip
def test_no_key_of_an_option_is_dropped_without_a_word(words: str, named: str) -> None:
    found = read(f"qemu-system-aarch64 -M virt -kernel k {words}")
    assert [each.partition(": ")[0] for each in found.left] == [named]
    assert found.otherwise == ()
    chosen(Path("/"), None, found, {})


@pytest.mark.parametrize(
    ("words", "how"),
    [
        ("-S -s -S", "-S: the guest runs at once"),
        ("-d cpu_reset", "-d cpu_reset: resets are counted"),
        ("-d int", '-d int: qemu_debug(action="crash")'),
        ("-boot order=c,once=d", "-boot once=d: that order holds after a reset as well"),
        ("-virtfs local,path=p,mount_tag=t,security_model=none", "the shared folder p: the guest reads it"),
        ("-fsdev local,id=f,path=p -device virtio-9p-pci,fsdev=f,mount_tag=t", "the shared folder p: the guest reads"),
        (
            "-object memory-backend-memfd,id=m,size=8M,share=on -numa node,memdev=m",
            "-object memory-backend-memfd share",
        ),
        (
            "-machine memory-backend=m -object memory-backend-file,id=m,size=8M,mem-path=/dev/shm,share=on",
            "-object mem",
        ),
        ("-d guest_errors -D log", "-D log: QEMU's log is in `stderr`"),
        ("-hda fat:rw:folder", "-drive file=fat:rw:folder: what the guest writes does not get into the folder"),
        ("-hda fat:32:folder", "-drive file=fat:32:folder: its FAT has 16 bits"),
        ("-drive file.driver=vvfat,file.rw=on,file.dir=f", "-drive file=fat:rw:f: what the guest writes"),
        (
            "-netdev user,id=n,net=192.168.76.0/24,dhcpstart=192.168.76.9,ipv6=on -device e1000,netdev=n",
            "the network's net=192.168.76.0/24,dhcpstart=192.168.76.9: addresses",
        ),
        ("-nic user,restrict=on,hostname=h", "the network's restrict=on,hostname=h: addresses, names and what is "),
        ("-netdev socket,id=n,connect=:1 -device e1000,netdev=n", "the network socket: the card is on the bridge"),
    ],
)
def test_what_is_carried_another_way_is_told(words: str, how: str) -> None:
    found = read(f"qemu-system-x86_64 -kernel k {words}")
    assert found.left == ()
    assert [each.startswith(how) for each in found.otherwise] == [True]
    assert found.told() == (f"otherwise here: {found.otherwise[0]}",)


def test_drives_are_in_the_order_of_their_places_be_these_said_as_units_or_numbers() -> None:
    flash = table_of(
        "qemu-system-x86_64 -drive if=pflash,format=raw,unit=1,file=vars.fd "
        "-drive if=pflash,unit=0,format=raw,file=code.fd,readonly=on"
    )
    assert [each["path"] for each in flash["drives"]] == ["code.fd", "vars.fd"]
    by_bus = table_of("qemu-system-x86_64 -drive if=ide,bus=1,unit=1,file=b,format=raw -drive if=ide,file=a,format=raw")
    assert [(each["path"], each.get("options")) for each in by_bus["drives"]] == [
        ("a", None),
        ("b", {"bus": "ide.1", "unit": 1}),
    ]


ODD_NUMBERS = ["\u00b2", "\u0663", "1\u0663", "9" * 5000, "010", "08", "-1", "0x", "0x" + "f" * 40, "9" * 20, "", "1e9"]


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_a_number_is_read_as_qemu_reads_it_or_is_none(number: str) -> None:
    for words in (
        "-smp {}", "-smp cpus={},sockets={}", "-m {}G", "-m 1.{}G", "-m {}.5G", "-icount shift={}",
        "-drive file=x,index={}", "-drive file=fat:x,index={}", "-device loader,file=x,addr={},cpu-num={}",
        "-device e1000,bus={}", "-device virtio-rng-pci,addr={}", "-device ide-hd,drive=x,bus={}",
    ):  # fmt: skip
        read("qemu-system-i386 " + words.replace("{}", number))
    loader = read(f"qemu-system-i386 -device loader,file=x,addr={number}").table["loaders"][0]
    assert loader.get("address") == (8 if number == "010" else None)


def test_a_makefiles_words_around_it_are_passed_over() -> None:
    text = "gcc -o k k.c\nsudo timeout -s KILL 9 qemu-system-riscv64 -M virt \\\n  -kernel k 2>&1 | tee log\n"
    said = {"arch": "riscv64", "machine": "virt", "kernel": "k", "nic": "virtio-net", "memory": "", "smp": 0}
    assert table_of(text) == said | {"mac": "52:54:00:12:34:56"}  # what the line leaves to the machine is left to it


@pytest.mark.parametrize(
    "text",
    [
        "# runs it\n#qemu-system-arm -M none \\\n#  -S \\\nqemu-system-arm -M virt -kernel k -m 8",
        "qemu-system-arm -M virt \\\n -kernel k -m 8 \\\n # -S -s \\\n # -serial stdio \\\n",
        'qemu-system-arm -M virt -kernel k -m 8  # -S it\'s "not" read',
        "# qemu-system-arm -M virt -kernel k -m 8",
        "/* Run:\n *   qemu-system-arm -M virt \\\n *     -kernel k \\\n *  -m 8\n */",
        "Type `timeout 9 qemu-system-arm -M virt -kernel k -m 8` in there",
        "qemu-system-arm -M virt -m 8 > log -kernel k 2>&1 < /dev/null",
        "qemu-system-arm -M virt -kernel k -m 8 >log",
        "qemu-system-arm -M virt -kernel k -m 8 <<EOF\nroot\nEOF\n",
        'runner = "qemu-system-arm -M virt -kernel k -m 8"',
        "A='qemu-system-arm -M virt ' '-kernel k -m 8'",
        'Q="qemu-system-arm -M virt\n-kernel k -m 8"',
        'qemu-system-arm -M virt -kernel $(pwd)/k -m 8 "$@"',
        "for i in 1 2; do (qemu-system-arm -M virt -kernel ${PWD}/k -m 8 &) ; done",
        "qemu-system-arm -M virt -kernel k -m 8 &\nsleep 9\npkill qemu-system-arm",
        "if ! test -f k; then make; fi; qemu-system-arm -M virt -kernel k -m 8 || exit 1",
    ],
    ids=lambda text: text[:24],
)
def test_a_line_is_read_as_the_shell_has_it_or_as_its_author_shows_it(text: str) -> None:
    found = read(text)
    kernel = found.table.pop("kernel")
    assert kernel.removeprefix("./") == "k"
    said = {"arch": "arm", "machine": "virt", "nic": "virtio-net", "mac": "52:54:00:12:34:56", "memory": "8", "smp": 0}
    assert found.table == said
    assert found.told() == ()


def test_cards_get_the_addresses_that_qemu_would_give_them_in_their_order() -> None:
    def addresses(words: str) -> list[str]:
        table = table_of(f"qemu-system-x86_64 -kernel k {words}")
        return [each["mac"] for each in (table, *table.get("cards", ()))]

    first, second = "52:54:00:12:34:56", "52:54:00:12:34:57"
    assert addresses("") == [first]
    assert addresses("-net nic -net user") == [first]
    assert addresses("-nic user -nic user,mac=52:54:00:AA:00:01 -nic user") == [first, "52:54:00:AA:00:01", second]
    assert addresses(f"-nic user -device e1000,netdev=n,mac={first}") == [second, first]


def test_what_of_a_text_is_read_another_way_than_the_shell_does_is_told() -> None:
    apart = read("qemu-system-arm\n  -M virt \\\n  -kernel k\n  -m 8\necho -n done")
    assert (apart.table["machine"], apart.table["kernel"], apart.table["memory"]) == ("virt", "k", "8")
    assert [each.partition(",")[0] for each in apart.otherwise] == ["options on lines of their own"]
    several = read("qemu-system-arm -M virt $A\nqemu-system-arm -M virt -kernel k")
    assert several.otherwise == ("2 lines of it start an emulator: the last one is read",)


def test_an_option_that_lacks_its_value_or_that_nobody_knows_takes_no_other_one_along() -> None:
    assert read("qemu-system-arm -M virt -kernel").left == ("-kernel: no value comes after it",)
    found = read("qemu-system-arm --strange -M virt -odd -kernel k -new 3")
    assert (found.table["machine"], found.table["kernel"]) == ("virt", "k")
    assert [each.partition(":")[0] for each in found.left] == ["-strange", "-odd", "-new 3"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qemu-system-arm -kernel $1", "holds a variable"),
        ("echo hello", "no word like qemu-system-riscv64"),
        ("qemu-system-z80 -kernel k", "no emulator qemu-system-z80"),
        ("qemu-system-x86_64 -kernel 'k", "closing quotation"),
        ("qemu-system-x86_64 -kernel $(KERNEL)", "holds a variable"),
        ("qemu-system-x86_64 " + "-usb " * 4000, "more than 16384"),
        ("qemu-system-x86_64 -device '{\"driver\":'", "is no JSON"),
    ],
)
def test_what_is_no_line_is_refused_with_the_word_at_which_it_ends(text: str, words: str) -> None:
    with pytest.raises(RequestInvalid, match=words):
        read(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-serial stdio -serial pty", {"serial": ["serial0", "serial1"]}),
        ("-serial null -serial stdio -serial file:a", {"console": "serial1", "serial": ["", "serial1", "serial2"]}),
        ("-chardev pty,id=log -serial mon:stdio -serial chardev:log", {"serial": ["serial0", "log"]}),
        ("-chardev pty,id=debugcon -serial stdio -serial chardev:debugcon", {"serial": ["serial0", "serial1"]}),
        ("-serial stdio -debugcon file:a", {"debugcon": True}),
        ("-debugcon stdio -serial file:a", {"console": "debugcon", "serial": ["serial0"]}),
        ("-debugcon stdio", {"console": "debugcon"}),
        ("-serial stdio -serial null", {}),
        ("-serial stdio -device isa-debugcon,iobase=0x402,chardev=d -chardev pty,id=d",
         {"debugcon": True, "globals": {"isa-debugcon.iobase": "0x402"}}),
    ],
)  # fmt: skip
def test_each_port_that_goes_somewhere_is_a_console_with_a_name(words: str, said: dict[str, Any]) -> None:
    table = table_of(f"qemu-system-x86_64 -kernel k {words}")
    assert {key: table[key] for key in ("console", "serial", "debugcon", "globals") if key in table} == said


def test_what_is_let_past_takes_along_what_it_names() -> None:
    found = read(
        "qemu-system-i386 -chardev pty,id=c -device pci-serial,chardev=c -m 64 -smbios type=1 -usbdevice serial:x"
    )
    past = found.let_past()
    assert past.table["qemu_args"] == [
        "-chardev", "pty,id=c", "-device", "pci-serial,chardev=c", "-smbios", "type=1",
    ]  # fmt: skip
    assert [each.partition(":")[0] for each in past.left] == ["-usbdevice serial"]
    assert "qemu_args" not in found.table


def test_a_debuggers_stub_is_opened_where_the_line_opens_one() -> None:
    assert read("qemu-system-x86_64 -kernel k -s -S").gdb
    assert not read("qemu-system-x86_64 -kernel k -S").gdb


def test_overrides_win_over_the_line_and_the_line_over_the_projects_machine(tmp_path: Path) -> None:
    (tmp_path / "rawtap.toml").write_text('memory = "1G"\nprompt = "$ "\ncpu = "max"\n', encoding="utf-8")
    line = read("qemu-system-riscv64 -M virt -m 64M -kernel k")
    _, (profile, _) = chosen(tmp_path, None, line, {"smp": 4})
    assert (profile.memory, profile.prompt, profile.cpu, profile.smp) == ("64M", "$ ", None, 4)


def test_memory_and_processors_that_a_line_does_not_say_are_the_machines_own() -> None:
    line = read("qemu-system-arm -M mps2-an385 -kernel k")
    _, (profile, _) = chosen(Path("/"), None, line, {})
    words = board(MachineSpec(profile, None))
    assert not {"-m", "-smp"} & set(words)
    topology = read("qemu-system-x86_64 -smp cores=2,threads=2 -m slots=2,maxmem=1G")
    _, (profile, _) = chosen(Path("/"), None, topology, {})
    words = board(MachineSpec(profile, None))
    assert words[words.index("-m") + 1] == "slots=2,maxmem=1G"
    assert words[words.index("-smp") + 1] == "4,cores=2,threads=2"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"memroy": "1G"}, "did you mean 'memory'"),
        ({"memory": "lots"}, 'it is like "256M"'),
        ({"nic": "e100"}, "did you mean 'e1000'"),
        ({"devices": [{"driver": "virtio-rng-pc"}]}, "did you mean 'virtio-rng-pci'"),
        ({"machine": "virt,gic-verson=3"}, "did you mean 'gic-version'"),
        ({"drives": [{"path": "a", "interface": "sata"}]}, "interface: there is no 'sata'; did you mean 'ahci'"),
        ({"drives": [{"file": "a"}]}, "drives.0.file: there is no such key; did you mean 'path'"),
        ({"drives": [{"path": "a", "readonly": "yes"}]}, "readonly: 'yes' is not written as true or false; did you"),
        ({"memory": "1GB"}, "did you mean '1G'"),
        ({"arch": "amd64"}, "arch: there is no 'amd64'; did you mean 'x86_64'"),
        ({"arch": "cobol"}, "'cobol'; there is 'riscv64', 'x86_64', "),
        ({"machine": "virt,gic=3"}, "did you mean 'gic-version'"),
        ({"machine": "q35,accel=kvm"}, "the accelerator is rawtap's to choose"),
        ({"cpu": "max,"}, "'' is no feature"),
        ({"console": "ttyS1"}, "did you mean 'serial1'"),
        ({"smp": "2"}, "smp: '2' is not written as a number; did you mean 2?"),
        ({"loaders": [{"path": "x", "address": "0x80"}]}, "loaders.0.address: '0x80' is not written as a number"),
        ({"screen": "vga"}, "screen: there is no 'vga'; did you mean 'VGA'?"),
        ({"login": {"username": "x"}}, "login.username: there is no such key; did you mean 'user'"),
        ({"interrupt": {"wait": "x", "send": "y"}}, "interrupt.wait: there is no such key; did you mean 'wait_for'"),
        ({"on_reset": "halt"}, "did you mean 'stop'"),
        ({"enter": "crlf"}, "did you mean '\\r\\n'"),
        ({"prompts": "$"}, "prompts: '$' is not written as a table in { }"),
        ({"fw_cfg": [{"name": "x", "text": ""}]}, 'it is like "opt/org.example/name"'),
        ({"cmdline": "x"}, "did you mean 'bootargs'"),
        ({"shares": [{"path": "x"}]}, "shares.0.tag: it must be there"),
    ],
)
def test_a_wrong_key_or_value_is_told_with_the_nearest_right_one(
    tmp_path: Path, overrides: dict[str, Any], words: str
) -> None:
    (tmp_path / "rawtap.toml").write_text("", encoding="utf-8")
    with pytest.raises(ProfileInvalid) as raised:
        chosen(tmp_path, None, None, overrides)
    assert words in raised.value.evidence
    assert "pattern" not in raised.value.evidence
    assert len(raised.value.evidence) < 300


_KNOWN = """-m -drive -device -netdev -nic -serial -machine -cpu -smp -append -usb -s -S -global -fw_cfg -boot
-blockdev file=a,if=none,id=d virtio-blk-pci,drive=d {} {"driver":1} user,id=n e1000 , = =, a=b,,c ,,, - -- virt q35
-semihosting-config -debugcon -chardev pty,id=c chardev:c isa-debugcon,chardev=c -action -watchdog-action shutdown=pause
-redir tcp:1::2 user,hostfwd=tcp::99999-:1 512M,slots=2,maxmem=1G pc-dimm,memdev=m memory-backend-ram,id=m,size=1M
-virtfs -fsdev -icount -rtc -vga -net -object -hda loader,file=x,addr=zz 1.5G name=opt/x,string= none"""
_words = st.lists(
    st.sampled_from(_KNOWN.split()) | st.text(max_size=12),
    max_size=14,
)


@settings(max_examples=500, deadline=None, database=None)
@given(_words, st.sampled_from(["x86_64", "riscv64", "aarch64", "mips"]))
def test_no_line_breaks_the_reader_and_none_gets_past_a_profiles_checks(words: list[str], arch: str) -> None:
    try:
        found: Line = read(" ".join([f"qemu-system-{arch}", *words]))
        chosen(Path("/"), None, found, {})
    except (RequestInvalid, ProfileInvalid):
        return
    assert tomllib.loads(as_toml(found.table)) == found.table


def test_nodes_of_memory_are_carried_with_what_they_are_made_of() -> None:
    by_object = (
        "qemu-system-x86_64 -m 2G -smp 2 -object memory-backend-ram,size=1G,id=a -object memory-backend-ram,"
        "size=1073741824,id=b -numa node,memdev=a,nodeid=0,cpus=0 -numa node,memdev=b,nodeid=1,cpus=1"
    )
    assert table_of(by_object)["numa"] == [{"memory": "1G", "cpus": "0"}, {"memory": "1024M", "cpus": "1"}]
    plain = "qemu-system-riscv64 -M virt -m 256M -numa node,mem=128M -numa node,mem=128"
    assert table_of(plain)["numa"] == [{"memory": "128M"}, {"memory": "128M"}]


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("-device vhost-vsock-pci,guest-cid=7", "vsock", 7),
        ("-no-shutdown", "on_shutdown", "pause"),
        ("-action shutdown=pause,reboot=shutdown", "on_reset", "stop"),
        ("-watchdog i6300esb -watchdog-action poweroff", "watchdog_action", "poweroff"),
        ("-action watchdog=none", "watchdog_action", "none"),
        ("-m 512M,slots=2,maxmem=1G", "memory_slots", {"count": 2, "most": "1G", "modules": []}),
        ("-m 512M,slots=2,maxmem=1g -object memory-backend-ram,id=d,size=256M -device pc-dimm,memdev=d",
         "memory_slots", {"count": 2, "most": "1G", "modules": ["256M"]}),
    ],
)  # fmt: skip
def test_what_a_machine_has_besides_is_carried(words: str, key: str, value: object) -> None:
    assert table_of(f"qemu-system-x86_64 -kernel k {words}")[key] == value


def test_forwarded_ports_are_carried_where_the_operator_gives_them_and_named_else() -> None:
    line = (
        "qemu-system-x86_64 -kernel k -netdev user,id=n,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:2223-10.0.2.15:53 "
        "-device e1000,netdev=n -redir tcp:5555::80"
    )
    found = read(line)
    assert "forward" not in found.table
    given = found.with_ports((2200, 2299))
    assert given.table["forward"] == [{"host": 2222, "guest": 22}, {"host": 2223, "guest": 53, "protocol": "udp"}]
    chosen(Path("/"), None, given, {})
    assert [each.partition(":")[0] for each in given.left] == ["the forwarded port 5555"]
    assert len(found.with_ports(None).left) == 3
    assert "these are no ports" in left_of("qemu-system-i386 -net nic -net user,hostfwd=tcp::99999-:1")


def test_a_port_to_nowhere_and_a_uuid_leave_nothing_out() -> None:
    line = read("qemu-system-arm -M virt -kernel k -serial /dev/null -serial mon:stdio -redir tcp:5000::22 "
                "-uuid 27484500-7e79-11e3-839e-f0def1e14563")  # fmt: skip
    assert line.left == ()
    assert (line.table["console"], line.network) == ("serial1", True)


# Options of lines in public Makefiles, scripts and READMEs (teaching systems, Rust kernels, real-time systems,
# firmware, unikernels, hypervisors, builders of images, riddles for attackers); names of files and parts are replaced.
LINES = (Path(__file__).parent / "qemu_lines.txt").read_text(encoding="utf-8").splitlines()


def test_of_the_lines_that_others_wrote_each_option_is_carried_or_named() -> None:
    whole = 0
    for line in LINES:
        found = read(line).with_ports((1, 65535))
        chosen(Path("/"), None, found, {})
        assert tomllib.loads(as_toml(found.table)) == found.table, line
        assert all(": " in each for each in found.left), line
        whole += not found.left
    assert len(LINES) > 300
    assert whole / len(LINES) > 0.9, f"{whole} of {len(LINES)} are carried whole"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-device virtio-serial-pci -chardev pty,id=c -device virtconsole,chardev=c -serial stdio", {"hvc": ["hvc0"]}),
        ("-device virtio-serial-pci -chardev stdio,id=c -device virtconsole,chardev=c -serial none",
         {"console": "hvc0"}),
        ("-chardev stdio,id=c,mux=on -device virtio-serial-pci -device virtconsole,chardev=c -serial chardev:c "
         "-append console=hvc0", {"console": "hvc0", "serial": ["c"]}),
        ("-chardev null,id=n -chardev pty,id=c -device virtio-serial-pci -device virtconsole,chardev=n "
         "-device virtconsole,chardev=c -nographic", {"hvc": ["", "hvc1"]}),
        ("-chardev stdio,id=a -chardev pty,id=b -device isa-serial,chardev=a -device isa-serial,chardev=b",
         {"serial": ["a", "b"]}),
    ],
)  # fmt: skip
def test_a_virtio_console_is_one_and_the_main_one_where_linux_is_told_so(words: str, said: dict[str, Any]) -> None:
    table = table_of(f"qemu-system-x86_64 -kernel k {words}")
    assert {key: table[key] for key in ("console", "serial", "hvc") if key in table} == said


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("-M virt,gic_version=3", "machine", "virt,gic-version=3"),
        ("-L pc-bios -bios a.bin", "firmware_folder", "pc-bios"),
        ("-tftp boot", "tftp", "boot"),
        ("-bootp pxelinux.0", "bootfile", "pxelinux.0"),
        ("-d unimp,guest_errors,cpu_reset", "log", ["unimp", "guest_errors"]),
        ("-usbdevice disk:a.img", "drives", [{"path": "a.img", "interface": "usb"}]),
        ("-usbdevice disk:format=qcow2:a", "drives", [{"path": "a", "interface": "usb", "format": "qcow2"}]),
        ("-device ipmi-bmc-sim,id=b -device isa-ipmi-bt,bmc=b", "devices", [
            {"driver": "ipmi-bmc-sim", "id": "b"}, {"driver": "isa-ipmi-bt", "bmc": "b"}]),
        ("-device virtio-blk-device,drive=x,bus=virtio-mmio-bus.3 -drive if=none,file=a,id=x,format=raw", "drives", [
            {"path": "a", "interface": "virtio", "format": "raw", "options": {"bus": "virtio-mmio-bus.3"}}]),
        ("-drive if=none,file=a,id=x,format=raw -device virtio-blk-device,drive=x -net nic,model=virtio-net-pci",
         "drives", [{"path": "a", "interface": "virtio-mmio", "format": "raw"}]),
    ],
)  # fmt: skip
def test_older_spellings_and_places_are_carried(words: str, key: str, value: object) -> None:
    assert table_of(f"qemu-system-aarch64 -M virt -kernel k {words}")[key] == value


@pytest.mark.parametrize(
    ("machine", "interface"), [("sparc", "scsi"), ("m68k -M q800", "scsi"), ("sparc64", "ide"), ("ppc -M mac99", "ide")]
)
def test_a_workstations_drives_are_on_what_it_has_on_board(machine: str, interface: str) -> None:
    table = table_of(f"qemu-system-{machine} -hda a -cdrom c")
    disk, cd = {"path": "a", "interface": interface}, {"path": "c", "interface": interface, "media": "cdrom"}
    assert (table["drives"], table.get("devices", [])) == ([disk, cd], [])


def test_an_ide_drive_without_a_number_gets_the_first_that_is_free() -> None:
    drives = table_of("qemu-system-x86_64 -M q35 -hda a.img -cdrom c.iso -drive file=b.img,format=raw")["drives"]
    assert [(each["path"], each.get("options")) for each in drives] == [
        ("a.img", None), ("b.img", None), ("c.iso", None),
    ]  # fmt: skip
    drives = table_of("qemu-system-x86_64 -M q35 -cdrom c.iso -drive file=b.img,format=raw")["drives"]
    assert [(each["path"], each.get("options")) for each in drives] == [("b.img", None), ("c.iso", {"bus": "ide.2"})]


@pytest.mark.parametrize(
    ("line", "interface", "devices"),
    [
        ("qemu-system-riscv64 -hda a -machine virt", "virtio", None),
        ("qemu-system-aarch64 -drive file=a,format=raw -M virt", "virtio", None),
        ("qemu-system-arm -M versatilepb -hda a", "scsi", [{"driver": "lsi53c895a"}]),
        ("qemu-system-aarch64 -M raspi3 -hda a", "sd", None),
        ("qemu-system-mips -hda a", "ide", None),
    ],
)
def test_a_disk_is_where_the_machine_has_it_whichever_comes_first(
    line: str, interface: str, devices: list[dict[str, str]] | None
) -> None:
    table = table_of(f"{line} -kernel k")
    assert (table["drives"][0]["interface"], table.get("devices")) == (interface, devices)
    assert "raspi3b" in table["machine"] or "raspi" not in line


def test_packets_that_the_line_writes_down_are_a_capture_of_ours() -> None:
    assert read("qemu-system-i386 -net nic -net user -net dump,file=a.pcap").dumped
    line = read("qemu-system-i386 -nic user,id=n -object filter-dump,id=f,netdev=n,file=a.pcap")
    assert (line.dumped, line.left) == (True, ())
    assert "-d exec: there would be too much of it" in left_of("qemu-system-i386 -d exec,guest_errors")
    assert "-d int: there would be too much of it" in left_of("qemu-system-arm -d int,guest_errors")
    assert "'a/b' is no value of osk" in left_of("qemu-system-i386 -device isa-applesmc,osk=a/b")
    assert "no drive of the line" in left_of("qemu-system-i386 -device ide-hd,drive=x")
