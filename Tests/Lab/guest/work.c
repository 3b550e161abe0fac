/*
 * The lab's guest: kinds of work that write memory as real ones do.
 *
 *   work compile       something like a build: many short processes that read text, transform it and write files
 *   work store         a key-value store under write load: small records at random places, and a log
 *   work forks         processes that are made, touch some memory and end, several at a time
 *   work none          ends whatever was begun
 */
#define _GNU_SOURCE
#include "guest.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORDS (1 << 16)
#define VALUE 120
#define LOG_BYTES (1 << 20)
#define WRITES_AT_ONCE 20
#define FORKS_AT_ONCE 4
#define TOUCHED_PAGES 64

static pid_t worker = -1;

struct record {
    uint64_t version;
    char value[VALUE];
};

static void store(void)
{
    struct record *records = mmap(NULL, RECORDS * sizeof(*records), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *log = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t end = 0;

    if (records == MAP_FAILED || log == MAP_FAILED)
        _exit(1);
    for (;; usleep(10000)) {
        for (int i = 0; i < WRITES_AT_ONCE; i++) {
            struct record *one = &records[rand() % RECORDS];

            one->version++;
            for (size_t place = 0; place < VALUE; place += 4)
                *(int *)(one->value + place) = rand();
            memcpy(log + end, one, sizeof(*one));
            end = (end + sizeof(*one)) % (LOG_BYTES - sizeof(*one));
        }
    }
}

static void touch(void)
{
    volatile char *memory = malloc(TOUCHED_PAGES * 4096);

    for (size_t page = 0; memory && page < TOUCHED_PAGES; page++)
        memory[page * 4096] = (char)page;
    execl("/bin/busybox", "busybox", "true", (char *)NULL);
    _exit(1);
}

static void storm(void)
{
    /* Not all of the processor, which dom0 shares. */
    for (int running = 0;; usleep(10000)) {
        pid_t child = fork();

        if (child == 0)
            touch();
        running += child > 0;
        while (running >= FORKS_AT_ONCE && wait(NULL) > 0)
            running--;
    }
}

static const char build[] =
    "busybox mkdir -p /tmp/build; cd /tmp/build; round=0\n"
    "while :; do\n"
    "  round=$((round + 1))\n"
    "  for unit in 1 2 3 4 5 6 7 8; do\n"
    "    busybox awk -v unit=$unit -v round=$round 'BEGIN { srand(unit); for (i = 0; i < 300; i++)\n"
    "      printf \"static int f%d_%d(int a) { return a * %d + g%d(a); } /* %d */\\n\", unit, i, rand() * 9999, i % 37, round }' >$unit.c\n"
    "    busybox sed -e 's,/\\*.*\\*/,,' -e 's/static //' $unit.c >$unit.i\n"
    "    busybox awk '{ n = split($0, t, /[^a-z0-9_]+/); for (i = 1; i <= n; i++) s[t[i]]++ } END { for (k in s) print k, s[k] }'"
    " $unit.i | busybox sort >$unit.s\n"
    "    busybox gzip -c $unit.s >$unit.o\n"
    "  done\n"
    "  busybox cat *.o >image; busybox sha256sum image >sum\n"
    "done\n";

void work(const char *kind)
{
    if (worker > 0) {
        kill(-worker, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0)
            ;
    }
    worker = -1;
    if (!strcmp(kind, "none"))
        return;
    worker = fork();
    if (worker != 0) {
        /* Whichever comes first, so that ending it finds it. */
        setpgid(worker, worker);
        return;
    }
    setpgid(0, 0);
    if (!strcmp(kind, "store"))
        store();
    else if (!strcmp(kind, "forks"))
        storm();
    else
        execl("/bin/busybox", "sh", "-c", build, (char *)NULL);
    _exit(1);
}
