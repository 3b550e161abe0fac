/*
 * Runs the lab's commands in a dom0: one per connection, without a login. On an emulated host a login takes seconds, and a
 * command through ssh some tenths of one.
 *
 * In: "<bytes of the script> <bytes of its input>\n", the script, its input. Out: what the script prints, both its outputs in
 * one, and at its end the eight bytes "\0status\0" with the exit status as one more: 128 and the signal's number for one that
 * was killed. A client that goes away before that has the script's process group killed.
 *
 * The script "lab-domains" needs no shell: see domains.h.
 *
 * The port is open to everybody: it belongs to a network that the lab has for itself.
 */
#define _GNU_SOURCE
#include "domains.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#define PORT 7100
#define MOST_SCRIPT (1l << 20)
#define MOST_INPUT (64l << 20)
#define LIST_DOMAINS "lab-domains"

/* Whether all of it came. */
static int take(int fd, char *to, size_t bytes)
{
    while (bytes) {
        ssize_t n = recv(fd, to, bytes, 0);
        if (n <= 0)
            return 0;
        to += n;
        bytes -= n;
    }
    return 1;
}

static int take_lengths(int fd, long *script, long *input)
{
    char line[64];
    for (size_t i = 0; i < sizeof(line) - 1; i++) {
        if (!take(fd, line + i, 1))
            return 0;
        if (line[i] == '\n') {
            line[i] = 0;
            return sscanf(line, "%ld %ld", script, input) == 2 && *script >= 0 && *script <= MOST_SCRIPT && *input >= 0 &&
                   *input <= MOST_INPUT;
        }
    }
    return 0;
}

/* A file of its own, from its start. */
static int take_input(int fd, long bytes)
{
    if (bytes == 0)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    int file = memfd_create("input", MFD_CLOEXEC);
    char *at = MAP_FAILED;
    if (file >= 0 && ftruncate(file, bytes) == 0)
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    int whole = at != MAP_FAILED && take(fd, at, bytes);
    if (at != MAP_FAILED)
        munmap(at, bytes);
    if (whole)
        return file;
    if (file >= 0)
        close(file);
    return -1;
}

static pid_t start(char *script, int input, int output)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, input, 0);
    posix_spawn_file_actions_adddup2(&files, output, 1);
    posix_spawn_file_actions_adddup2(&files, output, 2);
    posix_spawnattr_t settings;
    posix_spawnattr_init(&settings);
    /* The shell that has started us in the background has had us ignore some signals. */
    sigset_t all;
    sigfillset(&all);
    posix_spawnattr_setsigdefault(&settings, &all);
    posix_spawnattr_setflags(&settings, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF);
    char *words[] = { "sh", "-c", script, NULL };
    pid_t pid;
    int error = posix_spawn(&pid, "/bin/sh", &files, &settings, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&settings);
    return error ? -1 : pid;
}

/* Until it ends by itself or, when the client goes away, by us. */
static int status_of(pid_t pid, int client)
{
    struct pollfd polls[2] = { { syscall(SYS_pidfd_open, pid, 0), POLLIN, 0 }, { client, POLLRDHUP, 0 } };
    while (poll(polls, 2, -1) < 0 || !(polls[0].revents || polls[1].revents))
        ;
    if (!polls[0].revents)
        kill(-pid, SIGKILL);
    close(polls[0].fd);
    int status;
    if (waitpid(pid, &status, 0) < 0)
        return 255;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(char *script, int input, int client)
{
    pid_t pid = start(script, input, client);
    return pid < 0 ? 127 : status_of(pid, client);
}

static void *serve(void *argument)
{
    int client = (int)(long)argument;
    long script_bytes = 0, input_bytes = 0;
    char *script = NULL;
    int input = -1;
    if (take_lengths(client, &script_bytes, &input_bytes) && (script = calloc(1, script_bytes + 1)) &&
        take(client, script, script_bytes) && (input = take_input(client, input_bytes)) >= 0) {
        char end[9] = "\0status\0";
        end[8] = (char)(strcmp(script, LIST_DOMAINS) ? run(script, input, client) : list_domains(client));
        send(client, end, sizeof(end), MSG_NOSIGNAL);
    }
    if (input >= 0)
        close(input);
    free(script);
    /* What the script has left in the background may still hold the connection open. */
    shutdown(client, SHUT_RDWR);
    close(client);
    return NULL;
}

int main(void)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_ANY) };
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16)) {
        perror("lab-agent");
        return 1;
    }
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 1 << 18);
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (client >= 0 && pthread_create(&thread, &detached, serve, (void *)(long)client))
            close(client);
    }
}
