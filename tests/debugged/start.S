/* Where a processor begins: a stack, and then C. */

#define STACK 0xc10000 /* on an x86: at the beginning of a page, and the one below it is not there */

    .section .start, "ax"
    .globl _start

#if defined(__riscv)
_start:
    la sp, stack_end
    csrr a0, mhartid            /* each has a stack of its own; the first one is the kernel's */
    slli t0, a0, 12
    sub sp, sp, t0
    la t0, trap
    csrw mtvec, t0
    bnez a0, 1f
    call kernel
1:  call other_processor
    .balign 4
trap:
    j trap

#elif defined(__aarch64__)
_start:
    mrs x0, cpacr_el1           /* compilers use the registers of floating point to copy */
    orr x0, x0, #(3 << 20)
    msr cpacr_el1, x0
    isb
    adrp x0, stack_end
    add x0, x0, :lo12:stack_end
    mov sp, x0
    ldr x0, =vectors
    msr vbar_el1, x0
    bl kernel
1:  b 1b
    .balign 2048
vectors:
    .rept 16
    b .
    .balign 128
    .endr

#elif defined(__arm__)
_start:
    ldr sp, =stack_end
    ldr r0, =vectors
    mcr p15, 0, r0, c12, c0, 0
    bl kernel
1:  b 1b
    .ltorg
    .balign 32
vectors:
    .rept 8
    b .
    .endr

#elif defined(__i386__) /* entered by the note of Xen's PVH (xen/docs/misc/pvh.pandoc) */
_start:
    movl $STACK, %esp
    lgdt descriptor             /* page tables: 4 GiB as they are, in pages of 4 MiB, but for one below the stack */
    movl $directory, %edi
    movl $0x83, %eax
    movl $1024, %ecx
1:  movl %eax, (%edi)
    addl $4, %edi
    addl $0x400000, %eax
    loop 1b
    movl $0, directory + 2 * 4
    movl $0, directory + (0xead00000 >> 22) * 4 /* and those of the planted defects */
    movl $directory, %eax
    movl %eax, %cr3
    movl $0x10, %eax
    movl %eax, %cr4
    movl $0x80000011, %eax
    movl %eax, %cr0
    ljmp $8, $2f
2:  movl $16, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    call kernel
3:  hlt
    jmp 3b
    .globl on_page_fault
on_page_fault:
    call page_fault

    .balign 8
segments:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
descriptor:
    .word 23
    .long segments

    .bss
    .balign 4096
directory: .skip 4096

#else /* x86_64: entered in 32 bits, by the same note */
    .code32
_start:
    movl $STACK, %esp
    lgdt descriptor             /* page tables: the first 4 GiB as they are, in pages of 2 MiB, but for one below the stack */
    movl $level4, %edi
    movl $level3 + 3, (%edi)
    movl $level3, %edi
    movl $level2 + 3, %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $4096, %eax
    loop 1b
    movl $level2, %edi
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 1b
    movl $0, level2 + 5 * 8
    movl $level4, %eax
    movl %eax, %cr3
    movl $0x6a0, %eax           /* PAE, and SSE for compilers */
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl $0x80000011, %eax
    movl %eax, %cr0
    ljmp $8, $2f
    .code64
2:  movl $16, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    movq $STACK, %rsp
    call kernel
3:  hlt
    jmp 3b
    .globl on_page_fault
on_page_fault:
    call page_fault

    .balign 8
segments:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
descriptor:
    .word 23
    .long segments

#endif

#if defined(__i386__) || defined(__x86_64__)
    .section .note, "a", @note
    .long 4, 4, 18              /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long _start
#endif

#if defined(__x86_64__)
    .bss
    .balign 4096
level4: .skip 4096
level3: .skip 4096
level2: .skip 4 * 4096
#endif

    .bss
    .balign 16
stack:
    .skip 65536
stack_end:
