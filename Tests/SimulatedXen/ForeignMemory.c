/* libxenforeignmemory: the guest's pages are pages of the domain's file. And libxendevicemodel, of which
 * xc_interface_open wants a handle. */
#define _GNU_SOURCE
#define __XEN_TOOLS__ 1

#include "internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <xen/memory.h>
#include <xendevicemodel.h>
#include <xenforeignmemory.h>

xenforeignmemory_handle *xenforeignmemory_open(xentoollog_logger *logger, unsigned open_flags) {
    (void)logger, (void)open_flags;
    return open_handle();
}

int xenforeignmemory_close(xenforeignmemory_handle *fmem) {
    (void)fmem;
    return 0;
}

int xenforeignmemory_restrict(xenforeignmemory_handle *fmem, domid_t domid) {
    (void)fmem, (void)domid;
    return 0;
}

/* What is mapped where, so that unmapping lets go of the same frames. */
static struct mapping {
    void *addr;
    size_t pages;
    uint32_t *frames; /* and one; 0 for a page that could not be mapped */
    struct mapping *next;
} *mappings;
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;

static void pin(uint32_t frame, int by) {
    if (frame)
        __atomic_add_fetch(&simxen_frames(domain)[frame - 1].pins, (uint32_t)by, __ATOMIC_SEQ_CST);
}

static void remember(void *addr, size_t pages, uint32_t *frames) {
    struct mapping *m = malloc(sizeof(*m));
    if (!m)
        abort();
    *m = (struct mapping){.addr = addr, .pages = pages, .frames = frames};
    for (size_t i = 0; i < pages; i++)
        pin(frames[i], 1);
    pthread_mutex_lock(&mappings_lock);
    m->next = mappings;
    mappings = m;
    pthread_mutex_unlock(&mappings_lock);
}

static void forget(void *addr) {
    pthread_mutex_lock(&mappings_lock);
    struct mapping **at = &mappings;
    while (*at && (*at)->addr != addr)
        at = &(*at)->next;
    struct mapping *m = *at;
    if (m)
        *at = m->next;
    pthread_mutex_unlock(&mappings_lock);
    if (!m)
        return;
    for (size_t i = 0; i < m->pages; i++)
        pin(m->frames[i], -1);
    free(m->frames);
    free(m);
}

/* Replaces `pages` pages at `at` by the guest's frames from `first` on, which are consecutive. */
static int map_run(uint8_t *at, int prot, uint64_t first, size_t pages) {
    off_t offset = (off_t)(domain->memory_offset + first * PAGE);
    return mmap(at, pages * PAGE, prot, MAP_SHARED | MAP_FIXED, domain_fd, offset) == MAP_FAILED ? errno : 0;
}

static int mappable(xen_pfn_t n) {
    return n < domain->page_count &&
           (simxen_types(domain)[n] == SIMXEN_PAGE_RAM || simxen_types(domain)[n] == SIMXEN_PAGE_XEN);
}

void *xenforeignmemory_map2(xenforeignmemory_handle *fmem, uint32_t dom, void *addr, int prot, int flags, size_t pages,
                            const xen_pfn_t arr[], int err[]) {
    (void)fmem;
    int error = begin(SIMXEN_CALL_MAP);
    if (!error && dom != domain->domid)
        error = ESRCH;
    if (!error && (pages == 0 || pages > MAX_MAPPED_PAGES))
        error = EINVAL;
    if (error) {
        errno = error;
        return NULL;
    }
    uint8_t *base = mmap(addr, pages * PAGE, PROT_NONE, flags | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint32_t *frames = calloc(pages, sizeof(*frames));
    if (base == MAP_FAILED || !frames) {
        free(frames);
        return NULL;
    }
    for (size_t i = 0; i < pages && !error;) {
        size_t run = 1;
        if (!mappable(arr[i])) {
            /* A page that cannot be mapped is the caller's to see; without err[] it fails the whole call. */
            if (err)
                err[i] = -EINVAL;
            else
                error = EINVAL;
            i++;
            continue;
        }
        uint64_t first = simxen_frame_of(domain, arr[i]);
        while (i + run < pages && mappable(arr[i + run]) && simxen_frame_of(domain, arr[i + run]) == first + run)
            run++;
        error = map_run(base + i * PAGE, prot, first, run);
        for (size_t j = 0; j < run; j++) {
            frames[i + j] = (uint32_t)(first + j + 1);
            if (err)
                err[i + j] = 0;
        }
        i += run;
    }
    if (error) {
        munmap(base, pages * PAGE);
        free(frames);
        errno = error;
        return NULL;
    }
    remember(base, pages, frames);
    __atomic_add_fetch(&domain->pages_mapped, pages, __ATOMIC_SEQ_CST);
    return base;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages, const xen_pfn_t arr[],
                           int err[]) {
    return xenforeignmemory_map2(fmem, dom, NULL, prot, 0, pages, arr, err);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages) {
    (void)fmem;
    int error = begin(SIMXEN_CALL_UNMAP);
    if (error) {
        errno = error;
        return -1;
    }
    forget(addr);
    return munmap(addr, pages * PAGE);
}

struct xenforeignmemory_resource_handle {
    void *addr;
};

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(xenforeignmemory_handle *fmem, domid_t domid,
                                                                unsigned int type, unsigned int id,
                                                                unsigned long frame, unsigned long nr_frames,
                                                                void **paddr, int prot, int flags) {
    (void)fmem, (void)flags;
    int error = begin(SIMXEN_CALL_MAP_RESOURCE);
    if (!error && domid != domain->domid)
        error = ESRCH;
    if (!error && (type != XENMEM_resource_grant_table || id != XENMEM_resource_grant_table_id_shared || frame != 0 ||
                   nr_frames != 1))
        error = EINVAL;
    xenforeignmemory_resource_handle *handle = error ? NULL : malloc(sizeof(*handle));
    if (!handle) {
        errno = error ? error : ENOMEM;
        return NULL;
    }
    handle->addr = mmap(NULL, PAGE, prot, MAP_SHARED, domain_fd, (off_t)domain->grant_offset);
    if (handle->addr == MAP_FAILED) {
        free(handle);
        return NULL;
    }
    *paddr = handle->addr;
    return handle;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem, xenforeignmemory_resource_handle *fres) {
    (void)fmem;
    if (!fres)
        return 0;
    int result = munmap(fres->addr, PAGE);
    free(fres);
    return result;
}

xendevicemodel_handle *xendevicemodel_open(struct xentoollog_logger *logger, unsigned int open_flags) {
    (void)logger, (void)open_flags;
    return open_handle();
}

int xendevicemodel_close(xendevicemodel_handle *dmod) {
    (void)dmod;
    return 0;
}

/* A device model's writes, into the log; of pages that are not there Xen takes no notice. */
int xendevicemodel_modified_memory(xendevicemodel_handle *dmod, domid_t domid, uint64_t first_pfn, uint32_t nr) {
    (void)dmod;
    uint64_t past_last;
    int error = begin(SIMXEN_CALL_MODIFIED_MEMORY);
    if (!error && domid != domain->domid)
        error = ESRCH;
    if (!error && simxen_load(&domain->log_dirty)) {
        populated_pages(&past_last);
        if (nr == 0 || first_pfn + nr > past_last - 1)
            error = EINVAL;
    }
    if (error) {
        errno = error;
        return -1;
    }
    for (uint64_t n = first_pfn; simxen_load(&domain->log_dirty) && n < first_pfn + nr; n++)
        if (mappable(n))
            simxen_set_dirty_bit(domain, n);
    return 0;
}
