#define _GNU_SOURCE
#include "romulus_linux.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>

int romulus_set_pipe_size(int fd, int bytes)
{
    return fcntl(fd, F_SETPIPE_SZ, bytes);
}

int romulus_status_flags(int fd)
{
    return fcntl(fd, F_GETFL);
}

int romulus_set_status_flags(int fd, int flags)
{
    return fcntl(fd, F_SETFL, flags);
}

int romulus_pipe(int ends[2])
{
    return pipe2(ends, O_CLOEXEC);
}

void romulus_syslog(int priority, const char *text)
{
    syslog(priority, "%s", text);
}

void romulus_name_thread(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}

void *romulus_next_symbol(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/*----- signals -----*/

static const int caught_signals[] = { SIGINT, SIGTERM, SIGHUP };
static struct sigaction earlier_actions[sizeof(caught_signals) / sizeof(caught_signals[0])];
static volatile sig_atomic_t signal_eventfd = -1;

static void on_signal(int number)
{
    int saved_errno = errno;
    uint64_t mark = number == SIGINT ? 1ULL << 32 : number == SIGTERM ? 1ULL << 40 : 1ULL << 48;

    if (write(signal_eventfd, &mark, sizeof(mark)) < 0) {
        /* The counter is full: the relay has more than enough to read already. */
    }
    errno = saved_errno;
}

void romulus_catch_signals(int fd)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

    signal_eventfd = fd;
    for (size_t i = 0; i < sizeof(caught_signals) / sizeof(caught_signals[0]); i++) {
        sigaction(caught_signals[i], NULL, &earlier_actions[i]);
        if (earlier_actions[i].sa_handler != SIG_IGN)
            sigaction(caught_signals[i], &action, NULL);
    }
}

void romulus_release_signals(void)
{
    for (size_t i = 0; i < sizeof(caught_signals) / sizeof(caught_signals[0]); i++)
        sigaction(caught_signals[i], &earlier_actions[i], NULL);
}
