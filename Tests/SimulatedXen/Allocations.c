/*
 * Counts what a save takes of the heap while its guest stands still: from reading the log of writes to the next look at the
 * domain, on the thread that does it.
 */
#include "internal.h"

#include <stdbool.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static __thread bool is_copying;

void copying(bool begins) {
    is_copying = begins;
}

static void count_one(void) {
    if (is_copying && domain)
        __atomic_fetch_add(&domain->copying_allocations, 1, __ATOMIC_RELAXED);
}

__attribute__((visibility("default"))) void *malloc(size_t size) {
    count_one();
    return __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size) {
    count_one();
    return __libc_calloc(count, size);
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t size) {
    count_one();
    return __libc_realloc(memory, size);
}
