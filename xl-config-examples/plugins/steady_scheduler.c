/*
 * A scheduler that aims at a share of the guest's time: its pauses shall take no more than so many per cent of it. A guest
 * that is idle is checkpointed often, and its output does not wait for long; one that writes much is not stopped all the time.
 *
 *     plugin = [ "/usr/local/lib/romulus/steady_scheduler.so 10" ]
 *
 * in /etc/xen/romulus.conf on the primary: 10 %, which is also the default. The period stays within 20 ms and 2 s.
 *
 *     cc -std=c99 -fPIC -shared -Wall -Wextra -o steady_scheduler.so steady_scheduler.c
 */
#include <romulus.h>

#include <stdlib.h>

#define SHORTEST_NS UINT64_C(20000000)
#define LONGEST_NS UINT64_C(2000000000)
/* How many epochs it takes until one has all but been forgotten. */
#define MEMORY 8

static uint64_t percent = 10;
static uint64_t mean_pause_ns;

static uint64_t schedule(void *self, const struct romulus_epoch *epoch, uint64_t period_ns)
{
    uint64_t period;

    (void)self;
    (void)period_ns; /* What Romulus, or a plugin before this one, would have done. */
    /* The first epoch is the whole guest, and says nothing of the others. */
    if (epoch->epoch == 1)
        return 0;
    mean_pause_ns = mean_pause_ns ? (mean_pause_ns * (MEMORY - 1) + epoch->pause_ns) / MEMORY : epoch->pause_ns;
    period = mean_pause_ns * 100 / percent;
    return period < SHORTEST_NS ? SHORTEST_NS : period > LONGEST_NS ? LONGEST_NS : period;
}

static const struct romulus_plugin plugin = {
    .size = sizeof(plugin),
    .abi = ROMULUS_PLUGIN_ABI,
    .name = "steady_scheduler",
    .schedule = schedule,
};

const struct romulus_plugin *romulus_plugin(uint32_t abi, const struct romulus_host *host)
{
    if (abi != ROMULUS_PLUGIN_ABI)
        return NULL;
    if (*host->options) {
        percent = strtoul(host->options, NULL, 10);
        if (percent < 1 || percent > 90) {
            host->log(host, "steady_scheduler: its option is a percentage from 1 to 90");
            return NULL;
        }
    }
    return &plugin;
}
