import CXen
import RomulusCore
import Testing

@testable import RomulusHook

/// What libxenctrl tells of a domain, in the relay's words.
@Suite struct GuestLeaveTests {
    private func info(_ change: (inout xc_dominfo_t) -> Void) -> xc_dominfo_t {
        var info = xc_dominfo_t()
        change(&info)
        return info
    }

    private func leave(_ isCheckpointing: Bool = false, _ change: (inout xc_dominfo_t) -> Void) -> PrimarySession
        .GuestLeave?
    {
        PrimarySession.GuestLeave(info(change), isCheckpointing: isCheckpointing)
    }

    @Test func aCrashIsNoShutdownToLibxenctrl() {
        #expect(
            leave {
                $0.crashed = 1
                $0.shutdown_reason = UInt32(SHUTDOWN_crash)
            } == .crashed)
        #expect(
            leave {
                $0.crashed = 1
                $0.dying = 1
            } == .crashed)
    }

    @Test func aSuspensionIsOursOrSomebodyElses() {
        func suspended(_ info: inout xc_dominfo_t) {
            info.shutdown = 1
            info.shutdown_reason = UInt32(SHUTDOWN_suspend)
        }
        #expect(leave(true, suspended) == nil)
        #expect(leave(false, suspended) == .taken)
    }

    @Test func whatElseEndsAGuest() {
        #expect(
            leave {
                $0.shutdown = 1
                $0.shutdown_reason = UInt32(SHUTDOWN_reboot)
            } == .shutDown)
        #expect(leave { $0.dying = 1 } == .destroyed)
        #expect(leave { $0.running = 1 } == nil)
    }
}
