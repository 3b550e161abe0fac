import CXen
import Glibc
import RomulusCore

/// What libxl knows of a domain.
struct Domain {
    let context: OpaquePointer?
    let id: UInt32

    enum State: Equatable {
        case gone
        /// Shut down for suspension: a checkpoint or a migration is under way, or was.
        case suspended
        /// Powered off, rebooted, crashed.
        case shutDown
        case alive
    }

    struct Facts {
        var state: State
        var isParavirtual: Bool
        /// The most memory that the guest may have.
        var memoryKiB: UInt64
    }

    /// The domain of that name, or nil.
    static func named(_ name: String, context: OpaquePointer?) -> Domain? {
        var id: UInt32 = 0
        guard libxl_name_to_domid(context, name, &id) == 0 else { return nil }
        return Domain(context: context, id: id)
    }

    var name: String? {
        guard let raw = libxl_domid_to_name(context, id) else { return nil }
        defer { free(raw) }
        return String(cString: raw)
    }

    func facts() -> Facts {
        var info = libxl_dominfo()
        libxl_dominfo_init(&info)
        defer { libxl_dominfo_dispose(&info) }
        guard libxl_domain_info(context, &info, id) == 0 else {
            return Facts(state: .gone, isParavirtual: false, memoryKiB: 0)
        }
        let state: State =
            if info.dying { .gone } else if !info.shutdown { .alive } else {
                info.shutdown_reason == LIBXL_SHUTDOWN_REASON_SUSPEND ? .suspended : .shutDown
            }
        return Facts(
            state: state, isParavirtual: info.domain_type == LIBXL_DOMAIN_TYPE_PV,
            memoryKiB: max(info.max_memkb, info.current_memkb))
    }

    var state: State { facts().state }

    func destroy() -> Bool { libxl_domain_destroy(context, id, nil) == 0 }

    /// Whether this hypervisor can log the dirty pages of a PV guest: it takes shadow paging.
    static func canLogParavirtualPages(context: OpaquePointer?) -> Bool {
        var info = libxl_physinfo()
        libxl_physinfo_init(&info)
        defer { libxl_physinfo_dispose(&info) }
        return libxl_get_physinfo(context, &info) == 0 && info.cap_shadow
    }
}

/// Looks at a domain by a hypercall of its own, from a thread that must not touch libxl's context.
final class GuestWatch: @unchecked Sendable {
    private let domainID: UInt32
    // Used by one thread at a time: the relay's.
    private let interface: OpaquePointer?

    init(domainID: UInt32) {
        self.domainID = domainID
        interface = xc_interface_open(nil, nil, 0)
    }

    deinit { xc_interface_close(interface) }

    func leave() -> PrimarySession.GuestLeave? {
        guard let interface else { return nil }
        var info = xc_dominfo_t()
        let count = xc_domain_getinfo(interface, domainID, 1, &info)
        guard count >= 0 else { return errno == ESRCH ? .destroyed : nil }
        guard count == 1, info.domid == domainID else { return .destroyed }
        if info.shutdown != 0, info.shutdown_reason != UInt32(SHUTDOWN_suspend) { return .shutDown }
        return info.dying != 0 ? .destroyed : nil
    }
}
