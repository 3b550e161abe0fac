/* libxencall, and every hypercall but domctl. Functions that answer one return a result or a negative errno. */
#define _GNU_SOURCE
#define __XEN_TOOLS__ 1

#include "internal.h"

#include <stdlib.h>

#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/sysctl.h>
#include <xen/version.h>
#include <xencall.h>

_Static_assert(HVM_NR_PARAMS <= SIMXEN_PARAM_COUNT, "every HVM parameter has a place");

#define MAX_MULTICALL 64u

static int sysctl(struct xen_sysctl *op) {
    if (op->cmd == XEN_SYSCTL_getdomaininfolist) {
        struct xen_domctl info = {.domain = op->u.getdomaininfolist.first_domain};
        int error = begin(SIMXEN_CALL_GETINFO);
        if (error)
            return -error;
        op->u.getdomaininfolist.num_domains = 0;
        if (op->u.getdomaininfolist.max_domains && !get_domain_info(&info)) {
            op->u.getdomaininfolist.buffer.p[0] = info.u.getdomaininfo;
            op->u.getdomaininfolist.num_domains = 1;
        }
        return 0;
    }
    if (op->cmd != XEN_SYSCTL_get_cpu_policy)
        return unknown(__HYPERVISOR_sysctl, op->cmd);
    int error = begin(SIMXEN_CALL_POLICY_SIZE);
    if (error)
        return -error;
    if (op->u.cpu_policy.leaves.p || op->u.cpu_policy.msrs.p)
        return -EOPNOTSUPP;
    op->u.cpu_policy.nr_leaves = SIMXEN_MAX_LEAVES;
    op->u.cpu_policy.nr_msrs = SIMXEN_MAX_MSRS;
    return 0;
}

static int version(unsigned int command, void *argument) {
    int error = begin(SIMXEN_CALL_VERSION);
    if (error)
        return -error;
    switch (command) {
    case XENVER_version: return 4 << 16 | 17;
    case XENVER_capabilities:
        strcpy(argument, "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_64 ");
        return 0;
    default: return -ENOSYS;
    }
}

static int populate(struct xen_memory_reservation *op) {
    if (op->domid != domain->domid)
        return -ESRCH;
    if (op->extent_order)
        return -EINVAL;
    for (xen_ulong_t i = 0; i < op->nr_extents; i++) {
        xen_pfn_t n = op->extent_start.p[i];
        /* Xen answers with the number of extents it could give. */
        if (n >= domain->page_count || simxen_types(domain)[n] != SIMXEN_PAGE_HOLE)
            return (int)i;
        memset(simxen_page(domain, n), 0, PAGE);
        simxen_types(domain)[n] = SIMXEN_PAGE_RAM;
    }
    return (int)op->nr_extents;
}

static long memory_op(unsigned int command, void *argument) {
    uint64_t past_last;
    int error;
    switch (command) {
    case XENMEM_maximum_gpfn:
        error = begin(SIMXEN_CALL_NR_GPFNS);
        if (error)
            return -error;
        if (*(domid_t *)argument != domain->domid)
            return -ESRCH;
        populated_pages(&past_last);
        return past_last ? (long)past_last - 1 : 0;
    case XENMEM_get_pod_target:
        error = begin(SIMXEN_CALL_GET_POD);
        if (error)
            return -error;
        xen_pod_target_t *pod = argument;
        if (pod->domid != domain->domid)
            return -ESRCH;
        pod->tot_pages = populated_pages(&past_last) + domain->waiting_pages;
        pod->pod_cache_pages = pod->pod_entries = domain->waiting_pages;
        return 0;
    case XENMEM_populate_physmap:
        error = begin(SIMXEN_CALL_POPULATE);
        return error ? -error : populate(argument);
    default: return unknown(__HYPERVISOR_memory_op, command);
    }
}

static int hvm_op(unsigned int command, xen_hvm_param_t *op) {
    if (command != HVMOP_get_param && command != HVMOP_set_param)
        return unknown(__HYPERVISOR_hvm_op, command);
    int error = begin(command == HVMOP_get_param ? SIMXEN_CALL_GET_PARAM : SIMXEN_CALL_SET_PARAM);
    if (error)
        return -error;
    if (op->domid != domain->domid)
        return -ESRCH;
    if (op->index >= HVM_NR_PARAMS)
        return -EINVAL;
    if (command == HVMOP_get_param)
        op->value = domain->params[op->index];
    else
        domain->params[op->index] = op->value;
    return 0;
}

static long dispatch(unsigned int number, uint64_t first, uint64_t second) {
    switch (number) {
    case __HYPERVISOR_domctl: return domctl((struct xen_domctl *)first);
    case __HYPERVISOR_sysctl: return sysctl((struct xen_sysctl *)first);
    case __HYPERVISOR_xen_version: return version((unsigned int)first, (void *)second);
    case __HYPERVISOR_memory_op: return memory_op((unsigned int)first, (void *)second);
    case __HYPERVISOR_hvm_op: return hvm_op((unsigned int)first, (xen_hvm_param_t *)second);
    default: return unknown(number, first);
    }
}

/* libxenctrl wraps memory_op in a multicall, because a hypercall through Linux's privcmd returns an int. */
static long multicall(struct multicall_entry *entries, uint64_t count) {
    if (count > MAX_MULTICALL)
        return -E2BIG;
    for (uint64_t i = 0; i < count; i++)
        entries[i].result =
            (xen_ulong_t)dispatch((unsigned int)entries[i].op, entries[i].args[0], entries[i].args[1]);
    return 0;
}

static long hypercall(unsigned int number, uint64_t first, uint64_t second) {
    long result = number == __HYPERVISOR_multicall ? multicall((struct multicall_entry *)first, second)
                                                   : dispatch(number, first, second);
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

/* ---- libxencall ---- */

xencall_handle *xencall_open(struct xentoollog_logger *logger, unsigned open_flags) {
    (void)logger, (void)open_flags;
    return open_handle();
}

int xencall_close(xencall_handle *xcall) {
    (void)xcall;
    return 0;
}

int xencall_fd(xencall_handle *xcall) {
    (void)xcall;
    errno = ENOTTY;
    return -1;
}

int xencall0(xencall_handle *xcall, unsigned int op) {
    (void)xcall;
    return (int)hypercall(op, 0, 0);
}

int xencall1(xencall_handle *xcall, unsigned int op, uint64_t arg1) {
    (void)xcall;
    return (int)hypercall(op, arg1, 0);
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2) {
    (void)xcall;
    return (int)hypercall(op, arg1, arg2);
}

long xencall2L(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2) {
    (void)xcall;
    return hypercall(op, arg1, arg2);
}

int xencall3(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2, uint64_t arg3) {
    (void)xcall, (void)arg3;
    return (int)hypercall(op, arg1, arg2);
}

int xencall4(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2, uint64_t arg3, uint64_t arg4) {
    (void)xcall, (void)arg3, (void)arg4;
    return (int)hypercall(op, arg1, arg2);
}

int xencall5(xencall_handle *xcall, unsigned int op, uint64_t arg1, uint64_t arg2, uint64_t arg3, uint64_t arg4,
             uint64_t arg5) {
    (void)xcall, (void)arg3, (void)arg4, (void)arg5;
    return (int)hypercall(op, arg1, arg2);
}

void *xencall_alloc_buffer_pages(xencall_handle *xcall, size_t nr_pages) {
    (void)xcall;
    void *p = NULL;
    if (nr_pages == 0 || nr_pages > MAX_MAPPED_PAGES || posix_memalign(&p, PAGE, nr_pages * PAGE)) {
        errno = ENOMEM;
        return NULL;
    }
    return memset(p, 0, nr_pages * PAGE);
}

void xencall_free_buffer_pages(xencall_handle *xcall, void *p, size_t nr_pages) {
    (void)xcall, (void)nr_pages;
    free(p);
}

void *xencall_alloc_buffer(xencall_handle *xcall, size_t size) {
    return xencall_alloc_buffer_pages(xcall, (size + PAGE - 1) / PAGE);
}

void xencall_free_buffer(xencall_handle *xcall, void *p) {
    (void)xcall;
    free(p);
}

int xencall_buffers_never_fault(xencall_handle *xcall) {
    (void)xcall;
    return 1;
}
