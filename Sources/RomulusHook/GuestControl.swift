import CXen
import Glibc
import RomulusCore
import RomulusHost

/// A domain by hypercalls and a xenstore connection of its own, for a thread that must not touch libxl's context: made before
/// that thread, and gone after it, for the reason that `XenstoreConnection` has.
final class GuestControl: @unchecked Sendable {
    private let domainID: UInt32
    // Used by one thread at a time: the relay's.
    private let interface: OpaquePointer?
    private let store = XenstoreConnection()
    private let deviceModel: DeviceModel?

    init(domainID: UInt32) {
        self.domainID = domainID
        interface = xc_interface_open(nil, nil, 0)
        deviceModel = DeviceModel(of: domainID, store)
    }

    deinit { xc_interface_close(interface) }

    var port: GuestPort {
        GuestPort(
            leave: leave, standing: standing, isServed: { self.deviceModel?.isAlive ?? true }, freeze: freeze,
            thaw: thaw,
            giveUp: giveUp)
    }

    private func standing() -> GuestStanding? { GuestStanding(of: domainID, interface) }

    private func leave(isCheckpointing: Bool) -> PrimarySession.GuestLeave? {
        guard let interface else { return nil }
        var info = xc_dominfo_t()
        let count = xc_domain_getinfo(interface, domainID, 1, &info)
        guard count >= 0 else { return errno == ESRCH ? .destroyed : nil }
        guard count == 1, info.domid == domainID else { return .destroyed }
        return PrimarySession.GuestLeave(info, isCheckpointing: isCheckpointing)
    }

    /// Xen counts pauses, so this neither disturbs nor is disturbed by `xl pause` and libxl's own suspending.
    private func freeze() -> Bool { xc_domain_pause(interface, domainID) == 0 }
    private func thaw() -> Bool { xc_domain_unpause(interface, domainID) == 0 }

    /// libxl gives a guest a minute to acknowledge the order to suspend, and another to do so (libxl_dom_suspend.c); one that is
    /// frozen, or no more, does neither. What it waits for is done in the guest's place: the order is taken, and a copy that
    /// must not run again stands still as one that has suspended.
    private func giveUp(mustNotRun: Bool) {
        store.takeSuspendOrder(of: domainID)
        if mustNotRun { _ = xc_domain_shutdown(interface, domainID, Int32(SHUTDOWN_suspend)) }
    }
}

extension PrimarySession.GuestLeave {
    /// Nil for a guest that is there. Of one that is being destroyed it counts why, where that is known.
    init?(_ info: xc_dominfo_t, isCheckpointing: Bool) {
        // libxc has a word of its own for this shutdown, and does not call it one.
        if info.crashed != 0 {
            self = .crashed
        } else if info.shutdown != 0, info.shutdown_reason != UInt32(SHUTDOWN_suspend) {
            self = .shutDown
        } else if info.shutdown != 0, !isCheckpointing {
            self = .taken
        } else if info.dying != 0 {
            self = .destroyed
        } else {
            return nil
        }
    }
}

extension GuestStanding {
    /// Nil for a domain that has gone, or has shut down for good.
    init?(of domainID: UInt32, _ interface: OpaquePointer?) {
        guard let info = xc_dominfo_t(of: domainID, interface), info.dying == 0, info.crashed == 0 else { return nil }
        if info.shutdown != 0 {
            guard info.shutdown_reason == UInt32(SHUTDOWN_suspend) else { return nil }
            self = .suspended
        } else {
            self = info.paused != 0 ? .paused : .runs
        }
    }
}
