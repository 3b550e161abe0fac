/* The inner loops over pages of 4096 bytes: what Swift cannot choose at run time by the processor. */
#ifndef ROMULUS_PAGES_H
#define ROMULUS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROMULUS_PAGE_BYTES 4096

/* How much room a delta needs, whatever the pages hold: the vector code writes whole vectors. */
enum { ROMULUS_DELTA_ROOM = 8 + 64 * (8 + 64) + 64 };

/*
 * A delta is the XOR of two pages without its zeroes. It begins with a little-endian mask of 64 bits, one for each line of
 * 64 bytes. For each line that has changed follow, in order, a mask of its 64 bytes, and the XOR of those that have changed.
 * So eight bytes of zeroes are two equal pages.
 *
 * Returns the delta's length in bytes; `delta` has ROMULUS_DELTA_ROOM bytes.
 */
size_t romulus_delta(uint8_t *delta, const uint8_t *before, const uint8_t *now);

/* Turns `page` into what it has become. False where `delta` is not a delta of exactly that length; the page is then neither
 * the one nor the other. */
bool romulus_apply_delta(uint8_t *page, const uint8_t *delta, size_t length);

bool romulus_page_is_zero(const uint8_t *page);

/*
 * Puts pages from anywhere one behind the other; those that are NULL are left out. Many pages at a target that is aligned to a
 * line go past the caches, since nobody looks at them before the last is there.
 *
 * Returns the end of what was written.
 */
uint8_t *romulus_copy_pages(uint8_t *target, const uint8_t *const *pages, size_t count);

/* The best that this processor has is used. Tests and benchmarks may ask for what it has beside that. */
typedef enum {
    ROMULUS_PAGES_PLAIN,
    ROMULUS_PAGES_AVX2,
    ROMULUS_PAGES_AVX512,
} romulus_pages_level;

romulus_pages_level romulus_pages_best_level(void);
size_t romulus_delta_at(romulus_pages_level level, uint8_t *delta, const uint8_t *before, const uint8_t *now);
bool romulus_apply_delta_at(romulus_pages_level level, uint8_t *page, const uint8_t *delta, size_t length);
bool romulus_page_is_zero_at(romulus_pages_level level, const uint8_t *page);

#endif
