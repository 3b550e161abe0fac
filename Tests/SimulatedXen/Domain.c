/* The domain's file, the faults that were asked for, and the count of what was called. */
#define _GNU_SOURCE
#define __XEN_TOOLS__ 1

#include "internal.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FAULTS 8

static const char *const simxen_call_names[SIMXEN_CALL_COUNT] = {
    "xencall_open",
    "xc_version",
    "xc_domain_getinfo",
    "xc_domain_pause",
    "xc_domain_unpause",
    "xc_domain_resume",
    "xc_shadow_control",
    "xc_logdirty_control",
    "xc_get_pfn_type_batch",
    "xenforeignmemory_map",
    "xenforeignmemory_unmap",
    "xenforeignmemory_map_resource",
    "xc_domain_nr_gpfns",
    "xc_domain_populate_physmap",
    "xc_domain_hvm_getcontext",
    "xc_domain_hvm_setcontext",
    "xc_hvm_param_get",
    "xc_hvm_param_set",
    "xc_domain_get_tsc_info",
    "xc_domain_set_tsc_info",
    "xc_vcpu_getcontext",
    "xc_vcpu_setcontext",
    "xc_hvm_modified_memory",
    "xc_domain_get_pod_target",
    "xc_cpu_policy_get_size",
    "xc_cpu_policy_get_domain",
    "xc_set_domain_cpu_policy",
    "unknown",
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
struct simxen_domain *domain;
int domain_fd = -1;

/* What SIMXEN_FAIL asks for. `after` counts this process's calls, from 1. */
static struct fault {
    int call;
    int error;
    int stays;
    uint64_t after;
} faults[MAX_FAULTS];
static int fault_count;
static uint64_t calls_here[SIMXEN_CALL_COUNT];

static void complain(const char *what) {
    char line[256];
    int length = snprintf(line, sizeof(line), "simulatedxen: %s\n", what);
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
        return;
}

static int call_named(const char *name, size_t length) {
    for (int i = 0; i < SIMXEN_CALL_COUNT; i++)
        if (strlen(simxen_call_names[i]) == length && !memcmp(simxen_call_names[i], name, length))
            return i;
    return -1;
}

/* "name:n[+][:errno]" and more of them after commas; "+" means the n-th call and every later one. */
static void read_faults(const char *text) {
    while (text && *text && fault_count < MAX_FAULTS) {
        size_t length = strcspn(text, ":,");
        struct fault f = {.call = call_named(text, length), .error = EIO, .after = 1};
        text += length;
        if (*text == ':') {
            char *end;
            f.after = strtoull(text + 1, &end, 10);
            if (*end == '+') {
                f.stays = 1;
                end++;
            }
            if (*end == ':')
                f.error = (int)strtol(end + 1, &end, 10);
            text = end;
        }
        if (f.call < 0)
            complain("SIMXEN_FAIL names an unknown call");
        else
            faults[fault_count++] = f;
        text += strcspn(text, ",");
        text += *text == ',';
    }
}

static void open_domain(void) {
    const char *path = getenv("SIMXEN_DOMAIN");
    struct stat status;
    struct simxen_domain expected;
    if (!path)
        return;
    read_faults(getenv("SIMXEN_FAIL"));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size < (off_t)sizeof(*domain)) {
        complain("SIMXEN_DOMAIN cannot be opened");
        return;
    }
    void *p = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        complain("SIMXEN_DOMAIN cannot be mapped");
        return;
    }
    struct simxen_domain *d = p;
    if (d->page_count <= SIMXEN_MAX_PAGES)
        simxen_lay_out(&expected, d->domid, d->page_count);
    if (d->magic != SIMXEN_MAGIC || d->version != SIMXEN_VERSION || d->page_count > SIMXEN_MAX_PAGES ||
        d->memory_offset != expected.memory_offset || (uint64_t)status.st_size != expected.file_length) {
        complain("SIMXEN_DOMAIN is not a simulated domain");
        return;
    }
    domain_fd = fd;
    domain = d;
}

int begin(enum simxen_call call) {
    pthread_once(&once, open_domain);
    if (!domain)
        return ENOENT;
    uint64_t n = __atomic_add_fetch(&calls_here[call], 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&domain->calls[call], 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < fault_count; i++)
        if (faults[i].call == (int)call && (n == faults[i].after || (faults[i].stays && n > faults[i].after)))
            return faults[i].error;
    uint32_t times = simxen_load(&domain->fault_times);
    while (times && simxen_load(&domain->fault_call) == (uint32_t)call)
        if (__atomic_compare_exchange_n(&domain->fault_times, &times, times - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return (int)simxen_load(&domain->fault_errno);
    return 0;
}

int unknown(unsigned int hypercall, uint64_t command) {
    int error = begin(SIMXEN_CALL_UNKNOWN);
    char what[96];
    snprintf(what, sizeof(what), "no answer for hypercall %u, command %llu", hypercall, (unsigned long long)command);
    complain(what);
    if (domain) {
        domain->unknown_hypercall = hypercall;
        domain->unknown_command = command;
    }
    return -(error ? error : ENOSYS);
}

uint64_t populated_pages(uint64_t *past_last) {
    const uint8_t *types = simxen_types(domain);
    uint64_t populated = 0;
    *past_last = 0;
    for (uint64_t n = 0; n < domain->page_count; n++)
        if (types[n] != SIMXEN_PAGE_HOLE) {
            populated += types[n] != SIMXEN_PAGE_XEN;
            *past_last = n + 1;
        }
    return populated;
}

static char handle_target;

void *open_handle(void) {
    int error = begin(SIMXEN_CALL_XENCALL_OPEN);
    if (!error)
        return &handle_target;
    errno = error;
    return NULL;
}

const char *simxen_object_path(void) {
    Dl_info info;
    return dladdr((void *)simxen_object_path, &info) ? info.dli_fname : NULL;
}
