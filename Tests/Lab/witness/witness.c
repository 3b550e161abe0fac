/*
 * Sees what a guest's memory is at two moments, from within xl (/etc/ld.so.preload of a lab's host): when the primary resumes
 * it at an epoch's boundary, and when the backup lets its replica run. Each time a file in /tmp/witness gets a hash for every
 * page: "epoch-N" on the primary, of which the last few are kept, and "replica" on the backup. How many pages are looked at
 * stands in /tmp/witness/pages.
 *
 * The file: a hash of eight bytes for each page; 0 where there is none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FOLDER "/tmp/witness"
#define KEPT 8
#define BATCH 1024
#define PAGE 4096

typedef struct xc_interface_core xc_interface;

static int (*stock_resume)(xc_interface *, uint32_t, int);
static int (*stock_unpause)(xc_interface *, uint32_t);

static uint64_t hash(const uint64_t *page)
{
    uint64_t sum = 0x9E3779B97F4A7C15ull;

    for (int i = 0; i < PAGE / 8; i++)
        sum = (sum ^ page[i]) * 0xD6E8FEB86659FD93ull + (sum >> 31);
    return sum | 1;
}

static int look(uint32_t domain, unsigned long pages, FILE *file)
{
    void *library = dlopen("libxenforeignmemory.so.1", RTLD_NOW);
    void *(*open)(void *, unsigned) = dlsym(library, "xenforeignmemory_open");
    void *(*map)(void *, uint32_t, int, size_t, const uint64_t *, int *) = dlsym(library, "xenforeignmemory_map");
    int (*unmap)(void *, void *, size_t) = dlsym(library, "xenforeignmemory_unmap");
    int (*close)(void *) = dlsym(library, "xenforeignmemory_close");
    static uint64_t numbers[BATCH];
    static int errors[BATCH];
    void *handle;

    if (!open || !map || !unmap || !close)
        return -1;
    handle = open(NULL, 0);
    if (!handle)
        return -1;
    for (uint64_t first = 0; first < pages; first += BATCH) {
        size_t n = pages - first < BATCH ? pages - first : BATCH;
        char *mapped;

        for (size_t i = 0; i < n; i++)
            numbers[i] = first + i;
        mapped = map(handle, domain, PROT_READ, n, numbers, errors);
        for (size_t i = 0; i < n; i++) {
            uint64_t sum = mapped && !errors[i] ? hash((const uint64_t *)(mapped + i * PAGE)) : 0;

            fwrite(&sum, sizeof(sum), 1, file);
        }
        if (mapped)
            unmap(handle, mapped, n);
    }
    close(handle);
    return 0;
}

static void witness(uint32_t domain, const char *name)
{
    FILE *file = fopen(FOLDER "/pages", "r");
    unsigned long pages = 0;
    char path[64];
    int failed;

    if (!file)
        return;
    failed = fscanf(file, "%lu", &pages) != 1;
    fclose(file);
    file = failed ? NULL : fopen(FOLDER "/new", "w");
    if (!file)
        return;
    failed = look(domain, pages, file);
    if (fclose(file) || failed)
        return;
    snprintf(path, sizeof(path), FOLDER "/%s", name);
    rename(FOLDER "/new", path);
}

int xc_domain_resume(xc_interface *xch, uint32_t domain, int fast)
{
    static unsigned long epoch;
    char name[48];

    if (!stock_resume)
        stock_resume = dlsym(RTLD_NEXT, "xc_domain_resume");
    if (fast) {
        snprintf(name, sizeof(name), "epoch-%lu", ++epoch);
        witness(domain, name);
        if (epoch > KEPT) {
            snprintf(name, sizeof(name), FOLDER "/epoch-%lu", epoch - KEPT);
            unlink(name);
        }
    }
    return stock_resume(xch, domain, fast);
}

int xc_domain_unpause(xc_interface *xch, uint32_t domain)
{
    if (!stock_unpause)
        stock_unpause = dlsym(RTLD_NEXT, "xc_domain_unpause");
    witness(domain, "replica");
    return stock_unpause(xch, domain);
}
