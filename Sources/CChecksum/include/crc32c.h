/*
 * The CRC32C instruction, which Swift has no name for.
 * Polynomial and bit order as in RFC 3720, section 12.1 (reflected 0x82F63B78).
 */
#ifndef ROMULUS_CRC32C_H
#define ROMULUS_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when this processor has the instruction; decided once, at the first call. */
bool romulus_crc32c_has_instruction(void);

/* Continues `state` (not inverted at either end) over `length` bytes. Call only when the instruction is there. */
uint32_t romulus_crc32c_instruction(uint32_t state, const void *bytes, size_t length);

#endif
