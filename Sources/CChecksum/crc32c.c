#include "crc32c.h"

#include <string.h>

#if defined(__x86_64__)

bool romulus_crc32c_has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2")))
uint32_t romulus_crc32c_instruction(uint32_t state, const void *bytes, size_t length)
{
    const unsigned char *next = bytes;
    uint64_t wide = state;

    for (; length >= 8; next += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, next, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    state = (uint32_t)wide;
    for (; length > 0; next++, length--)
        state = __builtin_ia32_crc32qi(state, *next);
    return state;
}

#else

bool romulus_crc32c_has_instruction(void)
{
    return false;
}

uint32_t romulus_crc32c_instruction(uint32_t state, const void *bytes, size_t length)
{
    (void)bytes;
    (void)length;
    return state;
}

#endif
