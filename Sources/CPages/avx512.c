/* AVX-512 with VBMI2: a line of 64 bytes is one vector, and what has changed of it is squeezed together in one step. */
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define VECTOR __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi,bmi2")))

/* Lines that are looked at together: in most pages most have not changed. */
enum { GROUP_LINES = 4 };

VECTOR static inline __m512i difference(const uint8_t *before, const uint8_t *now, int line)
{
    return _mm512_xor_si512(_mm512_loadu_si512(before + line * LINE_BYTES), _mm512_loadu_si512(now + line * LINE_BYTES));
}

VECTOR static inline bool group_is_equal(const __m512i lines[GROUP_LINES])
{
    __m512i any = _mm512_or_si512(_mm512_or_si512(lines[0], lines[1]), _mm512_or_si512(lines[2], lines[3]));

    return _mm512_test_epi64_mask(any, any) == 0;
}

VECTOR static size_t delta_of(uint8_t *delta, const uint8_t *before, const uint8_t *now)
{
    uint8_t *next = delta + 8;
    uint64_t lines = 0;

    for (int group = 0; group < LINES; group += GROUP_LINES) {
        __m512i differences[GROUP_LINES];

        for (int i = 0; i < GROUP_LINES; i++)
            differences[i] = difference(before, now, group + i);
        if (group_is_equal(differences))
            continue;
        for (int i = 0; i < GROUP_LINES; i++) {
            uint64_t changed = _mm512_test_epi8_mask(differences[i], differences[i]);

            memcpy(next, &changed, sizeof(changed));
            _mm512_storeu_si512(next + 8, _mm512_maskz_compress_epi8(changed, differences[i]));
            lines |= (uint64_t)(changed != 0) << (group + i);
            next += changed ? 8 + _mm_popcnt_u64(changed) : 0;
        }
    }
    memcpy(delta, &lines, sizeof(lines));
    return (size_t)(next - delta);
}

VECTOR static inline void apply_line(uint8_t *line, uint64_t changed, const uint8_t *bytes)
{
    __mmask64 there = _bzhi_u64(~UINT64_C(0), (unsigned int)_mm_popcnt_u64(changed));
    __m512i difference = _mm512_maskz_expand_epi8(changed, _mm512_maskz_loadu_epi8(there, bytes));

    _mm512_storeu_si512(line, _mm512_xor_si512(_mm512_loadu_si512(line), difference));
}

#include "apply.h"

VECTOR static bool is_zero(const uint8_t *page)
{
    for (int group = 0; group < LINES; group += GROUP_LINES) {
        __m512i lines[GROUP_LINES];

        for (int i = 0; i < GROUP_LINES; i++)
            lines[i] = _mm512_loadu_si512(page + (group + i) * LINE_BYTES);
        if (!group_is_equal(lines))
            return false;
    }
    return true;
}

VECTOR static void stream(uint8_t *target, const uint8_t *const *pages, size_t count)
{
    for (size_t i = 0; i < count; i++, target += ROMULUS_PAGE_BYTES) {
        /* The processor does not look beyond a page's end by itself. */
        const uint8_t *ahead = pages[i + 1 < count ? i + 1 : i];

        for (int line = 0; line < LINES; line++) {
            __builtin_prefetch(ahead + line * LINE_BYTES);
            _mm512_stream_si512((void *)(target + line * LINE_BYTES), _mm512_loadu_si512(pages[i] + line * LINE_BYTES));
        }
    }
    _mm_sfence();
}

const struct romulus_kernels romulus_kernels_avx512 = {
    delta_of, apply, is_zero, stream,
};

#endif
