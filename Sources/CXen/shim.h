/* Xen's public headers, as Swift sees them. No logic here. */
#ifndef ROMULUS_CXEN_SHIM_H
#define ROMULUS_CXEN_SHIM_H

#include <xenctrl.h>
#include <xenguest.h>
#include <xenstore.h>
#include <libxl.h>
#include <libxl_utils.h>
#include <libxlutil.h>

#endif
