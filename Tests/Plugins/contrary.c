/*
 * A plugin that does as the test says: its options are a file, a callback, and what that callback does. Every call leaves a
 * line in the file.
 */
#define _POSIX_C_SOURCE 200809L
#include <romulus.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef ABI
#define ABI ROMULUS_PLUGIN_ABI
#endif
#ifndef SIZE
#define SIZE sizeof(struct romulus_plugin)
#endif
#ifndef ENTRY
#define ENTRY romulus_plugin
#endif

static char path[256], callback[32], how[64];

static void note(const char *what, unsigned long long number, long long result)
{
    char line[400];
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int length = snprintf(line, sizeof(line), "%s %llu %lld %s\n", what, number, result, how);

    if (write(file, line, length) != length)
        abort();
    close(file);
}

static void sleep_ms(long milliseconds)
{
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

    nanosleep(&time, NULL);
}

static void hang(void)
{
    for (;;)
        sleep_ms(10000);
}

static int is(const char *what) { return !strncmp(how, what, strlen(what)); }

static int misbehave(void)
{
    if (is("hang"))
        hang();
    if (is("slow"))
        sleep_ms(atoi(how + 4));
    return is("fail") ? -1 : 0;
}

static int step(const char *name, const struct romulus_step *step)
{
    int result;

    note(name, step->epoch, 0);
    if (is("hang-before"))
        hang();
    if (is("fail-before"))
        return 0;
    if (is("late"))
        sleep_ms(400);
    result = step->next(step);
    note("next", step->epoch, result);
    if (is("twice"))
        note("again", step->epoch, step->next(step));
    if (is("hang-behind"))
        hang();
    return is("fail-behind") ? 0 : result;
}

static int on_suspend(void *self, const struct romulus_step *one) { (void)self; return step("suspend", one); }
static int on_postcopy(void *self, const struct romulus_step *one) { (void)self; return step("postcopy", one); }
static int on_checkpoint(void *self, const struct romulus_step *one) { (void)self; return step("checkpoint", one); }

static int on_observe(void *self, const struct romulus_epoch *epoch)
{
    (void)self;
    note("observe", epoch->epoch, (long long)epoch->period_ns);
    return misbehave();
}

static uint64_t on_schedule(void *self, const struct romulus_epoch *epoch, uint64_t period_ns)
{
    (void)self;
    note("schedule", epoch->epoch, (long long)period_ns);
    misbehave();
    return strtoull(how, NULL, 10);
}

static uint32_t on_suspect(void *self, const struct romulus_suspicion *suspicion)
{
    (void)self;
    note("suspect", suspicion->asked, (long long)(suspicion->silence_ns / 1000000));
    misbehave();
    /* Either for ever, or "once". */
    return strstr(how, "once") && suspicion->asked > 0 ? 0 : atoi(how);
}

/* As it stands in the options, or in the file that they name. */
static int verdict(void)
{
    int number = 0;
    FILE *file = *how == '/' ? fopen(how, "r") : NULL;

    if (!file)
        return atoi(how);
    if (fscanf(file, "%d", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static int on_arbitrate(void *self, const struct romulus_question *question)
{
    int number = verdict();

    (void)self;
    note("arbitrate", question->side, (long long)question->run);
    misbehave();
    snprintf(question->reason, question->reason_bytes, "the test says %d of %s", number, question->guest_uuid);
    return number;
}

static int on_sink(void *self, const struct romulus_piece *piece)
{
    (void)self;
    if (piece->is_last)
        note("sink", piece->epoch, 0);
    return misbehave();
}

static void on_close(void *self)
{
    (void)self;
    note("close", 0, 0);
}

static struct romulus_plugin plugin = { .size = SIZE, .abi = ABI, .name = "contrary" };

const struct romulus_plugin *ENTRY(uint32_t abi, const struct romulus_host *host)
{
    (void)abi;
    if (!*host->options)
        return &plugin;
    if (sscanf(host->options, "%255s %31s %63s", path, callback, how) != 3) {
        host->log(host, "contrary: it wants a file, a callback, and what that does");
        return NULL;
    }
    plugin.close = on_close;
    if (!strcmp(callback, "suspend")) plugin.suspend = on_suspend;
    if (!strcmp(callback, "postcopy")) plugin.postcopy = on_postcopy;
    if (!strcmp(callback, "checkpoint")) plugin.checkpoint = on_checkpoint;
    if (!strcmp(callback, "observe")) plugin.observe = on_observe;
    if (!strcmp(callback, "schedule")) plugin.schedule = on_schedule;
    if (!strcmp(callback, "suspect")) plugin.suspect = on_suspect;
    if (!strcmp(callback, "arbitrate")) plugin.arbitrate = on_arbitrate;
    if (!strcmp(callback, "sink")) plugin.sink = on_sink;
    return &plugin;
}
