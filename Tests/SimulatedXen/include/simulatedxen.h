/*
 * A domain that exists only as a file.
 *
 * libsimulatedxen.so, preloaded into libxl-save-helper, answers hypercalls and foreign maps from this file; a test maps
 * the same file and plays the guest. The file is one struct simxen_domain, then areas at the offsets it names:
 *
 *     0                 struct simxen_domain
 *     context_offset    HVM context, context_length bytes in use
 *     policy_offset     struct simxen_policy: what the last set_cpu_policy carried
 *     grant_offset      grant table frame 0, one page
 *     types_offset      one octet for each page: enum simxen_page_type
 *     dirty_offset      log-dirty bitmap, page n is bit n % 64 of word n / 64
 *     frames_offset     struct simxen_frame for each frame
 *     memory_offset     the memory, frame f at f * SIMXEN_PAGE_LENGTH; page n is frame n until it is given back
 *
 * Every field that changes while a helper runs is read and written through the functions below, which are atomic.
 */
#ifndef SIMULATEDXEN_H
#define SIMULATEDXEN_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define SIMXEN_MAGIC 0x3130584d49534e58ULL
#define SIMXEN_VERSION 5u
#define SIMXEN_PAGE_LENGTH 4096u
#define SIMXEN_CONTEXT_CAPACITY 65536u
#define SIMXEN_PARAM_COUNT 64u
#define SIMXEN_MAX_PAGES (1ULL << 24)
/* For pages that are populated anew: a frame is used once. */
#define SIMXEN_SPARE_FRAMES 256u
#define SIMXEN_MAX_LEAVES 512u
#define SIMXEN_MAX_MSRS 16u

/* Shutdown reason of a suspended guest: SHUTDOWN_suspend of xen/sched.h. */
#define SIMXEN_SHUTDOWN_SUSPEND 2u
/* And of one that has crashed, SHUTDOWN_crash: to Xen one more reason to shut down, to libxenctrl no shutdown at all. */
#define SIMXEN_SHUTDOWN_CRASH 3u

enum simxen_page_type {
    SIMXEN_PAGE_HOLE = 0,   /* not populated: no data in a stream, cannot be mapped */
    SIMXEN_PAGE_RAM = 1,
    SIMXEN_PAGE_BROKEN = 2, /* lost to a machine check: no data in a stream */
    SIMXEN_PAGE_XEN = 3,    /* Xen's own, such as the shared info: as a hole, but it can be mapped */
};

/*
 * What can be counted and made to fail: hypercalls, under the name of the libxenctrl function that makes them. The
 * order is that of simxen_call_names in Domain.c.
 */
enum simxen_call {
    SIMXEN_CALL_XENCALL_OPEN,
    SIMXEN_CALL_VERSION,
    SIMXEN_CALL_GETINFO,
    SIMXEN_CALL_PAUSE,
    SIMXEN_CALL_UNPAUSE,
    SIMXEN_CALL_RESUME,
    SIMXEN_CALL_SHADOW_CONTROL,
    SIMXEN_CALL_LOGDIRTY_CONTROL,
    SIMXEN_CALL_GET_PFN_TYPES,
    SIMXEN_CALL_MAP,
    SIMXEN_CALL_UNMAP,
    SIMXEN_CALL_MAP_RESOURCE,
    SIMXEN_CALL_NR_GPFNS,
    SIMXEN_CALL_POPULATE,
    SIMXEN_CALL_GET_CONTEXT,
    SIMXEN_CALL_SET_CONTEXT,
    SIMXEN_CALL_GET_PARAM,
    SIMXEN_CALL_SET_PARAM,
    SIMXEN_CALL_GET_TSC,
    SIMXEN_CALL_SET_TSC,
    SIMXEN_CALL_GET_VCPU,
    SIMXEN_CALL_SET_VCPU,
    SIMXEN_CALL_MODIFIED_MEMORY,
    SIMXEN_CALL_GET_POD,
    SIMXEN_CALL_POLICY_SIZE,
    SIMXEN_CALL_GET_POLICY,
    SIMXEN_CALL_SET_POLICY,
    SIMXEN_CALL_UNKNOWN, /* a hypercall this file has no answer for: ENOSYS, and unknown_* say which */
    SIMXEN_CALL_COUNT,
};

struct simxen_domain {
    uint64_t magic;
    uint32_t version;
    uint32_t domid;
    uint64_t page_count; /* the most pages the domain can have; its last populated page decides nr_gpfns */

    uint64_t context_offset;
    uint64_t policy_offset;
    uint64_t grant_offset;
    uint64_t types_offset;
    uint64_t dirty_offset;
    uint64_t frames_offset;
    uint64_t memory_offset;
    uint64_t file_length;

    /* State. The guest runs while shutdown and pause_count are zero. */
    uint32_t shutdown;
    uint32_t shutdown_reason;
    uint32_t pause_count;
    uint32_t dying;
    uint32_t log_dirty;
    uint32_t guests_writing; /* guest threads between simxen_guest_enter and simxen_guest_leave */
    uint32_t context_length;
    uint32_t spares_used;
    uint32_t unlogged_frames; /* populated since the log was read last */
    uint32_t pad;

    uint64_t waiting_pages; /* counted as the guest's, and in no frame: Xen's cache for populate-on-demand */
    uint64_t other_pages;   /* the same, and nobody knows why */
    /* Page late_page comes into being, filled from late_seed, when so many types have been asked for; 0 is never. */
    uint64_t late_after;
    uint64_t late_page;
    uint64_t late_seed;

    uint64_t copying_allocations; /* of the heap, by whoever copied the suspended guest */

    uint32_t tsc_mode;
    uint32_t tsc_khz;
    uint64_t tsc_nanoseconds;
    uint32_t tsc_incarnation;

    /* One fault set while a helper runs: the next fault_times calls of fault_call fail with fault_errno. */
    uint32_t fault_call;
    uint32_t fault_errno;
    uint32_t fault_times;

    uint64_t params[SIMXEN_PARAM_COUNT];

    /* What was asked, since the file was made. */
    uint64_t calls[SIMXEN_CALL_COUNT];
    uint64_t pages_mapped;
    uint64_t types_asked; /* frame numbers in all GET_PFN_TYPES */
    uint64_t unknown_hypercall;
    uint64_t unknown_command;
};

struct simxen_policy {
    uint32_t leaf_count;
    uint32_t msr_count;
    uint8_t leaves[SIMXEN_MAX_LEAVES * 24]; /* xen_cpuid_leaf_t */
    uint8_t msrs[SIMXEN_MAX_MSRS * 16];     /* xen_msr_entry_t */
};

struct simxen_frame {
    uint32_t page_frame; /* of the page with this number: its frame and one, or 0 for the frame with the same number */
    uint32_t pins;       /* foreign mappings of this frame */
    uint32_t retired;    /* given back by the guest, and still its own while it is pinned */
    uint32_t unlogged;   /* populated since the log was read last: writes to it are not logged */
};

static inline uint64_t simxen_frame_count(uint64_t page_count) { return page_count + SIMXEN_SPARE_FRAMES; }

static inline uint64_t simxen_round_to_page(uint64_t length) {
    return (length + SIMXEN_PAGE_LENGTH - 1) / SIMXEN_PAGE_LENGTH * SIMXEN_PAGE_LENGTH;
}

/* The bitmap's length in octets: whole words. */
static inline uint64_t simxen_bitmap_length(uint64_t page_count) { return (page_count + 63) / 64 * 8; }

/* Fills `d` for a domain of `page_count` holes; the file must then have d->file_length octets, zeros after `d`. */
static inline void simxen_lay_out(struct simxen_domain *d, uint32_t domid, uint64_t page_count) {
    memset(d, 0, sizeof(*d));
    d->magic = SIMXEN_MAGIC;
    d->version = SIMXEN_VERSION;
    d->domid = domid;
    d->page_count = page_count;
    d->context_offset = simxen_round_to_page(sizeof(*d));
    d->policy_offset = d->context_offset + SIMXEN_CONTEXT_CAPACITY;
    d->grant_offset = d->policy_offset + simxen_round_to_page(sizeof(struct simxen_policy));
    d->types_offset = d->grant_offset + SIMXEN_PAGE_LENGTH;
    d->dirty_offset = d->types_offset + simxen_round_to_page(page_count);
    d->frames_offset = d->dirty_offset + simxen_round_to_page(simxen_bitmap_length(page_count));
    d->memory_offset =
        d->frames_offset + simxen_round_to_page(simxen_frame_count(page_count) * sizeof(struct simxen_frame));
    d->file_length = d->memory_offset + simxen_frame_count(page_count) * SIMXEN_PAGE_LENGTH;
}

static inline uint8_t *simxen_context(struct simxen_domain *d) { return (uint8_t *)d + d->context_offset; }
static inline struct simxen_policy *simxen_policy_of(struct simxen_domain *d) {
    return (struct simxen_policy *)((uint8_t *)d + d->policy_offset);
}
static inline uint8_t *simxen_grant_frame(struct simxen_domain *d) { return (uint8_t *)d + d->grant_offset; }
static inline uint8_t *simxen_types(struct simxen_domain *d) { return (uint8_t *)d + d->types_offset; }
static inline uint64_t *simxen_dirty_words(struct simxen_domain *d) {
    return (uint64_t *)((uint8_t *)d + d->dirty_offset);
}
static inline struct simxen_frame *simxen_frames(struct simxen_domain *d) {
    return (struct simxen_frame *)((uint8_t *)d + d->frames_offset);
}
/* The frame of page n; n < page_count is the caller's duty. */
static inline uint64_t simxen_frame_of(struct simxen_domain *d, uint64_t n) {
    uint32_t frame = __atomic_load_n(&simxen_frames(d)[n].page_frame, __ATOMIC_SEQ_CST);
    return frame ? frame - 1 : n;
}
static inline uint8_t *simxen_page(struct simxen_domain *d, uint64_t n) {
    return (uint8_t *)d + d->memory_offset + simxen_frame_of(d, n) * SIMXEN_PAGE_LENGTH;
}

static inline uint32_t simxen_load(const uint32_t *field) { return __atomic_load_n(field, __ATOMIC_SEQ_CST); }
static inline void simxen_store(uint32_t *field, uint32_t value) { __atomic_store_n(field, value, __ATOMIC_SEQ_CST); }

static inline void simxen_set_dirty_bit(struct simxen_domain *d, uint64_t n) {
    if (simxen_load(&d->log_dirty))
        __atomic_fetch_or(simxen_dirty_words(d) + n / 64, 1ULL << (n % 64), __ATOMIC_SEQ_CST);
}

/*
 * The guest wrote page n. Call it after the write: a helper that cleans the bitmap in between then finds the bit in the
 * next round, as it would with real page faults. Nothing is recorded while log-dirty is off, nor of a page that came into
 * being since the log was read last.
 */
static inline void simxen_mark_dirty(struct simxen_domain *d, uint64_t n) {
    if (!simxen_load(&simxen_frames(d)[simxen_frame_of(d, n)].unlogged))
        simxen_set_dirty_bit(d, n);
}

/*
 * Page n is there, in its frame. Xen 4.17 notes that in no log (p2m_add_page; since 4.22, 4.21.1, 4.20.3 and 4.19.5 it
 * does), and lets the guest write to it without a fault until the log is read, or switched on, the next time.
 */
static inline void simxen_appear(struct simxen_domain *d, uint64_t n) {
    simxen_store(&simxen_frames(d)[simxen_frame_of(d, n)].unlogged, 1);
    __atomic_add_fetch(&d->unlogged_frames, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(simxen_types(d) + n, (uint8_t)SIMXEN_PAGE_RAM, __ATOMIC_SEQ_CST);
}

/* The log is read or switched on: from here on every page's writes are logged. */
static inline void simxen_log_all(struct simxen_domain *d) {
    if (!__atomic_exchange_n(&d->unlogged_frames, 0, __ATOMIC_SEQ_CST))
        return;
    for (uint64_t f = 0; f < simxen_frame_count(d->page_count); f++)
        simxen_store(&simxen_frames(d)[f].unlogged, 0);
}

/* The guest's balloon grows by page n. Who has it mapped keeps it, and it stays counted as the guest's as long. */
static inline void simxen_give_back(struct simxen_domain *d, uint64_t n) {
    simxen_types(d)[n] = SIMXEN_PAGE_HOLE;
    simxen_store(&simxen_frames(d)[simxen_frame_of(d, n)].retired, 1);
}

/* The balloon shrinks: page n is there again, in a frame of its own and empty. Returns 0 when no spare frame is left. */
static inline int simxen_take_again(struct simxen_domain *d, uint64_t n) {
    uint32_t spare = __atomic_fetch_add(&d->spares_used, 1, __ATOMIC_SEQ_CST);
    if (spare >= SIMXEN_SPARE_FRAMES)
        return 0;
    simxen_store(&simxen_frames(d)[n].page_frame, (uint32_t)d->page_count + spare + 1);
    simxen_appear(d, n);
    return 1;
}

/* Frames that the guest has given back and that somebody still has mapped. */
static inline uint64_t simxen_kept_frames(struct simxen_domain *d) {
    uint64_t kept = 0;
    for (uint64_t f = 0; f < simxen_frame_count(d->page_count); f++)
        kept += simxen_load(&simxen_frames(d)[f].retired) && simxen_load(&simxen_frames(d)[f].pins);
    return kept;
}

static inline void simxen_suspend(struct simxen_domain *d) {
    simxen_store(&d->shutdown_reason, SIMXEN_SHUTDOWN_SUSPEND);
    simxen_store(&d->shutdown, 1);
}

static inline void simxen_crash(struct simxen_domain *d) {
    simxen_store(&d->shutdown_reason, SIMXEN_SHUTDOWN_CRASH);
    simxen_store(&d->shutdown, 1);
}

static inline void simxen_resume(struct simxen_domain *d) {
    simxen_store(&d->shutdown, 0);
    simxen_store(&d->shutdown_reason, 0);
}

static inline int simxen_runs(const struct simxen_domain *d) {
    return !simxen_load(&d->shutdown) && !simxen_load(&d->pause_count);
}

/*
 * A guest thread brackets each of its writes (and the marking) by these two. Entering fails while the domain is
 * suspended or paused; simxen_settle, after a suspend or a pause, waits for the writes that had begun.
 */
static inline int simxen_guest_enter(struct simxen_domain *d) {
    __atomic_add_fetch(&d->guests_writing, 1, __ATOMIC_SEQ_CST);
    if (simxen_runs(d))
        return 1;
    __atomic_sub_fetch(&d->guests_writing, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static inline void simxen_guest_leave(struct simxen_domain *d) {
    __atomic_sub_fetch(&d->guests_writing, 1, __ATOMIC_SEQ_CST);
}

/* Returns 0, or ETIMEDOUT when a guest thread has not left within about a second. */
static inline int simxen_settle(struct simxen_domain *d) {
    for (int i = 0; i < 10000; i++) {
        if (!simxen_load(&d->guests_writing))
            return 0;
        usleep(100);
    }
    return ETIMEDOUT;
}

/* Returns 0, or an error number: EINVAL when nobody has paused the domain. */
static inline int simxen_change_pause_count(struct simxen_domain *d, int by) {
    uint32_t count = simxen_load(&d->pause_count);
    do
        if (by < 0 && count == 0)
            return EINVAL;
    while (!__atomic_compare_exchange_n(&d->pause_count, &count, count + (uint32_t)by, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
    return by > 0 ? simxen_settle(d) : 0;
}

static inline uint64_t simxen_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

/* Content for page n: a quarter of all pages is zero, a quarter sparse, the rest noise. The same for the same seed. */
static inline void simxen_fill_page(struct simxen_domain *d, uint64_t n, uint64_t seed) {
    uint64_t state = seed ^ (n * 0xd6e8feb86659fd93ULL);
    uint64_t kind = simxen_random(&state) % 4;
    uint64_t *words = (uint64_t *)simxen_page(d, n);
    memset(words, 0, SIMXEN_PAGE_LENGTH);
    for (unsigned i = 0; kind && i < SIMXEN_PAGE_LENGTH / 8; i += kind == 1 ? 61 : 1)
        words[i] = simxen_random(&state);
}

/* A page where there was none yet. */
static inline void simxen_populate(struct simxen_domain *d, uint64_t n, uint64_t seed) {
    simxen_fill_page(d, n, seed);
    simxen_appear(d, n);
}

/* One that waited for the guest to touch it: that Xen logs. */
static inline void simxen_populate_on_demand(struct simxen_domain *d, uint64_t n, uint64_t seed) {
    simxen_populate(d, n, seed);
    __atomic_sub_fetch(&d->waiting_pages, 1, __ATOMIC_SEQ_CST);
    simxen_set_dirty_bit(d, n);
}

/* Overwrites `count` words of page n, somewhere in it. */
static inline void simxen_scribble(struct simxen_domain *d, uint64_t n, uint64_t *state, unsigned count) {
    uint64_t *words = (uint64_t *)simxen_page(d, n);
    while (count--) {
        unsigned at = simxen_random(state) % (SIMXEN_PAGE_LENGTH / 8);
        words[at] = simxen_random(state);
    }
}

static inline uint64_t simxen_param(const struct simxen_domain *d, uint32_t index) {
    return index < SIMXEN_PARAM_COUNT ? d->params[index] : 0;
}

static inline void simxen_set_param(struct simxen_domain *d, uint32_t index, uint64_t value) {
    if (index < SIMXEN_PARAM_COUNT)
        d->params[index] = value;
}

static inline uint64_t simxen_call_count(const struct simxen_domain *d, enum simxen_call call) {
    return (uint32_t)call < SIMXEN_CALL_COUNT ? __atomic_load_n(&d->calls[call], __ATOMIC_SEQ_CST) : 0;
}

/* From now on `call` fails `times` times with `error`, in whichever process makes it. */
static inline void simxen_arm_fault(struct simxen_domain *d, enum simxen_call call, int error, uint32_t times) {
    simxen_store(&d->fault_times, 0);
    simxen_store(&d->fault_call, (uint32_t)call);
    simxen_store(&d->fault_errno, (uint32_t)error);
    simxen_store(&d->fault_times, times);
}

/* The file that holds this code: the shared object, or the test bundle it is also linked into. NULL if unknown. */
const char *simxen_object_path(void);

#endif
