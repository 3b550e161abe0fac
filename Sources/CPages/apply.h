/*
 * Reading a delta, which comes from outside: the one place where its lengths are checked. Included by each set of inner loops
 * behind its VECTOR, and behind its own
 *
 *   apply_line(line, changed, bytes): the line of 64 bytes becomes what it is with the XOR of the changed bytes, which are there.
 */
VECTOR static bool apply(uint8_t *page, const uint8_t *delta, size_t length)
{
    const uint8_t *next = delta + 8;
    const uint8_t *end = delta + length;
    uint64_t lines;

    if (length < 8)
        return false;
    memcpy(&lines, delta, sizeof(lines));
    for (; lines; lines &= lines - 1) {
        uint8_t *line = page + __builtin_ctzll(lines) * LINE_BYTES;
        uint64_t changed;

        if (end - next < 8)
            return false;
        memcpy(&changed, next, sizeof(changed));
        next += 8;
        if (!changed || end - next < __builtin_popcountll(changed))
            return false;
        apply_line(line, changed, next);
        next += __builtin_popcountll(changed);
    }
    return next == end;
}
