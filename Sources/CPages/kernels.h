/* One set of inner loops; each file beside this one has one for some processors. */
#ifndef ROMULUS_KERNELS_H
#define ROMULUS_KERNELS_H

#include "pages.h"

struct romulus_kernels {
    size_t (*delta)(uint8_t *, const uint8_t *, const uint8_t *);
    bool (*apply)(uint8_t *, const uint8_t *, size_t);
    bool (*is_zero)(const uint8_t *);
    /* Of pages that are there, to a target that is aligned to a line. */
    void (*stream)(uint8_t *, const uint8_t *const *, size_t);
};

enum { LINE_BYTES = 64, LINES = ROMULUS_PAGE_BYTES / LINE_BYTES };

extern const struct romulus_kernels romulus_kernels_plain;
#if defined(__x86_64__)
extern const struct romulus_kernels romulus_kernels_avx2;
extern const struct romulus_kernels romulus_kernels_avx512;
#endif

#endif
