/*
 * The domains of this host, as xl lists them, without a process for it: the lab asks several times a second while it waits for a
 * guest, and an emulated host has better things to do meanwhile.
 *
 * Linked with the libraries of the machine that makes the images, whose Xen must be the hosts'.
 */
#include "domains.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>
#include <xenstore.h>

#define MOST_DOMAINS 64

static char letter(const xc_domaininfo_t *one, uint32_t flag, char set)
{
    return one->flags & flag ? set : '-';
}

/* For good: as xl shows it, a guest that has suspended has shut down, and one that has crashed has crashed beside it. */
static char crashed(const xc_domaininfo_t *one)
{
    unsigned reason = (one->flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
    return one->flags & XEN_DOMINF_shutdown && reason == SHUTDOWN_crash ? 'c' : '-';
}

static void print(int fd, struct xs_handle *store, const xc_domaininfo_t *one)
{
    char path[64];
    snprintf(path, sizeof(path), "/local/domain/%u/name", one->domain);
    char *name = xs_read(store, XBT_NULL, path, NULL);
    dprintf(fd, "%s %u %lu %u %c%c%c%c%c%c %.1f\n", name ? name : "(null)", one->domain,
            (unsigned long)(one->tot_pages >> 8), one->nr_online_vcpus, letter(one, XEN_DOMINF_running, 'r'),
            letter(one, XEN_DOMINF_blocked, 'b'), letter(one, XEN_DOMINF_paused, 'p'), letter(one, XEN_DOMINF_shutdown, 's'),
            crashed(one), letter(one, XEN_DOMINF_dying, 'd'), one->cpu_time / 1e9);
    free(name);
}

int list_domains(int fd)
{
    xc_interface *interface = xc_interface_open(NULL, NULL, 0);
    struct xs_handle *store = xs_open(0);
    static __thread xc_domaininfo_t found[MOST_DOMAINS];
    int count = interface && store ? xc_domain_getinfolist(interface, 0, MOST_DOMAINS, found) : -1;
    if (count < 0)
        dprintf(fd, "the domains cannot be listed: %s\n", strerror(errno));
    for (int i = 0; i < count; i++)
        print(fd, store, &found[i]);
    if (store)
        xs_close(store);
    if (interface)
        xc_interface_close(interface);
    return count < 0;
}
