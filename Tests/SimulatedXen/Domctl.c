/* The operations on a domain that go through domctl. Each function returns 0 or a negative errno. */
#define _GNU_SOURCE
#define __XEN_TOOLS__ 1

#include "internal.h"

#include <stdlib.h>

#include <xen/domctl.h>

_Static_assert(sizeof(xen_cpuid_leaf_t) == 24 && sizeof(xen_msr_entry_t) == 16, "sizes used in struct simxen_policy");

/* Xen's own bound on one getpageframeinfo3. */
#define MAX_TYPE_BATCH 1024u

int get_domain_info(struct xen_domctl *op) {
    struct xen_domctl_getdomaininfo *info = &op->u.getdomaininfo;
    uint64_t past_last;
    if (op->domain > domain->domid)
        return -ESRCH;
    memset(info, 0, sizeof(*info));
    op->domain = info->domain = (domid_t)domain->domid;
    info->flags = XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
    if (simxen_load(&domain->dying))
        info->flags |= XEN_DOMINF_dying;
    if (simxen_load(&domain->pause_count))
        info->flags |= XEN_DOMINF_paused;
    if (simxen_load(&domain->shutdown))
        info->flags |= XEN_DOMINF_shutdown | simxen_load(&domain->shutdown_reason) << XEN_DOMINF_shutdownshift;
    else if (!(info->flags & XEN_DOMINF_paused))
        info->flags |= XEN_DOMINF_running;
    info->tot_pages = populated_pages(&past_last) + simxen_kept_frames(domain) + domain->waiting_pages +
                      domain->other_pages;
    info->max_pages = domain->page_count;
    info->nr_online_vcpus = 1;
    info->gpaddr_bits = 36;
    return 0;
}

/*
 * CLEAN takes each word with one exchange, so that a bit set at the same time is in this answer or in the next. While the log
 * is off there are no bits, and Xen says so without an error; nor does it mind numbers that the guest does not have.
 */
static int read_dirty_bitmap(struct xen_domctl_shadow_op *op) {
    uint64_t *words = simxen_dirty_words(domain);
    uint8_t *out = op->dirty_bitmap.p ? (uint8_t *)op->dirty_bitmap.p : NULL;
    /* The caller's buffer has op->pages bits, rounded up to octets only. */
    uint64_t out_length = (op->pages + 7) / 8;
    bool cleans = op->op == XEN_DOMCTL_SHADOW_OP_CLEAN;
    op->stats.fault_count = op->stats.dirty_count = 0;
    if (out)
        memset(out, 0, out_length);
    if (cleans)
        simxen_log_all(domain);
    for (uint64_t i = 0; i < simxen_bitmap_length(domain->page_count) / 8; i++) {
        uint64_t word = cleans && i * 8 < out_length ? __atomic_exchange_n(words + i, 0, __ATOMIC_SEQ_CST)
                                                     : __atomic_load_n(words + i, __ATOMIC_SEQ_CST);
        op->stats.dirty_count += (uint32_t)__builtin_popcountll(word);
        if (out && i * 8 < out_length)
            memcpy(out + i * 8, &word, out_length - i * 8 < 8 ? out_length - i * 8 : 8);
    }
    return 0;
}

static int shadow_op(struct xen_domctl_shadow_op *op) {
    switch (op->op) {
    case XEN_DOMCTL_SHADOW_OP_OFF:
        simxen_store(&domain->log_dirty, 0);
        memset(simxen_dirty_words(domain), 0, simxen_bitmap_length(domain->page_count));
        return 0;
    case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
        if (simxen_load(&domain->log_dirty))
            return -EINVAL;
        simxen_log_all(domain);
        simxen_store(&domain->log_dirty, 1);
        return 0;
    case XEN_DOMCTL_SHADOW_OP_CLEAN:
    case XEN_DOMCTL_SHADOW_OP_PEEK: return read_dirty_bitmap(op);
    default: return -EINVAL;
    }
}

static int get_page_types(struct xen_domctl_getpageframeinfo3 *op) {
    if (op->num > MAX_TYPE_BATCH)
        return -E2BIG;
    uint64_t asked = __atomic_add_fetch(&domain->types_asked, op->num, __ATOMIC_SEQ_CST);
    if (domain->late_after && asked >= domain->late_after && simxen_types(domain)[domain->late_page] == SIMXEN_PAGE_HOLE)
        simxen_populate(domain, domain->late_page, domain->late_seed);
    for (uint64_t i = 0; i < op->num; i++) {
        xen_pfn_t n = op->array.p[i];
        uint8_t type = n < domain->page_count ? simxen_types(domain)[n] : (uint8_t)SIMXEN_PAGE_HOLE;
        op->array.p[i] = type == SIMXEN_PAGE_RAM      ? XEN_DOMCTL_PFINFO_NOTAB
                         : type == SIMXEN_PAGE_BROKEN ? XEN_DOMCTL_PFINFO_BROKEN
                                                      : XEN_DOMCTL_PFINFO_XTAB;
    }
    return 0;
}

static int get_context(struct xen_domctl_hvmcontext *op) {
    uint32_t length = domain->context_length;
    if (op->buffer.p) {
        if (op->size < length)
            return -ENOSPC;
        memcpy(op->buffer.p, simxen_context(domain), length);
    }
    op->size = length;
    return 0;
}

static int set_context(struct xen_domctl_hvmcontext *op) {
    if (op->size > SIMXEN_CONTEXT_CAPACITY)
        return -EINVAL;
    memcpy(simxen_context(domain), op->buffer.p, op->size);
    domain->context_length = op->size;
    return 0;
}

/* A small PVH policy: enough for libxenguest to serialise something and for the other side to set it. */
static const xen_cpuid_leaf_t leaves[] = {
    {.leaf = 0, .subleaf = XEN_CPUID_NO_SUBLEAF, .a = 1, .b = 0x68747541, .c = 0x444d4163, .d = 0x69746e65},
    {.leaf = 1, .subleaf = XEN_CPUID_NO_SUBLEAF, .a = 0x00a20f12, .c = 0x80000000, .d = 0x0000c9f1},
    {.leaf = 0x80000000, .subleaf = XEN_CPUID_NO_SUBLEAF, .a = 0x80000001},
};
static const xen_msr_entry_t msrs[] = {{.idx = 0xce, .val = 0}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int get_policy(struct xen_domctl_cpu_policy *op) {
    if (op->leaves.p) {
        if (op->nr_leaves < COUNT(leaves))
            return -ENOBUFS;
        memcpy(op->leaves.p, leaves, sizeof(leaves));
    }
    if (op->msrs.p) {
        if (op->nr_msrs < COUNT(msrs))
            return -ENOBUFS;
        memcpy(op->msrs.p, msrs, sizeof(msrs));
    }
    op->nr_leaves = COUNT(leaves);
    op->nr_msrs = COUNT(msrs);
    return 0;
}

static int set_policy(const struct xen_domctl_cpu_policy *op) {
    struct simxen_policy *policy = simxen_policy_of(domain);
    if (op->nr_leaves > SIMXEN_MAX_LEAVES || op->nr_msrs > SIMXEN_MAX_MSRS)
        return -E2BIG;
    memcpy(policy->leaves, op->leaves.p, op->nr_leaves * sizeof(xen_cpuid_leaf_t));
    memcpy(policy->msrs, op->msrs.p, op->nr_msrs * sizeof(xen_msr_entry_t));
    policy->leaf_count = op->nr_leaves;
    policy->msr_count = op->nr_msrs;
    return 0;
}

int domctl(struct xen_domctl *op) {
    enum simxen_call call;
    switch (op->cmd) {
    case XEN_DOMCTL_getdomaininfo: call = SIMXEN_CALL_GETINFO; break;
    case XEN_DOMCTL_pausedomain: call = SIMXEN_CALL_PAUSE; break;
    case XEN_DOMCTL_unpausedomain: call = SIMXEN_CALL_UNPAUSE; break;
    case XEN_DOMCTL_resumedomain: call = SIMXEN_CALL_RESUME; break;
    case XEN_DOMCTL_shadow_op:
        call = op->u.shadow_op.op == XEN_DOMCTL_SHADOW_OP_CLEAN || op->u.shadow_op.op == XEN_DOMCTL_SHADOW_OP_PEEK
                   ? SIMXEN_CALL_LOGDIRTY_CONTROL
                   : SIMXEN_CALL_SHADOW_CONTROL;
        break;
    case XEN_DOMCTL_getpageframeinfo3: call = SIMXEN_CALL_GET_PFN_TYPES; break;
    case XEN_DOMCTL_gethvmcontext: call = SIMXEN_CALL_GET_CONTEXT; break;
    case XEN_DOMCTL_sethvmcontext: call = SIMXEN_CALL_SET_CONTEXT; break;
    case XEN_DOMCTL_gettscinfo: call = SIMXEN_CALL_GET_TSC; break;
    case XEN_DOMCTL_settscinfo: call = SIMXEN_CALL_SET_TSC; break;
    case XEN_DOMCTL_getvcpucontext: call = SIMXEN_CALL_GET_VCPU; break;
    case XEN_DOMCTL_setvcpucontext: call = SIMXEN_CALL_SET_VCPU; break;
    case XEN_DOMCTL_get_cpu_policy: call = SIMXEN_CALL_GET_POLICY; break;
    case XEN_DOMCTL_set_cpu_policy: call = SIMXEN_CALL_SET_POLICY; break;
    default: return unknown(__HYPERVISOR_domctl, op->cmd);
    }

    int error = begin(call);
    if (error)
        return -error;
    if (op->interface_version != XEN_DOMCTL_INTERFACE_VERSION)
        return -EACCES;
    if (call != SIMXEN_CALL_GETINFO && op->domain != domain->domid)
        return -ESRCH;

    switch (call) {
    case SIMXEN_CALL_GETINFO:
        copying(false);
        return get_domain_info(op);
    case SIMXEN_CALL_PAUSE: return -simxen_change_pause_count(domain, 1);
    case SIMXEN_CALL_UNPAUSE: return -simxen_change_pause_count(domain, -1);
    case SIMXEN_CALL_RESUME: simxen_resume(domain); return 0;
    case SIMXEN_CALL_LOGDIRTY_CONTROL:
        copying(domain->shutdown != 0);
        return shadow_op(&op->u.shadow_op);
    case SIMXEN_CALL_SHADOW_CONTROL: return shadow_op(&op->u.shadow_op);
    case SIMXEN_CALL_GET_PFN_TYPES: return get_page_types(&op->u.getpageframeinfo3);
    case SIMXEN_CALL_GET_CONTEXT: return get_context(&op->u.hvmcontext);
    case SIMXEN_CALL_SET_CONTEXT: return set_context(&op->u.hvmcontext);
    case SIMXEN_CALL_GET_TSC:
        op->u.tsc_info.tsc_mode = domain->tsc_mode;
        op->u.tsc_info.gtsc_khz = domain->tsc_khz;
        op->u.tsc_info.incarnation = domain->tsc_incarnation;
        op->u.tsc_info.elapsed_nsec = domain->tsc_nanoseconds;
        return 0;
    case SIMXEN_CALL_SET_TSC:
        domain->tsc_mode = op->u.tsc_info.tsc_mode;
        domain->tsc_khz = op->u.tsc_info.gtsc_khz;
        domain->tsc_incarnation = op->u.tsc_info.incarnation;
        domain->tsc_nanoseconds = op->u.tsc_info.elapsed_nsec;
        return 0;
    case SIMXEN_CALL_GET_VCPU: memset(op->u.vcpucontext.ctxt.p, 0, sizeof(vcpu_guest_context_t)); return 0;
    case SIMXEN_CALL_SET_VCPU: return 0;
    case SIMXEN_CALL_GET_POLICY: return get_policy(&op->u.cpu_policy);
    case SIMXEN_CALL_SET_POLICY: return set_policy(&op->u.cpu_policy);
    default: return -ENOSYS;
    }
}
