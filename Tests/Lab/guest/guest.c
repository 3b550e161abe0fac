/*
 * The lab's guest: counts, answers, dirties memory, checks its memory, and measures its own pauses.
 *
 * TCP port 7000, one command per line, one line of answer:
 *   counter            the counter, which grows by one with every tick that the guest runs
 *   tick N             from now on a tick takes about N ms; at first it is 50
 *   reset              forgets the pauses so far
 *   pauses             "count mean median max" of the pauses since the last reset, in microseconds
 *   dirty N            from now on dirties N MiB per second; "dirty max" as fast as it can; "dirty 0" not at all
 *   work KIND          one of the kinds in work.c; "work none" ends it
 *   check              "OK" when every page of the checked region holds what was last written there, else "BAD ..."
 *   stream             "<last n received> <last g sent>" of the most recent connection in stream.c, or "BAD ..."
 *   disks              "<name>:<bytes>" of each disk, or "none"
 *   disk write NAME N  writes the pattern of seed N, from the first block to the last: "OK" when it is safe, or "BAD ..."
 *   disk check NAME N  "OK" when the disk holds that pattern, else "BAD ..."
 *   poweroff, reboot   shuts the guest down
 *   crash              panics its kernel
 * UDP port 7000: any datagram is answered with "<datagram> <counter>".
 * TCP port 7001: the numbered echo of stream.c. Every port answers over IPv4 and IPv6.
 *
 * A pause is a suspension that the kernel knows of (CLOCK_BOOTTIME moves on against CLOCK_MONOTONIC); its length is
 * read off the TSC, because the guest's clocks hide most of it, and may be a tick too long.
 *
 * Left alone the guest wakes some twenty times a second and no more: on an emulated host each time costs dom0 as much.
 */
#define _GNU_SOURCE
#include "guest.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define PORT 7000
#define PAGE 4096
#define CHECKED_PAGES (4 * 256)
#define DIRTY_PAGES (32 * 256)
#define PAUSES_KEPT 100000
#define CLIENTS 8

volatile uint64_t counter;
static volatile long tick_milliseconds = 50;
static long dirty_rate; /* MiB per second, -1 for as fast as possible */
static pthread_mutex_t dirty_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t dirty_changed = PTHREAD_COND_INITIALIZER;

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/*----- pauses -----*/

static pthread_mutex_t pause_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t pauses[PAUSES_KEPT];
static size_t pause_count;
static double tsc_per_microsecond;

static void calibrate(void)
{
    uint64_t time = nanoseconds(CLOCK_BOOTTIME), tsc = __rdtsc();
    usleep(300000);
    tsc_per_microsecond = (__rdtsc() - tsc) * 1000.0 / (nanoseconds(CLOCK_BOOTTIME) - time);
}

static void *count(void *unused)
{
    (void)unused;
    uint64_t last_tsc = __rdtsc();
    int64_t known_offset = 0;
    for (;;) {
        usleep(tick_milliseconds * 1000);
        counter++;
        uint64_t tsc = __rdtsc();
        /* Read in this order, an interruption in between only ever makes the offset look smaller than it is. */
        int64_t boot = nanoseconds(CLOCK_BOOTTIME), offset = boot - (int64_t)nanoseconds(CLOCK_MONOTONIC);
        if (offset - known_offset > 1000000) {
            pthread_mutex_lock(&pause_lock);
            if (pause_count < PAUSES_KEPT)
                pauses[pause_count++] = (tsc - last_tsc) / tsc_per_microsecond;
            pthread_mutex_unlock(&pause_lock);
        }
        last_tsc = tsc;
        if (offset > known_offset)
            known_offset = offset;
    }
    return NULL;
}

static int by_size(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return a < b ? -1 : a > b;
}

static void describe_pauses(char *answer, size_t size)
{
    static uint32_t sorted[PAUSES_KEPT];
    pthread_mutex_lock(&pause_lock);
    size_t n = pause_count;
    memcpy(sorted, pauses, n * sizeof(*sorted));
    pthread_mutex_unlock(&pause_lock);
    qsort(sorted, n, sizeof(*sorted), by_size);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += sorted[i];
    snprintf(answer, size, "%zu %lu %u %u", n, (unsigned long)(n ? sum / n : 0), n ? sorted[n / 2] : 0,
             n ? sorted[n - 1] : 0);
}

/*----- memory -----*/

struct checked_page {
    uint64_t index, generation, checksum;
    uint64_t words[PAGE / 8 - 3];
};

static struct checked_page *checked;
static uint64_t written_generation[CHECKED_PAGES];
static pthread_mutex_t checked_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t checksum(const struct checked_page *page)
{
    uint64_t sum = page->index * 0x9E3779B97F4A7C15ull ^ page->generation;
    for (size_t i = 0; i < sizeof(page->words) / 8; i++)
        sum = (sum ^ page->words[i]) * 0xD6E8FEB86659FD93ull + (sum >> 29);
    return sum;
}

static void rewrite(size_t index)
{
    struct checked_page *page = &checked[index];
    page->index = index;
    page->generation = ++written_generation[index];
    for (size_t i = 0; i < sizeof(page->words) / 8; i++)
        page->words[i] = (page->generation << 32 | i) * 0xD6E8FEB86659FD93ull;
    page->checksum = checksum(page);
}

static void check(char *answer, size_t size)
{
    size_t bad = 0;
    pthread_mutex_lock(&checked_lock);
    for (size_t i = 0; i < CHECKED_PAGES; i++)
        bad += checked[i].index != i || checked[i].generation != written_generation[i] ||
               checked[i].checksum != checksum(&checked[i]);
    pthread_mutex_unlock(&checked_lock);
    snprintf(answer, size, bad ? "BAD %zu pages" : "OK", bad);
}

static void *keep_rewriting(void *unused)
{
    (void)unused;
    /* With the counter, in place of a wake of its own. */
    prctl(PR_SET_TIMERSLACK, 50000000ul);
    for (size_t next = 0;; next = (next + 1) % CHECKED_PAGES) {
        pthread_mutex_lock(&checked_lock);
        rewrite(next);
        pthread_mutex_unlock(&checked_lock);
        usleep(20000);
    }
    return NULL;
}

static void set_dirty_rate(long rate)
{
    pthread_mutex_lock(&dirty_lock);
    dirty_rate = rate;
    pthread_cond_signal(&dirty_changed);
    pthread_mutex_unlock(&dirty_lock);
}

static long wait_dirty_rate(void)
{
    pthread_mutex_lock(&dirty_lock);
    while (dirty_rate == 0)
        pthread_cond_wait(&dirty_changed, &dirty_lock);
    long rate = dirty_rate;
    pthread_mutex_unlock(&dirty_lock);
    return rate;
}

static void *dirty(void *memory)
{
    volatile uint64_t *words = memory;
    size_t page = 0;
    for (;;) {
        long rate = wait_dirty_rate();
        /* A slice of 20 ms. */
        long pages = rate < 0 ? 512 : rate * 256 / 50;
        for (long i = 0; i < pages; i++) {
            words[page * (PAGE / 8) + 1] += 1;
            page = (page + 1) % DIRTY_PAGES;
        }
        if (rate >= 0)
            usleep(20000);
    }
    return NULL;
}

/*----- serving -----*/

static void obey(char *command, char *answer, size_t size)
{
    command[strcspn(command, "\r\n")] = 0;
    snprintf(answer, size, "ok");
    if (!strcmp(command, "counter")) {
        snprintf(answer, size, "%lu", (unsigned long)counter);
    } else if (!strcmp(command, "reset")) {
        pthread_mutex_lock(&pause_lock);
        pause_count = 0;
        pthread_mutex_unlock(&pause_lock);
    } else if (!strcmp(command, "pauses")) {
        describe_pauses(answer, size);
    } else if (!strncmp(command, "dirty ", 6)) {
        set_dirty_rate(!strcmp(command + 6, "max") ? -1 : atol(command + 6));
    } else if (!strncmp(command, "tick ", 5) && atol(command + 5) > 0) {
        tick_milliseconds = atol(command + 5);
    } else if (!strncmp(command, "work ", 5)) {
        work(command + 5);
    } else if (!strcmp(command, "check")) {
        check(answer, size);
    } else if (!strcmp(command, "stream")) {
        describe_stream(answer, size);
    } else if (!strcmp(command, "disks")) {
        list_disks(answer, size);
    } else if (!strncmp(command, "disk ", 5)) {
        obey_disk(command + 5, answer, size);
    } else if (!strcmp(command, "poweroff")) {
        sync();
        reboot(RB_POWER_OFF);
    } else if (!strcmp(command, "reboot")) {
        sync();
        reboot(RB_AUTOBOOT);
    } else if (!strcmp(command, "crash")) {
        int trigger = open("/proc/sysrq-trigger", O_WRONLY);
        if (trigger >= 0 && write(trigger, "c", 1) < 0)
            perror("/proc/sysrq-trigger");
    } else {
        snprintf(answer, size, "unknown command");
    }
}

int server(int type, int port)
{
    int fd = socket(AF_INET6, type, 0), on = 1, off = 0;
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || (type == SOCK_STREAM && listen(fd, CLIENTS)))
        perror("guest: bind");
    return fd;
}

static void echo(int fd)
{
    struct sockaddr_in6 from;
    socklen_t length = sizeof(from);
    char text[256];
    ssize_t n = recvfrom(fd, text, 128, 0, (struct sockaddr *)&from, &length);
    if (n <= 0)
        return;
    n += snprintf(text + n, sizeof(text) - n, " %lu", (unsigned long)counter);
    sendto(fd, text, n, 0, (struct sockaddr *)&from, length);
}

static void serve(void)
{
    struct pollfd polls[2 + CLIENTS] = {
        { server(SOCK_DGRAM, PORT), POLLIN, 0 },
        { server(SOCK_STREAM, PORT), POLLIN, 0 },
    };
    for (int i = 2; i < 2 + CLIENTS; i++)
        polls[i] = (struct pollfd){ -1, POLLIN, 0 };
    for (;;) {
        poll(polls, 2 + CLIENTS, -1);
        if (polls[0].revents)
            echo(polls[0].fd);
        if (polls[1].revents) {
            int fd = accept(polls[1].fd, NULL, NULL), place = 2;
            while (place < 2 + CLIENTS && polls[place].fd >= 0)
                place++;
            if (place < 2 + CLIENTS)
                polls[place].fd = fd;
            else
                close(fd);
        }
        for (int i = 2; i < 2 + CLIENTS; i++) {
            if (polls[i].fd < 0 || !polls[i].revents)
                continue;
            char command[256], answer[256];
            ssize_t n = read(polls[i].fd, command, sizeof(command) - 1);
            if (n <= 0) {
                close(polls[i].fd);
                polls[i].fd = -1;
                continue;
            }
            command[n] = 0;
            obey(command, answer, sizeof(answer) - 1);
            strcat(answer, "\n");
            if (write(polls[i].fd, answer, strlen(answer)) < 0)
                perror("guest: write");
        }
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    checked = mmap(NULL, CHECKED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *dirtied = mmap(NULL, DIRTY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (checked == MAP_FAILED || dirtied == MAP_FAILED)
        return perror("guest: mmap"), 1;
    for (size_t i = 0; i < CHECKED_PAGES; i++)
        rewrite(i);
    calibrate();

    pthread_t thread;
    pthread_create(&thread, NULL, count, NULL);
    pthread_create(&thread, NULL, keep_rewriting, NULL);
    pthread_create(&thread, NULL, dirty, dirtied);
    pthread_create(&thread, NULL, serve_streams, NULL);
    printf("guest: ready\n");
    fflush(stdout);
    serve();
    return 0;
}
