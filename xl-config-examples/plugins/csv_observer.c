/*
 * One line of comma-separated values for every epoch that the backup has, for people who draw curves.
 *
 *     plugin = [ "/usr/local/lib/romulus/csv_observer.so /var/log/xen/epochs.csv" ]
 *
 * in /etc/xen/romulus.conf on the primary. The file grows without bound; the plugin adds to what is there.
 *
 *     cc -std=c99 -fPIC -shared -Wall -Wextra -o csv_observer.so csv_observer.c
 */
#define _POSIX_C_SOURCE 200809L
#include <romulus.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static FILE *file;

static int observe(void *self, const struct romulus_epoch *epoch)
{
    (void)self;
    fprintf(file, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n",
            epoch->epoch, epoch->pause_ns / 1000, epoch->pages, epoch->stream_bytes, epoch->link_bytes,
            epoch->acknowledged_ns / 1000, epoch->period_ns / 1000);
    /* A line that is there is whole. Where it fails (the disk is full), Romulus says so and calls no more. */
    return fflush(file) == 0 ? 0 : -1;
}

static void finish(void *self)
{
    (void)self;
    if (file)
        fclose(file);
}

static const struct romulus_plugin plugin = {
    .size = sizeof(plugin),
    .abi = ROMULUS_PLUGIN_ABI,
    .name = "csv_observer",
    .close = finish,
    .observe = observe,
};

const struct romulus_plugin *romulus_plugin(uint32_t abi, const struct romulus_host *host)
{
    char line[256];

    if (abi != ROMULUS_PLUGIN_ABI)
        return NULL;
    /* The save helper loads the plugin as well, and has nothing to observe. */
    if (host->process != ROMULUS_XL_REMUS)
        return &plugin;
    file = fopen(host->options, "ae");
    if (!file) {
        snprintf(line, sizeof(line), "csv_observer: `%s' cannot be written: %s", host->options, strerror(errno));
        host->log(host, line);
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0 && ftell(file) == 0)
        fputs("epoch,pause_us,pages,stream_bytes,link_bytes,acknowledged_us,period_us\n", file);
    return &plugin;
}
