/*
 * The lab's guest: a numbered echo on TCP port 7001, which shows whether an open connection survives.
 *
 * The client sends "c <n>", n from 1 on, one by one, without waiting. The guest answers every one with "e <n> <g>" and
 * says "g <g> <counter>" every 50 ms on its own; g numbers everything that the guest says on that connection, from 1
 * on. What it has received and sent is remembered in its memory, and so is part of every checkpoint: a copy that went
 * back behind what clients have seen would contradict itself.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STREAM_PORT 7001
#define TICK_NANOSECONDS 50000000ull

struct connection {
    int fd;
    uint64_t received, sent;
    char problem[64];
};

/* Guards everything that is remembered of any connection. */
static pthread_mutex_t stream_lock = PTHREAD_MUTEX_INITIALIZER;
/* Stays after its connection has ended, until the next one begins. */
static struct connection *recent;

void describe_stream(char *answer, size_t size)
{
    pthread_mutex_lock(&stream_lock);
    if (!recent)
        snprintf(answer, size, "0 0");
    else if (recent->problem[0])
        snprintf(answer, size, "BAD %s", recent->problem);
    else
        snprintf(answer, size, "%lu %lu", (unsigned long)recent->received, (unsigned long)recent->sent);
    pthread_mutex_unlock(&stream_lock);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static int say(int fd, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno != EINTR)
            return 0;
        text += n > 0 ? n : 0;
        left -= n > 0 ? n : 0;
    }
    return 1;
}

/* Remembered before it is said: nothing that a client knows may be unknown here. */
static int tick(struct connection *one)
{
    char text[64];
    pthread_mutex_lock(&stream_lock);
    uint64_t number = ++one->sent;
    pthread_mutex_unlock(&stream_lock);
    snprintf(text, sizeof(text), "g %lu %lu\n", (unsigned long)number, (unsigned long)counter);
    return say(one->fd, text);
}

static int take_line(struct connection *one, const char *line)
{
    char text[64], *end = NULL;
    uint64_t n = strncmp(line, "c ", 2) ? 0 : strtoull(line + 2, &end, 10);
    int whole = end && end != line + 2 && !*end;
    pthread_mutex_lock(&stream_lock);
    /* A gap, a duplicate, or nothing that a client sends. */
    if ((!whole || n != one->received + 1) && !one->problem[0])
        snprintf(one->problem, sizeof(one->problem), "expected %lu, got %.24s", (unsigned long)one->received + 1, line);
    if (whole)
        one->received = n;
    uint64_t number = ++one->sent;
    pthread_mutex_unlock(&stream_lock);
    snprintf(text, sizeof(text), "e %lu %lu\n", (unsigned long)n, (unsigned long)number);
    return say(one->fd, text);
}

static void *serve_stream(void *argument)
{
    struct connection *one = argument;
    char text[4096];
    size_t have = 0;
    for (uint64_t next = now() + TICK_NANOSECONDS;;) {
        struct pollfd readable = { one->fd, POLLIN, 0 };
        int64_t left = next - now();
        if (left > 0 && poll(&readable, 1, left / 1000000 + 1) > 0) {
            ssize_t n = read(one->fd, text + have, sizeof(text) - 1 - have);
            if (n <= 0)
                break;
            text[have += n] = 0;
            char *line = text, *end;
            int heard = 1;
            for (; heard && (end = strchr(line, '\n')); line = end + 1) {
                *end = 0;
                heard = take_line(one, line);
            }
            have = text + have - line;
            memmove(text, line, have);
            if (heard && have == sizeof(text) - 1) {
                text[have] = 0;
                heard = take_line(one, text); /* no line at all: noted as such */
                have = 0;
            }
            if (!heard)
                break;
        }
        if (now() < next)
            continue;
        if (!tick(one))
            break;
        next = now() + TICK_NANOSECONDS;
    }
    close(one->fd);
    pthread_mutex_lock(&stream_lock);
    one->fd = -1;
    int forgotten = one != recent;
    pthread_mutex_unlock(&stream_lock);
    if (forgotten)
        free(one);
    return NULL;
}

void *serve_streams(void *unused)
{
    (void)unused;
    int listener = server(SOCK_STREAM, STREAM_PORT), on = 1;
    for (;;) {
        struct connection *one = calloc(1, sizeof(*one));
        one->fd = accept(listener, NULL, NULL);
        if (one->fd < 0) {
            free(one);
            continue;
        }
        setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        pthread_mutex_lock(&stream_lock);
        struct connection *before = recent;
        recent = one;
        int ended = before && before->fd < 0;
        pthread_mutex_unlock(&stream_lock);
        if (ended)
            free(before);
        pthread_t thread;
        pthread_create(&thread, NULL, serve_stream, one);
        pthread_detach(thread);
    }
    return NULL;
}
