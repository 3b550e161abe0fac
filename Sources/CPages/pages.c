#include "kernels.h"

#include <string.h>

/* 2 MiB: what a second cache holds. */
enum { MANY_PAGES = 500 };

static const struct romulus_kernels *best = &romulus_kernels_plain;

romulus_pages_level romulus_pages_best_level(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("popcnt"))
        return ROMULUS_PAGES_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("popcnt"))
        return ROMULUS_PAGES_AVX2;
#endif
    return ROMULUS_PAGES_PLAIN;
}

static const struct romulus_kernels *kernels_at(romulus_pages_level level)
{
    switch (level) {
#if defined(__x86_64__)
    case ROMULUS_PAGES_AVX512:
        return &romulus_kernels_avx512;
    case ROMULUS_PAGES_AVX2:
        return &romulus_kernels_avx2;
#endif
    default:
        return &romulus_kernels_plain;
    }
}

__attribute__((constructor))
static void choose(void)
{
    best = kernels_at(romulus_pages_best_level());
}

size_t romulus_delta(uint8_t *delta, const uint8_t *before, const uint8_t *now)
{
    return best->delta(delta, before, now);
}

bool romulus_apply_delta(uint8_t *page, const uint8_t *delta, size_t length)
{
    return best->apply(page, delta, length);
}

bool romulus_page_is_zero(const uint8_t *page)
{
    return best->is_zero(page);
}

static bool all_there(const uint8_t *const *pages, size_t count)
{
    while (count > 0 && pages[count - 1])
        count--;
    return count == 0;
}

uint8_t *romulus_copy_pages(uint8_t *target, const uint8_t *const *pages, size_t count)
{
    if (count >= MANY_PAGES && (uintptr_t)target % LINE_BYTES == 0 && all_there(pages, count)) {
        best->stream(target, pages, count);
        return target + count * ROMULUS_PAGE_BYTES;
    }
    for (size_t i = 0; i < count; i++) {
        if (!pages[i])
            continue;
        memcpy(target, pages[i], ROMULUS_PAGE_BYTES);
        target += ROMULUS_PAGE_BYTES;
    }
    return target;
}

size_t romulus_delta_at(romulus_pages_level level, uint8_t *delta, const uint8_t *before, const uint8_t *now)
{
    return kernels_at(level)->delta(delta, before, now);
}

bool romulus_apply_delta_at(romulus_pages_level level, uint8_t *page, const uint8_t *delta, size_t length)
{
    return kernels_at(level)->apply(page, delta, length);
}

bool romulus_page_is_zero_at(romulus_pages_level level, const uint8_t *page)
{
    return kernels_at(level)->is_zero(page);
}
