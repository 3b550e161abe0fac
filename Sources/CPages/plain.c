/* For every processor, and the meaning of the others. */
#include "kernels.h"

#include <string.h>

#define VECTOR

enum { WORD_BYTES = 8, LINE_WORDS = LINE_BYTES / WORD_BYTES };

static uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

static void store_word(uint8_t *bytes, uint64_t word)
{
    memcpy(bytes, &word, sizeof(word));
}

static size_t delta_of(uint8_t *delta, const uint8_t *before, const uint8_t *now)
{
    uint8_t *next = delta + 8;
    uint64_t lines = 0;

    for (int line = 0; line < LINES; line++) {
        uint8_t *bytes = next + 8;
        uint64_t changed = 0;

        if (!memcmp(before + line * LINE_BYTES, now + line * LINE_BYTES, LINE_BYTES))
            continue;
        for (int i = 0; i < LINE_BYTES; i++) {
            size_t offset = (size_t)line * LINE_BYTES + (size_t)i;
            uint8_t difference = before[offset] ^ now[offset];

            *bytes = difference;
            bytes += difference != 0;
            changed |= (uint64_t)(difference != 0) << i;
        }
        store_word(next, changed);
        lines |= UINT64_C(1) << line;
        next = bytes;
    }
    store_word(delta, lines);
    return (size_t)(next - delta);
}

static inline void apply_line(uint8_t *line, uint64_t changed, const uint8_t *bytes)
{
    for (; changed; changed &= changed - 1)
        line[__builtin_ctzll(changed)] ^= *bytes++;
}

#include "apply.h"

static bool is_zero(const uint8_t *page)
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
