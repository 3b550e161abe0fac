/*
 * What module Glibc lacks of Linux, and what must not be Swift: code that runs while the loader or a signal has
 * interrupted everything else.
 */
#ifndef ROMULUS_LINUX_H
#define ROMULUS_LINUX_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

/* fcntl is variadic, and these two commands need _GNU_SOURCE. Return as fcntl does. */
int romulus_set_pipe_size(int fd, int bytes);
int romulus_status_flags(int fd);
int romulus_set_status_flags(int fd, int flags);

/* MSG_DONTWAIT, which module Glibc loses to whichever other module includes sys/socket.h too. */
enum { romulus_do_not_wait_value = 0x40 };
static const int romulus_do_not_wait = romulus_do_not_wait_value;

/* pipe2 with O_CLOEXEC; also behind _GNU_SOURCE. */
int romulus_pipe(int ends[2]);

/* syslog is variadic. */
void romulus_syslog(int priority, const char *text);

/* Names the calling thread, as `top -H` shows it. */
void romulus_name_thread(const char *name);

/*
 * mlockall for what is there and what comes, each page once it is in memory; and every page of the program and its
 * libraries is read into it now. 0, or an errno.
 */
int romulus_lock_memory(void);

/* SCHED_RR for the calling thread, and not for what it starts. 0, or an errno. */
int romulus_make_realtime(int priority);

/* pthread_join with a limit, behind _GNU_SOURCE. Whether it has ended. */
bool romulus_join(pthread_t thread, int milliseconds);

/*
 * From now on SIGINT, SIGTERM and SIGHUP add 1 << 32, 1 << 40 or 1 << 48 to the eventfd `fd` instead of killing the
 * process, and SIGTSTP (Ctrl-Z) does nothing; a signal that is ignored stays ignored. romulus_release_signals puts back
 * what was there. romulus_outlive_signals lets them do nothing for the rest of this process's life: it has a last thing to
 * do; its children are as if nothing had been caught.
 */
void romulus_catch_signals(int fd);
void romulus_release_signals(void);
void romulus_outlive_signals(void);

/*
 * What the launcher, or the hook in xl, has put into the environment of this process; taken out of it when the shared
 * object was loaded. NULL where it was not there. A process that has loaded us by itself (patches/) knows ROMULUS_LIBRARY
 * all the same, and the role where it is "primary", but has no ROMULUS_HELPER.
 */
enum romulus_launch_variable {
    ROMULUS_ROLE,         /* "primary" in `xl remus`, "backup" in `xl migrate-receive -r`, "keeper" in an xl that stays
                             behind a guest, "helper" in the save helper */
    ROMULUS_LIBRARY,      /* the shared object; our entry of LD_PRELOAD where there is one */
    ROMULUS_HELPER,       /* the program that starts the stock save helper with the preload */
    ROMULUS_STOCK_HELPER, /* the stock save helper */
    ROMULUS_CONTROL,      /* number of the descriptor on which xl's hook and the helper's talk */
    ROMULUS_LEASE,        /* number of the descriptor of the shared lease */
    ROMULUS_PLUGINS,      /* which plugins the save helper is to load (PluginSettings.swift) */
};
const char *romulus_launch_value(enum romulus_launch_variable variable);

/*
 * Starts a program (found as execvp finds it) with `in`, `out` and `errors` as its standard descriptors, no other
 * descriptor, and no signal caught, ignored or blocked. Its environment is this process's where `environment` is NULL.
 * libxl reaps every child of its process that it can see, and warns of it; so between the two stands a keeper, a child whose end sends no signal and which waitpid does not show to libxl.
 * Returns the keeper's pid, which is also the number of the program's process group, or -1 with errno.
 */
pid_t romulus_spawn(char *const argv[], char **environment, int in, int out, int errors);

/* Whether it has ended, and with which exit status: the program's own, or 128 and the number of its signal. */
bool romulus_reap(pid_t keeper, int *status);

/*
 * Forks a process that outlives this one: not its child, so that no wait sees it (libxl reaps what it can see); in a session of
 * its own, deaf to what a terminal or a service sends; called `title` where processes are listed, so that who looks for this one
 * by its command finds this one alone; with no descriptors but 0 to 2 and `kept` (-1 is none). For a process without threads of
 * its own making: what they hold is held for ever in the other. 0 in the new process, 1 in this one, -1 with errno.
 */
int romulus_fork_apart(const char *title, const int *kept, size_t count);

/* What `ps` shows in place of the program and its arguments, as far as there was room for those. */
void romulus_show_as(const char *title);

/* From now on a netlink socket does not hear messages of this type; a packet of several counts as its first. */
void romulus_ignore_messages(int fd, uint16_t type);

/* memfd_create, close-on-exec, of that many bytes; behind _GNU_SOURCE. -1 with errno. */
int romulus_shared_memory(size_t bytes);

/* A word that two processes share. */
static inline int64_t romulus_load(const int64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void romulus_store(int64_t *word, int64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
static inline int64_t romulus_exchange(int64_t *word, int64_t value)
{
    return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
}
static inline void romulus_add(int64_t *word, int64_t value) { __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST); }
/* Whether it was `expected`, and is `value` now. */
static inline bool romulus_replace(int64_t *word, int64_t expected, int64_t value)
{
    return __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/*
 * RTLD_NEXT, whose value is a cast that Swift does not import. In a preloaded object that is what follows in the
 * program's order of libraries, in one that was loaded later (dlopen) what it is linked with itself.
 */
void *romulus_next_symbol(const char *name);

#endif
