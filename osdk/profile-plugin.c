// SPDX-License-Identifier: MPL-2.0

// A plugin for QEMU's TCG: writes down what one processor executes while a measuring window is open.
//
// A program in the guest opens and closes the window with two instructions that do nothing (test/bench/src/clock.rs):
//
//     0f 1f 80 01 e5 7e be       opens it
//     0f 1f 80 02 e5 7e be       closes it
//
// The trace is a file of records (`struct record`), in the order of execution. QEMU translates code in blocks; a
// record is one block, executed once, with the number of its instructions that were started. Instructions are counted
// one by one, so a block that a fault left half way has the right number too. osdk/src/profile/trace.rs reads it.
//
// Everything is written for one processor, which is also the only way in which a count means anything.
//
//     -plugin profile_plugin.so,out=FILE

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- What QEMU offers, as of version 1 of its plugin interface; Debian packs no header -------------------------

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CB_NO_REGISTERS = 0 };
enum { MEMORY_READ_OR_WRITE = 3 };
enum { INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                             void (*)(unsigned, uint32_t, uint64_t, void *), int, int, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

// ---- The trace -------------------------------------------------------------------------------------------------

struct record {
    uint32_t block; // its number, or one of the below
    uint16_t first; // index of the first instruction
    uint16_t count; // how many were started
    uint64_t extra; // a call or a return: where on the stack the return address is; 0 if unknown
};

enum {
    OPEN = 0xffffffff,   // the window opens
    CLOSE = 0xfffffffe,  // extra: instructions since it opened
    DEFINE = 0xfffffffd, // the next number; first: length of its code, count: instructions, extra: its address;
                         // the code follows, filled up to a multiple of 16
    REPEAT = 0xfffffffc, // extra: how often the record before happened again
};

struct block {
    uint64_t address;
    uint32_t number; // 0 until it is in the trace
    uint16_t instructions;
    uint16_t length;
    uint8_t code[];
};

struct marker {
    struct block *block;
    uint16_t index;
};

static FILE *trace;
static uint64_t started; // instructions since the machine was switched on
static bool is_open;
static uint64_t opened_at;
static uint32_t blocks;

// The block being executed while the window is open.
static struct block *current;
static uint16_t current_first;
static uint64_t current_start;
static uint64_t current_slot;

static struct record last;
static uint64_t repeats;

static void put(const void *data, size_t size) {
    if (fwrite(data, 1, size, trace) != size) {
        perror("profile plugin: the trace cannot be written");
        abort();
    }
}

static void flush_repeats(void) {
    if (repeats > 0) {
        struct record again = {REPEAT, 0, 0, repeats};
        put(&again, sizeof again);
        repeats = 0;
    }
}

static void write_record(struct record record) {
    if (memcmp(&record, &last, sizeof record) == 0) {
        repeats++;
        return;
    }
    flush_repeats();
    put(&record, sizeof record);
    last = record;
}

static void define(struct block *block) {
    static const uint8_t fill[sizeof(struct record)];
    write_record((struct record){DEFINE, block->length, block->instructions, block->address});
    put(block->code, block->length);
    put(fill, -block->length % sizeof fill);
    // Two blocks with the same code at the same address are still two.
    last = (struct record){0};
    block->number = ++blocks;
}

static void finish_current(void) {
    uint64_t count = started - current_start;
    if (count > 0) {
        if (current->number == 0)
            define(current);
        write_record((struct record){current->number, current_first, (uint16_t)count, current_slot});
    }
}

static void start(struct block *block, uint16_t first, uint64_t at) {
    current = block;
    current_first = first;
    current_start = at;
    current_slot = 0;
}

// ---- What happens in the guest ---------------------------------------------------------------------------------

static void on_block(unsigned cpu, void *data) {
    if (is_open) {
        finish_current();
        start(data, 0, started);
    }
}

static void on_stack(unsigned cpu, uint32_t info, uint64_t address, void *data) { current_slot = address; }

// The marker itself is not in the window. It has not been counted when this is called.
static void on_open(unsigned cpu, void *data) {
    struct marker *marker = data;
    if (!is_open) {
        is_open = true;
        opened_at = started + 1;
        write_record((struct record){OPEN, 0, 0, 0});
        start(marker->block, marker->index + 1, opened_at);
    }
}

static void on_close(unsigned cpu, void *data) {
    if (is_open) {
        finish_current();
        is_open = false;
        write_record((struct record){CLOSE, 0, 0, started - opened_at});
        flush_repeats();
        last = (struct record){0};
        fflush(trace);
    }
}

// ---- What QEMU translates --------------------------------------------------------------------------------------

static const uint8_t OPENING[] = {0x0f, 0x1f, 0x80, 0x01, 0xe5, 0x7e, 0xbe};
static const uint8_t CLOSING[] = {0x0f, 0x1f, 0x80, 0x02, 0xe5, 0x7e, 0xbe};

static bool is_call_or_return(const uint8_t *code, size_t size) {
    size_t i = 0;
    // Prefixes.
    while (i + 1 < size && (code[i] == 0xf2 || code[i] == 0xf3 || code[i] == 0x2e || code[i] == 0x3e ||
                            code[i] == 0x66 || (code[i] & 0xf0) == 0x40))
        i++;
    bool is_indirect_call = code[i] == 0xff && i + 1 < size && (code[i + 1] >> 3 & 7) == 2;
    return code[i] == 0xe8 || is_indirect_call || code[i] == 0xc3 || code[i] == 0xc2;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb) {
    size_t instructions = qemu_plugin_tb_n_insns(tb);
    size_t length = 0;
    for (size_t i = 0; i < instructions; i++)
        length += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, i));

    struct block *block = malloc(sizeof *block + length);
    if (block == NULL) {
        perror("profile plugin");
        abort();
    }
    *block = (struct block){qemu_plugin_tb_vaddr(tb), 0, (uint16_t)instructions, (uint16_t)length};
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, CB_NO_REGISTERS, block);

    size_t at = 0;
    for (size_t i = 0; i < instructions; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
        const uint8_t *code = qemu_plugin_insn_data(insn);
        memcpy(block->code + at, code, size);
        at += size;

        bool is_opening = size == sizeof OPENING && memcmp(code, OPENING, size) == 0;
        bool is_closing = size == sizeof CLOSING && memcmp(code, CLOSING, size) == 0;
        if (is_opening || is_closing) {
            struct marker *marker = malloc(sizeof *marker);
            if (marker == NULL) {
                perror("profile plugin");
                abort();
            }
            *marker = (struct marker){block, (uint16_t)i};
            qemu_plugin_register_vcpu_insn_exec_cb(insn, is_opening ? on_open : on_close, CB_NO_REGISTERS, marker);
        }
        qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &started, 1);
        // The address of a push or a pop is the stack pointer, which the interface has no other way to tell. Of the
        // two accesses of an indirect call the push is the later one. (QEMU 7.2 takes one kind for the other, so this
        // asks for both.)
        if (is_call_or_return(code, size))
            qemu_plugin_register_vcpu_mem_cb(insn, on_stack, CB_NO_REGISTERS, MEMORY_READ_OR_WRITE, NULL);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    const char *path = NULL;
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "out=", 4) == 0)
            path = argv[i] + 4;
    if (path == NULL || (trace = fopen(path, "wb")) == NULL) {
        fprintf(stderr, "profile plugin: out=FILE must name a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
