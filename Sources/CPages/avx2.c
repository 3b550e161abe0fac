/* AVX2 with BMI2: what has changed is found half a line at a time, and squeezed together a word at a time by PEXT. */
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define VECTOR __attribute__((target("avx2,popcnt,bmi,bmi2")))

enum { HALF_BYTES = 32, GROUP_HALVES = 8, LINE_HALVES = 2 };

VECTOR static inline __m256i half_at(const uint8_t *bytes, int half)
{
    return _mm256_loadu_si256((const __m256i *)(bytes + half * HALF_BYTES));
}

VECTOR static inline bool group_is_zero(const __m256i halves[GROUP_HALVES])
{
    __m256i any = halves[0];

    for (int i = 1; i < GROUP_HALVES; i++)
        any = _mm256_or_si256(any, halves[i]);
    return _mm256_testz_si256(any, any);
}

VECTOR static inline uint32_t changed_bytes(__m256i half)
{
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(half, _mm256_setzero_si256()));
}

/* A byte of ones for every set bit. */
VECTOR static inline uint64_t spread(uint8_t mask)
{
    return _pdep_u64(mask, UINT64_C(0x0101010101010101)) * 0xFF;
}

VECTOR static size_t delta_of(uint8_t *delta, const uint8_t *before, const uint8_t *now)
{
    uint8_t *next = delta + 8;
    uint64_t lines = 0;

    for (int line = 0; line < LINES; line++) {
        __m256i low = _mm256_xor_si256(half_at(before, 2 * line), half_at(now, 2 * line));
        __m256i high = _mm256_xor_si256(half_at(before, 2 * line + 1), half_at(now, 2 * line + 1));
        uint64_t changed = changed_bytes(low) | (uint64_t)changed_bytes(high) << 32;
        uint64_t words[LINE_BYTES / 8];
        uint8_t *bytes = next + 8;

        if (!changed)
            continue;
        _mm256_storeu_si256((__m256i *)words, low);
        _mm256_storeu_si256((__m256i *)(words + 4), high);
        memcpy(next, &changed, sizeof(changed));
        for (int i = 0; i < LINE_BYTES / 8; i++) {
            uint8_t mask = (uint8_t)(changed >> (8 * i));
            uint64_t gathered = _pext_u64(words[i], spread(mask));

            memcpy(bytes, &gathered, sizeof(gathered));
            bytes += _mm_popcnt_u32(mask);
        }
        lines |= UINT64_C(1) << line;
        next = bytes;
    }
    memcpy(delta, &lines, sizeof(lines));
    return (size_t)(next - delta);
}

VECTOR static bool is_zero(const uint8_t *page)
{
    for (int group = 0; group < LINES * LINE_HALVES; group += GROUP_HALVES) {
        __m256i halves[GROUP_HALVES];

        for (int i = 0; i < GROUP_HALVES; i++)
            halves[i] = half_at(page, group + i);
        if (!group_is_zero(halves))
            return false;
    }
    return true;
}

VECTOR static inline void apply_line(uint8_t *line, uint64_t changed, const uint8_t *bytes)
{
    for (int i = 0; i < LINE_BYTES / 8; i++) {
        uint8_t mask = (uint8_t)(changed >> (8 * i));
        size_t count = (size_t)_mm_popcnt_u32(mask);
        uint64_t gathered = 0;
        uint64_t word;

        memcpy(&gathered, bytes, count);
        memcpy(&word, line + 8 * i, sizeof(word));
        word ^= _pdep_u64(gathered, spread(mask));
        memcpy(line + 8 * i, &word, sizeof(word));
        bytes += count;
    }
}

#include "apply.h"

VECTOR static void stream(uint8_t *target, const uint8_t *const *pages, size_t count)
{
    for (size_t i = 0; i < count; i++, target += ROMULUS_PAGE_BYTES) {
        /* The processor does not look beyond a page's end by itself. */
        const uint8_t *ahead = pages[i + 1 < count ? i + 1 : i];

        for (int half = 0; half < LINES * LINE_HALVES; half++) {
            if (half % LINE_HALVES == 0)
                __builtin_prefetch(ahead + half * HALF_BYTES);
            _mm256_stream_si256((__m256i *)(target + half * HALF_BYTES), half_at(pages[i], half));
        }
    }
    _mm_sfence();
}

const struct romulus_kernels romulus_kernels_avx2 = {
    delta_of, apply, is_zero, stream,
};

#endif
