/* For every processor, and the meaning of the others. */
#include "kernels.h"

#include <string.h>

/*
 * Without the vector registers that every x86-64 has: a processor that comes here today is most likely an emulated one, for
 * which the compiler's own vectors cost several times as much as words. On others words are hardly slower.
 */
#if defined(__x86_64__)
#define VECTOR __attribute__((target("general-regs-only")))
#else
#define VECTOR
#endif

enum { WORD_BYTES = 8, LINE_WORDS = LINE_BYTES / WORD_BYTES };

VECTOR static inline uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

VECTOR static inline void store_word(uint8_t *bytes, uint64_t word)
{
    memcpy(bytes, &word, sizeof(word));
}

/* A bit for each byte that is not zero. */
VECTOR static inline uint64_t changed_bytes(uint64_t word)
{
    const uint64_t low = UINT64_C(0x7F7F7F7F7F7F7F7F);
    uint64_t high = (((word & low) + low) | word) & ~low;

    return (high >> 7) * UINT64_C(0x0102040810204080) >> 56;
}

VECTOR static bool line_is_equal(const uint8_t *before, const uint8_t *now)
{
    uint64_t any = 0;

    for (int i = 0; i < LINE_BYTES; i += WORD_BYTES)
        any |= word_at(before + i) ^ word_at(now + i);
    return any == 0;
}

VECTOR static size_t delta_of(uint8_t *delta, const uint8_t *before, const uint8_t *now)
{
    uint8_t *next = delta + 8;
    uint64_t lines = 0;

    for (int line = 0; line < LINES; line++, before += LINE_BYTES, now += LINE_BYTES) {
        uint8_t *bytes = next + 8;
        uint64_t changed = 0;

        if (line_is_equal(before, now))
            continue;
        for (int i = 0; i < LINE_BYTES; i += WORD_BYTES) {
            uint64_t word = word_at(before + i) ^ word_at(now + i);
            uint64_t mask = changed_bytes(word);

            if (!word)
                continue;
            changed |= mask << i;
            if (mask == 0xFF) {
                store_word(bytes, word);
                bytes += WORD_BYTES;
                continue;
            }
            for (int byte = 0; byte < WORD_BYTES; byte++) {
                *bytes = (uint8_t)(word >> 8 * byte);
                bytes += mask >> byte & 1;
            }
        }
        store_word(next, changed);
        lines |= UINT64_C(1) << line;
        next = bytes;
    }
    store_word(delta, lines);
    return (size_t)(next - delta);
}

VECTOR static inline void apply_line(uint8_t *line, uint64_t changed, const uint8_t *bytes)
{
    for (; changed; changed &= changed - 1)
        line[__builtin_ctzll(changed)] ^= *bytes++;
}

#include "apply.h"

VECTOR static bool is_zero(const uint8_t *page)
{
    for (int line = 0; line < LINES; line++) {
        uint64_t all = 0;

        for (int i = 0; i < LINE_WORDS; i++)
            all |= word_at(page + line * LINE_BYTES + i * WORD_BYTES);
        if (all)
            return false;
    }
    return true;
}

static void stream(uint8_t *target, const uint8_t *const *pages, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy(target + i * ROMULUS_PAGE_BYTES, pages[i], ROMULUS_PAGE_BYTES);
}

const struct romulus_kernels romulus_kernels_plain = {
    delta_of, apply, is_zero, stream,
};
