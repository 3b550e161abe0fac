#define _GNU_SOURCE
#include "romulus_linux.h"

#include <dlfcn.h>
#include <arpa/inet.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

_Static_assert(romulus_do_not_wait_value == MSG_DONTWAIT, "as in romulus_linux.h");

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

/* Code that was never run, such as what freezes a guest, would else be read from a disk when it is wanted most. */
static int read_in(struct dl_phdr_info *object, size_t size, void *page_size)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_R))
            continue;
        const volatile char *first = (const char *)object->dlpi_addr + part->p_vaddr;
        for (size_t offset = 0; offset < part->p_memsz; offset += *(long *)page_size)
            (void)first[offset];
    }
    return 0;
}

int romulus_lock_memory(void)
{
    long page_size = sysconf(_SC_PAGESIZE);

    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
        return errno;
    dl_iterate_phdr(read_in, &page_size);
    return 0;
}

int romulus_make_realtime(int priority)
{
    struct sched_param parameters = { .sched_priority = priority };

    return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameters) < 0 ? errno : 0;
}

bool romulus_join(pthread_t thread, int milliseconds)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += milliseconds / 1000;
    deadline.tv_nsec += milliseconds % 1000 * 1000000L;
    if (deadline.tv_nsec >= 1000000000L) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000L;
    }
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &deadline) == 0;
}

void *romulus_next_symbol(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* As fork, without its handlers; the parent hears of the child's end by `signal`, or not at all. */
static pid_t fork_with(int signal)
{
    return syscall(SYS_clone, signal, NULL, NULL, NULL, NULL);
}

/* From here to the exec, or the end, nothing is called that a signal handler might not. */
static void keep(char *const argv[], char **environment, int in, int out, int errors)
{
    sigset_t none;
    int status = 0;

    setpgid(0, 0);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(in, 0);
    dup2(out, 1);
    dup2(errors, 2);
    close_range(3, ~0U, 0);

    pid_t child = fork_with(SIGCHLD);
    if (child == 0) {
        if (environment)
            environ = environment;
        execvp(argv[0], argv);
        static const char text[] = "not found, or not a program\n";
        if (write(2, text, sizeof(text) - 1) < 0)
            _exit(126);
        _exit(127);
    }
    /* Who reads the output must see its end when the program ends. */
    close_range(0, 2, 0);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(child < 0 ? 126 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

pid_t romulus_spawn(char *const argv[], char **environment, int in, int out, int errors)
{
    sigset_t every, earlier;

    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &earlier);
    pid_t keeper = fork_with(0);
    if (keeper == 0)
        keep(argv, environment, in, out, errors);
    pthread_sigmask(SIG_SETMASK, &earlier, NULL);
    return keeper;
}

bool romulus_reap(pid_t keeper, int *status)
{
    int raw;

    if (waitpid(keeper, &raw, WNOHANG | __WALL) != keeper)
        return false;
    *status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    return true;
}

static void close_all_but(const int *kept, size_t count)
{
    unsigned first = 3;

    while (first != ~0U) {
        unsigned next = ~0U;
        for (size_t i = 0; i < count; i++)
            if (kept[i] >= 0 && (unsigned)kept[i] >= first && (unsigned)kept[i] < next)
                next = kept[i];
        if (next > first)
            close_range(first, next - 1, 0);
        first = next == ~0U ? next : next + 1;
    }
}

int romulus_fork_apart(const char *title, const int *kept, size_t count)
{
    static const int unheard[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM };
    sigset_t every, earlier;
    int status = 0;

    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &earlier);
    /* With its handlers: the heap is to be whole in the new process. */
    pid_t between = fork();
    if (between == 0) {
        pid_t own = fork();
        if (own)
            _exit(own < 0 ? errno : 0);
        setsid();
        /* The handlers are this process's program's. */
        for (int number = 1; number < NSIG; number++)
            signal(number, SIG_DFL);
        for (size_t i = 0; i < sizeof(unheard) / sizeof(unheard[0]); i++)
            signal(unheard[i], SIG_IGN);
        pthread_sigmask(SIG_SETMASK, &earlier, NULL);
        close_all_but(kept, count);
        romulus_show_as(title);
        return 0;
    }
    int code = between < 0 ? errno : 0;
    while (between > 0 && waitpid(between, &status, 0) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &earlier, NULL);
    if (!code)
        code = WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
    errno = code;
    return code ? -1 : 1;
}

int romulus_shared_memory(size_t bytes)
{
    int fd = memfd_create("romulus-lease", MFD_CLOEXEC);

    if (fd >= 0 && ftruncate(fd, bytes) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Loads are in network order, and netlink's numbers in the host's. */
void romulus_ignore_messages(int fd, uint16_t type)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(type), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog filter = { .len = sizeof(program) / sizeof(program[0]), .filter = program };

    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
}

/*----- signals -----*/

static const int caught_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP };
static struct sigaction earlier_actions[sizeof(caught_signals) / sizeof(caught_signals[0])];
static volatile sig_atomic_t signal_eventfd = -1;

static void on_signal(int number)
{
    int saved_errno = errno;
    uint64_t mark = number == SIGINT ? 1ULL << 32 : number == SIGTERM ? 1ULL << 40 : 1ULL << 48;

    /* Ctrl-Z: a protected guest is not put aside. */
    if (number == SIGTSTP)
        return;

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

void romulus_outlive_signals(void)
{
    signal_eventfd = -1;
    pthread_atfork(NULL, NULL, romulus_release_signals);
}
