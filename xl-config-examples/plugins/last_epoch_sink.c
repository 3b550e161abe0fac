/*
 * Keeps the guest's newest epoch on the backup as a file that plain Xen brings to life:
 *
 *     xl restore /etc/xen/guest.cfg /var/lib/romulus/guest.save
 *
 * In /etc/xen/romulus.conf on the backup, with a folder that exists and has room for the guest's memory twice:
 *
 *     plugin = [ "/usr/local/lib/romulus/last_epoch_sink.so /var/lib/romulus" ]
 *
 * Every epoch's pages go into a nameless file in that folder, each where its number says, so that it always holds the
 * newest of every page; of everything else the newest record is kept in memory. To write all of the guest for every epoch
 * would be too slow: GUEST.save is written when the run ends, and in between whenever a file GUEST.save-now is there, which
 * is removed. A new one takes the old one's place when it is complete and on the disk, or not at all. Where the host dies
 * in between, the one that is there stays.
 *
 * What the guest has on disks is not in it: they must be as they were at that epoch. PV guests are not for this example.
 *
 * The formats: docs/specs/libxl-migration-stream.pandoc and libxc-migration-stream.pandoc in Xen's source, and struct
 * save_file_header in its tools/xl/xl.h.
 *
 *     cc -std=c99 -fPIC -shared -Wall -Wextra -o last_epoch_sink.so last_epoch_sink.c
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <romulus.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define HEADER 8 /* of a record: type and length, 4 bytes each; its body is padded to 8 */
#define LIBXL_HEADER 16
#define LIBXC_HEADERS 40
#define GUEST_HVM 2
#define LONGEST_RECORD (128u << 20)
#define MOST_RECORDS 16
#define BATCH 1024

enum libxl_record { LIBXL_END = 0, LIBXC_CONTEXT = 1, EMULATOR_XENSTORE = 2, EMULATOR_CONTEXT = 3, CHECKPOINT_END = 4 };
enum libxc_record { LIBXC_END = 0, PAGE_DATA = 1, CHECKPOINT = 0xE, STATIC_DATA_END = 0x10 };
#define OPTIONAL 0x80000000u

/* What a page number's type may be, beyond those with contents. */
#define HAS_CONTENTS(type) ((type) < 13)
#define NO_PAGE 15

/* The newest record of each type, as it came, in the order of their first coming. */
struct records {
    unsigned count;
    struct { uint32_t type; uint32_t bytes; unsigned char *record; } one[MOST_RECORDS];
};

static const struct romulus_host *host;
static char path[512], temporary[540], trigger[520];

static int pages = -1;       /* page n at n * PAGE */
static unsigned char *types; /* of page n, and 1; 0 is no page */
static uint64_t type_count;
static unsigned char libxl_header[LIBXL_HEADER], libxc_headers[LIBXC_HEADERS];
static struct records statics, states, emulators;
static bool has_statics, has_epoch, is_broken;

/* The part of the stream that is being collected, until it is whole. */
static enum { AT_LIBXL_HEADER, AT_LIBXL, AT_LIBXC_HEADERS, AT_LIBXC } place;
static unsigned char *part;
static size_t part_bytes, part_room;

static int fail(const char *what)
{
    char line[700];

    snprintf(line, sizeof(line), "last_epoch_sink: %s", what);
    host->log(host, line);
    is_broken = true;
    return -1;
}

static int fail_with_errno(const char *what)
{
    char line[640];

    snprintf(line, sizeof(line), "%s: %s", what, strerror(errno));
    return fail(line);
}

static uint32_t word(const unsigned char *from)
{
    uint32_t value;

    memcpy(&value, from, 4);
    return value;
}

static uint64_t long_word(const unsigned char *from)
{
    uint64_t value;

    memcpy(&value, from, 8);
    return value;
}

/*----- taking the stream apart -----*/

static int keep(struct records *records, const unsigned char *record, uint32_t bytes)
{
    uint32_t type = word(record);
    unsigned i = 0;

    while (i < records->count && records->one[i].type != type)
        i++;
    if (i == MOST_RECORDS)
        return fail("more kinds of records than it knows");
    unsigned char *copy = malloc(bytes);
    if (!copy)
        return fail("out of memory");
    memcpy(copy, record, bytes);
    if (i == records->count)
        records->count++;
    else
        free(records->one[i].record);
    records->one[i].type = type;
    records->one[i].bytes = bytes;
    records->one[i].record = copy;
    return 0;
}

static int make_room(uint64_t page)
{
    if (page < type_count)
        return 0;
    uint64_t count = (page / BATCH + 1) * 2 * BATCH;
    unsigned char *larger = realloc(types, count);
    if (!larger)
        return fail("out of memory");
    memset(larger + type_count, 0, count - type_count);
    types = larger;
    type_count = count;
    return 0;
}

static int write_at(int file, const unsigned char *bytes, size_t length, off_t offset)
{
    while (length > 0) {
        ssize_t done = pwrite(file, bytes, length, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_with_errno("the guest's pages cannot be written");
        bytes += done;
        length -= done;
        offset += done;
    }
    return 0;
}

/* Count and a reserved word, then types and numbers of that many pages, then the contents of those that have any. */
static int take_pages(const unsigned char *body, uint32_t bytes)
{
    uint64_t count = bytes < 8 ? 0 : word(body);
    const unsigned char *contents = body + 8 + 8 * count, *end = body + bytes;

    if (bytes < 8 || contents > end)
        return fail("a PAGE_DATA record is damaged");
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry = long_word(body + 8 + 8 * i);
        uint64_t page = entry & 0xFFFFFFFFFFFFFull, type = entry >> 60;
        if (page > 1ull << 36 || make_room(page) < 0)
            return fail("a page has an impossible number");
        types[page] = type == NO_PAGE ? 0 : type + 1;
        if (!HAS_CONTENTS(type))
            continue;
        if (end - contents < PAGE)
            return fail("a PAGE_DATA record is too short");
        if (write_at(pages, contents, PAGE, (off_t)page * PAGE) < 0)
            return -1;
        contents += PAGE;
    }
    return 0;
}

static int take_libxc_record(const unsigned char *record, uint32_t bytes)
{
    uint32_t type = word(record);

    switch (type) {
    case PAGE_DATA:
        return take_pages(record + HEADER, word(record + 4));
    case CHECKPOINT:
        place = AT_LIBXL;
        return 0;
    case LIBXC_END:
        return fail("the stream is no checkpointed one");
    default:
        if (type & OPTIONAL)
            return 0;
        if (keep(has_statics ? &states : &statics, record, bytes) < 0)
            return -1;
        has_statics = has_statics || type == STATIC_DATA_END;
        return 0;
    }
}

static int take_libxl_record(const unsigned char *record, uint32_t bytes)
{
    switch (word(record)) {
    case LIBXC_CONTEXT:
        place = AT_LIBXC_HEADERS;
        return 0;
    case CHECKPOINT_END:
        place = AT_LIBXC;
        return 0;
    case EMULATOR_XENSTORE:
    case EMULATOR_CONTEXT:
        return keep(&emulators, record, bytes);
    default:
        return fail("libxl's stream has a record that this example does not know");
    }
}

/* How long the part is that is being collected, as far as that is known. */
static size_t wanted(void)
{
    switch (place) {
    case AT_LIBXL_HEADER: return LIBXL_HEADER;
    case AT_LIBXC_HEADERS: return LIBXC_HEADERS;
    default:
        return part_bytes < HEADER ? HEADER : HEADER + (((size_t)word(part + 4) + 7) & ~(size_t)7);
    }
}

static int take_part(void)
{
    switch (place) {
    case AT_LIBXL_HEADER:
        memcpy(libxl_header, part, LIBXL_HEADER);
        place = AT_LIBXL;
        return 0;
    case AT_LIBXC_HEADERS:
        memcpy(libxc_headers, part, LIBXC_HEADERS);
        place = AT_LIBXC;
        return word(libxc_headers + 24) == GUEST_HVM ? 0 : fail("only PVH and HVM guests are for this example");
    case AT_LIBXL:
        return take_libxl_record(part, part_bytes);
    default:
        return take_libxc_record(part, part_bytes);
    }
}

static int take_bytes(const unsigned char *bytes, size_t length)
{
    for (;;) {
        size_t whole = wanted();
        if (whole > LONGEST_RECORD)
            return fail("a record is longer than any");
        if (whole > part_room) {
            unsigned char *larger = realloc(part, whole);
            if (!larger)
                return fail("out of memory");
            part = larger;
            part_room = whole;
        }
        size_t more = whole - part_bytes < length ? whole - part_bytes : length;
        if (more)
            memcpy(part + part_bytes, bytes, more);
        part_bytes += more;
        bytes += more;
        length -= more;
        if (part_bytes < whole)
            return 0;
        if (part_bytes < wanted())
            continue; /* it was a record's header */
        if (take_part() < 0)
            return -1;
        part_bytes = 0;
    }
}

/*----- writing the file -----*/

static void put_records(FILE *file, const struct records *records)
{
    for (unsigned i = 0; i < records->count; i++)
        fwrite(records->one[i].record, 1, records->one[i].bytes, file);
}

static void put_header(FILE *file, uint32_t type, uint32_t bytes)
{
    fwrite(&type, 4, 1, file);
    fwrite(&bytes, 4, 1, file);
}

/* A record with the next pages; *page is the first that is not in it. */
static int put_pages(FILE *file, uint64_t *page)
{
    static uint64_t entries[BATCH];
    static unsigned char contents[PAGE];
    uint32_t count = 0, with_contents = 0, reserved = 0;

    for (; *page < type_count && count < BATCH; ++*page) {
        if (!types[*page])
            continue;
        uint64_t type = types[*page] - 1;
        entries[count++] = type << 60 | *page;
        with_contents += HAS_CONTENTS(type);
    }
    if (count == 0)
        return 0;
    put_header(file, PAGE_DATA, 8 + 8 * count + PAGE * with_contents);
    fwrite(&count, 4, 1, file);
    fwrite(&reserved, 4, 1, file);
    fwrite(entries, 8, count, file);
    for (uint32_t i = 0; i < count; i++) {
        if (!HAS_CONTENTS(entries[i] >> 60))
            continue;
        if (pread(pages, contents, PAGE, (off_t)(entries[i] & 0xFFFFFFFFFFFFFull) * PAGE) != PAGE)
            return fail_with_errno("the guest's pages cannot be read");
        fwrite(contents, PAGE, 1, file);
    }
    return 0;
}

static int put_guest(FILE *file)
{
    static const char magic[32] = "Xen saved domain, xl format\n \0 \r";
    /* Byte order; what must be understood: the stream is libxl's version 2; what need not; no configuration in it. */
    static const uint32_t numbers[4] = { 0x01020304, 1 << 1, 0, 0 };
    uint64_t page = 0;

    fwrite(magic, sizeof(magic), 1, file);
    fwrite(numbers, sizeof(numbers), 1, file);
    fwrite(libxl_header, LIBXL_HEADER, 1, file);
    put_header(file, LIBXC_CONTEXT, 0);
    fwrite(libxc_headers, LIBXC_HEADERS, 1, file);
    put_records(file, &statics);
    while (page < type_count)
        if (put_pages(file, &page) < 0)
            return -1;
    put_records(file, &states);
    put_header(file, LIBXC_END, 0);
    put_records(file, &emulators);
    put_header(file, LIBXL_END, 0);
    return 0;
}

static int write_file(void)
{
    int raw = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = raw < 0 ? NULL : fdopen(raw, "w");
    bool is_good;

    if (!file)
        return fail_with_errno(temporary);
    is_good = put_guest(file) == 0 && fflush(file) == 0 && !ferror(file) && fsync(raw) == 0;
    if (fclose(file) == 0 && is_good && rename(temporary, path) == 0)
        return 0;
    fail_with_errno(path);
    unlink(temporary);
    return -1;
}

/*----- what Romulus calls -----*/

static int sink(void *self, const struct romulus_piece *piece)
{
    (void)self;
    if (is_broken || take_bytes(piece->bytes, piece->length) < 0)
        return -1;
    if (!piece->is_last)
        return 0;
    has_epoch = true;
    return unlink(trigger) == 0 ? write_file() : 0;
}

static void finish(void *self)
{
    (void)self;
    /* Epochs after the first come whole, so what is there is the newest one. */
    if (has_epoch && !is_broken)
        write_file();
    if (pages >= 0)
        close(pages);
}

static const struct romulus_plugin plugin = {
    .size = sizeof(plugin),
    .abi = ROMULUS_PLUGIN_ABI,
    .name = "last_epoch_sink",
    .close = finish,
    .sink = sink,
};

const struct romulus_plugin *romulus_plugin(uint32_t abi, const struct romulus_host *given)
{
    if (abi != ROMULUS_PLUGIN_ABI)
        return NULL;
    host = given;
    if (host->process != ROMULUS_XL_RECEIVE)
        return &plugin;
    if (snprintf(path, sizeof(path), "%s/%s.save", host->options, host->guest) >= (int)sizeof(path)) {
        fail("the folder's name is too long");
        return NULL;
    }
    /* The process of an earlier run may still be writing its last one. */
    snprintf(temporary, sizeof(temporary), "%s-%ld", path, (long)getpid());
    snprintf(trigger, sizeof(trigger), "%s-now", path);

    char name[sizeof(path) + 16];
    snprintf(name, sizeof(name), "%s.pages-XXXXXX", path);
    pages = mkstemp(name);
    if (pages < 0) {
        fail_with_errno(host->options);
        return NULL;
    }
    unlink(name);
    fcntl(pages, F_SETFD, FD_CLOEXEC);
    return &plugin;
}
