/* Xen's public headers, as Swift sees them, and what its libraries export beside them. No logic here. */
#ifndef ROMULUS_CXEN_SHIM_H
#define ROMULUS_CXEN_SHIM_H

#include <xenctrl.h>
#include <xenguest.h>
#include <xenforeignmemory.h>
#include <xenstore.h>
#include <libxl.h>
#include <libxl_utils.h>
#include <libxlutil.h>
#include <xen/hvm/params.h>

/* libxenctrl's, for libxenguest: in no header that is shipped (tools/libs/ctrl/xc_private.h). */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t dom, unsigned int num, xen_pfn_t *arr);
void xc_set_progress_prefix(xc_interface *xch, const char *doing);
void xc_report_progress_step(xc_interface *xch, unsigned long done, unsigned long total);

/* libxenctrl's too, in a header that declares it only together with names that clash (xenctrl_compat.h). */
int xc_hvm_modified_memory(xc_interface *xch, uint32_t domid, uint64_t first_pfn, uint32_t nr);

#endif
