/*
 * Runs when the loader has loaded the shared object: before main, in a process that is not ours. It starts no thread
 * and touches nothing but the environment, so that the preload ends with the process it was meant for and no child of
 * that process (ssh, a hotplug script, a device model) ever sees it.
 */
#define _GNU_SOURCE
#include "romulus_linux.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; size_t index; } variables[] = {
    { "ROMULUS_ROLE", ROMULUS_ROLE },
    { "ROMULUS_LIBRARY", ROMULUS_LIBRARY },
    { "ROMULUS_HELPER", ROMULUS_HELPER },
    { "ROMULUS_STOCK_HELPER", ROMULUS_STOCK_HELPER },
    { "ROMULUS_CONTROL", ROMULUS_CONTROL },
    { "ROMULUS_LEASE", ROMULUS_LEASE },
    { "ROMULUS_PLUGINS", ROMULUS_PLUGINS },
};
#define VARIABLE_COUNT (sizeof(variables) / sizeof(variables[0]))

static char *values[VARIABLE_COUNT];

const char *romulus_launch_value(enum romulus_launch_variable variable)
{
    return values[variable];
}

/*
 * Ctrl-C reaches every process of the terminal's foreground group. xl catches it and says farewell to the backup; its
 * ssh and its helper must live long enough to carry that. ssh keeps a SIGINT that it finds ignored. Ctrl-Z would stop
 * them all and leave the guest running, which to the backup looks like a dead primary.
 */
static void ignore_terminal_signals_in_child(void)
{
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTSTP, SIG_IGN);
}

/* Takes our entry out of LD_PRELOAD and leaves whatever else the admin has put there. */
static void remove_from_preload(const char *library)
{
    const char *preload = getenv("LD_PRELOAD");
    if (!preload)
        return;

    char *copy = strdup(preload);
    char *rest = calloc(1, strlen(preload) + 1);
    if (copy && rest) {
        char *state = NULL;
        for (char *entry = strtok_r(copy, ": ", &state); entry; entry = strtok_r(NULL, ": ", &state)) {
            if (!strcmp(entry, library))
                continue;
            if (*rest)
                strcat(rest, ":");
            strcat(rest, entry);
        }
        if (*rest)
            setenv("LD_PRELOAD", rest, 1);
        else
            unsetenv("LD_PRELOAD");
    }
    free(copy);
    free(rest);
}

/* Without a launcher xl has loaded us as its extension: its command is our role, and the loader knows where we are. */
static void deduce_from_program(char **arguments)
{
    Dl_info own;

    if (!values[ROMULUS_LIBRARY] && dladdr(variables, &own))
        values[ROMULUS_LIBRARY] = strdup(own.dli_fname);
    if (values[ROMULUS_ROLE] || !arguments || !*arguments)
        return;
    while (*++arguments && **arguments == '-')
        ;
    if (*arguments && !strncmp(*arguments, "rem", 3))
        values[ROMULUS_ROLE] = strdup("primary");
}

/* Where the kernel has put the arguments, one behind the other, whatever getopt has made of their order since. */
static char *arguments_begin, *arguments_end;

static void find_arguments(char **arguments)
{
    for (; arguments && *arguments; arguments++) {
        char *end = *arguments + strlen(*arguments) + 1;
        if (!arguments_begin || *arguments < arguments_begin)
            arguments_begin = *arguments;
        if (!arguments_end || end > arguments_end)
            arguments_end = end;
    }
}

void romulus_show_as(const char *title)
{
    static char name[32];

    /* What syslog calls the process is a part of what is overwritten. */
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(title, " "), title);
    program_invocation_name = program_invocation_short_name = name;
    if (!arguments_begin)
        return;
    memset(arguments_begin, 0, arguments_end - arguments_begin);
    snprintf(arguments_begin, arguments_end - arguments_begin, "%s", title);
}

/* glibc hands main's arguments to constructors too. */
__attribute__((constructor))
static void romulus_loaded(int argument_count, char **arguments)
{
    (void)argument_count;
    for (size_t i = 0; i < VARIABLE_COUNT; i++) {
        const char *value = getenv(variables[i].name);
        values[variables[i].index] = value ? strdup(value) : NULL;
        unsetenv(variables[i].name);
    }
    if (values[ROMULUS_LIBRARY])
        remove_from_preload(values[ROMULUS_LIBRARY]);
    find_arguments(arguments);
    deduce_from_program(arguments);
    if (values[ROMULUS_ROLE] && !strcmp(values[ROMULUS_ROLE], "primary"))
        pthread_atfork(NULL, NULL, ignore_terminal_signals_in_child);
}
