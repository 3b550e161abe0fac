import CXen
import Glibc
import RomulusCore
import RomulusHost

/// A domain by hypercalls of its own, for a thread that must not touch libxl's context. Made before that thread, and gone after
/// it, as with `NetbufRecord`.
final class GuestControl: @unchecked Sendable {
    private let domainID: UInt32
    // Used by one thread at a time: the relay's.
    private let interface: OpaquePointer?

    init(domainID: UInt32) {
        self.domainID = domainID
        interface = xc_interface_open(nil, nil, 0)
    }

    deinit { xc_interface_close(interface) }

    var port: GuestPort { GuestPort(leave: leave, freeze: freeze, thaw: thaw) }

    private func leave() -> PrimarySession.GuestLeave? {
        guard let interface else { return nil }
        var info = xc_dominfo_t()
        let count = xc_domain_getinfo(interface, domainID, 1, &info)
        guard count >= 0 else { return errno == ESRCH ? .destroyed : nil }
        guard count == 1, info.domid == domainID else { return .destroyed }
        if info.shutdown != 0, info.shutdown_reason != UInt32(SHUTDOWN_suspend) { return .shutDown }
        return info.dying != 0 ? .destroyed : nil
    }

    /// Xen counts pauses, so this neither disturbs nor is disturbed by `xl pause` and libxl's own suspending.
    private func freeze() -> Bool { xc_domain_pause(interface, domainID) == 0 }
    private func thaw() -> Bool { xc_domain_unpause(interface, domainID) == 0 }
}
