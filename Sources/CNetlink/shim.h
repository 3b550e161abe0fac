/* libnl's headers for links and traffic control, as Swift sees them, and the kernel's numbers that are casts there. */
#ifndef ROMULUS_CNETLINK_SHIM_H
#define ROMULUS_CNETLINK_SHIM_H

#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/act/gact.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/matchall.h>
#include <netlink/route/link.h>
#include <netlink/route/link/inet6.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/plug.h>
#include <netlink/route/tc.h>

static const uint32_t romulus_tc_root = TC_H_ROOT;
static const uint32_t romulus_tc_ingress = TC_H_INGRESS;
static const uint32_t romulus_ingress_handle = TC_H_MAKE(TC_H_INGRESS, 0);

#endif
