/*
 * The lab's guest: its disks.
 *
 * A pattern is a few blocks from a disk's first to its last, at even distances, as only this seed, disk and place make
 * them. Nothing of it stays in the page cache; a write is answered when the disk has said that it is safe.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS 32

static uint64_t block[BLOCK / 8] __attribute__((aligned(BLOCK)));

void list_disks(char *answer, size_t size)
{
    size_t length = 0;

    snprintf(answer, size, "none");
    for (char letter = 'a'; letter <= 'z' && length < size; letter++) {
        char path[32];
        unsigned long sectors;

        snprintf(path, sizeof(path), "/sys/block/xvd%c/size", letter);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        if (fscanf(file, "%lu", &sectors) == 1)
            length += snprintf(answer + length, size - length, "%sxvd%c:%lu", length ? " " : "", letter, sectors * 512);
        fclose(file);
    }
}

static uint64_t word(uint64_t seed, const char *name, uint64_t number, uint64_t place)
{
    uint64_t value = seed;

    for (; *name; name++)
        value = value * 0x9E3779B97F4A7C15ull + *name;
    return (value ^ number << 32 ^ place) * 0xD6E8FEB86659FD93ull;
}

static off_t place_of(off_t bytes, int number)
{
    return (bytes / BLOCK - 1) * number / (BLOCKS - 1) * BLOCK;
}

static int write_pattern(int fd, off_t bytes, uint64_t seed, const char *name)
{
    for (int number = 0; number < BLOCKS; number++) {
        for (size_t i = 0; i < BLOCK / 8; i++)
            block[i] = word(seed, name, number, i);
        if (pwrite(fd, block, BLOCK, place_of(bytes, number)) != BLOCK)
            return -1;
    }
    return fsync(fd);
}

/* How many blocks are not as they were written. */
static int check_pattern(int fd, off_t bytes, uint64_t seed, const char *name)
{
    int bad = 0;

    for (int number = 0; number < BLOCKS; number++) {
        size_t i = 0;

        if (pread(fd, block, BLOCK, place_of(bytes, number)) != BLOCK)
            return -1;
        while (i < BLOCK / 8 && block[i] == word(seed, name, number, i))
            i++;
        bad += i < BLOCK / 8;
    }
    return bad;
}

void obey_disk(const char *command, char *answer, size_t size)
{
    char what[8], name[16], path[32];
    unsigned long seed;

    if (sscanf(command, "%7s %15s %lu", what, name, &seed) != 3 || (strcmp(what, "write") && strcmp(what, "check"))) {
        snprintf(answer, size, "BAD command");
        return;
    }
    snprintf(path, sizeof(path), "/dev/%s", name);
    int fd = open(path, (what[0] == 'w' ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    off_t bytes = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    int bad = bytes < 0        ? -1
              : what[0] == 'w' ? write_pattern(fd, bytes, seed, name)
                               : check_pattern(fd, bytes, seed, name);
    if (bad < 0)
        snprintf(answer, size, "BAD %s", strerror(errno));
    else if (bad)
        snprintf(answer, size, "BAD %d of %d blocks", bad, BLOCKS);
    else
        snprintf(answer, size, "OK");
    if (fd >= 0)
        close(fd);
}
