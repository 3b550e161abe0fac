/*
 * What the files of libsimulatedxen.so share. Nothing here is exported: the names below would otherwise be visible to
 * every library of the process that preloads it.
 */
#ifndef SIMULATEDXEN_INTERNAL_H
#define SIMULATEDXEN_INTERNAL_H

#include "simulatedxen.h"

#include <stdbool.h>
#include <xenctrl.h>

#pragma GCC visibility push(hidden)

#define PAGE SIMXEN_PAGE_LENGTH
/* The most pages of one mapping or one hypercall buffer. */
#define MAX_MAPPED_PAGES (1u << 24)

/* The domain of SIMXEN_DOMAIN and its file; NULL and -1 until the first `begin`, and for ever if there is none. */
extern struct simxen_domain *domain;
extern int domain_fd;

/* Counts a call and decides whether it must fail. Returns 0, or an errno. After 0, `domain` is there. */
int begin(enum simxen_call call);

/* A hypercall without an answer: says so, and returns a negative errno. */
int unknown(unsigned int hypercall, uint64_t command);

/* How many pages are no holes, and where the last of them ends. */
uint64_t populated_pages(uint64_t *past_last);

/* Any library's handle, or NULL and errno: without a domain file all are refused, as on a machine without Xen. */
void *open_handle(void);

/* The guest stands still and is about to be copied, or has been. */
void copying(bool begins);

/* Each returns 0 or a negative errno. */
int domctl(struct xen_domctl *op);
int get_domain_info(struct xen_domctl *op);

#pragma GCC visibility pop

#endif
