import CXen
import Glibc
import RomulusCore
import RomulusHost

/// The xl that stays behind a guest (`xl create`, `xl restore`, `xl migrate-receive`) and does, when the guest has shut down,
/// what its `on_poweroff`, `on_reboot` and `on_crash` say.
///
/// Before Xen 4.20 it takes a checkpoint's suspension for the guest's end and exits (xl_vmcontrol.c: handle_domain_death;
/// upstream 6b8c85872e), so that nobody is there at the real one. Here a suspension is kept from it. And what it does at the
/// real one waits for the guest's protection to end: a domain that is destroyed before its shutdown was seen looks like an
/// `xl destroy`, after which the replica goes on.
enum GuestKeeper {
    private struct Watch {
        let domain: UInt32
        let user: libxl_ev_user
        /// What xl was given and gives back, and what libxl has in its place by now: it reports a domain's shutdown once.
        let given: OpaquePointer
        var current: OpaquePointer
        let lock: RunLock?
    }

    // xl has one thread.
    nonisolated(unsafe) private static var watch: Watch?

    /// Whether an xl that minds suspensions stays behind that domain.
    static func keeps(_ domain: UInt32) -> Bool { RunLock.isHeld(lockName(domain)) }

    private static func lockName(_ domain: UInt32) -> String { "domain-\(domain).keeper" }

    static func enable(
        _ context: OpaquePointer?, _ domain: UInt32, _ user: libxl_ev_user,
        _ result: UnsafeMutablePointer<OpaquePointer?>?
    ) -> Int32 {
        let code = Stock.enableDeath(context, domain, user, result)
        if code == 0, watch == nil, let given = result?.pointee {
            let lock = try? RunLock.take(lockName(domain))
            watch = Watch(domain: domain, user: user, given: given, current: given, lock: lock)
        }
        return code
    }

    static func disable(_ context: OpaquePointer?, _ given: OpaquePointer?) {
        guard let mine = watch, mine.given == given else { return Stock.disableDeath(context, given) }
        watch = nil
        Stock.disableDeath(context, mine.current)
    }

    static func wait(
        _ context: OpaquePointer?, _ result: UnsafeMutablePointer<UnsafeMutablePointer<libxl_event>?>?, _ mask: UInt64,
        _ predicate: EventPredicate?, _ predicateUser: UnsafeMutableRawPointer?
    ) -> Int32 {
        while true {
            let code = Stock.eventWait(context, result, mask, predicate, predicateUser)
            guard code == 0, let event = result?.pointee, let mine = watch, event.pointee.domid == mine.domain,
                event.pointee.type == LIBXL_EVENT_TYPE_DOMAIN_SHUTDOWN
            else { return code }
            guard event.pointee.u.domain_shutdown.shutdown_reason == UInt8(LIBXL_SHUTDOWN_REASON_SUSPEND.rawValue)
            else {
                if isOurs(mine.domain, context) { return code }
                // The news of its destruction is on its way.
                libxl_event_free(context, event)
                continue
            }
            libxl_event_free(context, event)
            let again = lookAgainLater(context)
            if again != 0 { return again }
        }
    }

    /// Not at once: a watch that is new tells of what is there already, and a protected guest is suspended many times a
    /// second.
    private static func lookAgainLater(_ context: OpaquePointer?) -> Int32 {
        guard let mine = watch else { return 0 }
        usleep(lookMicroseconds)
        var next: OpaquePointer?
        let code = Stock.enableDeath(context, mine.domain, mine.user, &next)
        guard code == 0, let next else { return code == 0 ? Int32(ERROR_FAIL.rawValue) : code }
        Stock.disableDeath(context, mine.current)
        watch?.current = next
        return 0
    }

    private static let lookMicroseconds: UInt32 = 1_000_000

    /// Waits until its protection has ended, which is after whoever decides has decided where the link has failed.
    ///
    /// - Returns: false for a copy that was destroyed because the replica runs, or may: it is not begun anew.
    private static func isOurs(_ id: UInt32, _ context: OpaquePointer?) -> Bool {
        let domain = Domain(context: context, id: id)
        let lock = RunLock.name(uuid: domain.facts().uuid, .primary)
        guard RunLock.isHeld(lock) else { return true }
        while RunLock.isHeld(lock) { usleep(lookMicroseconds / 20) }
        // The guard of a run that was killed pauses the copy, because the backup takes over.
        repeat { usleep(lookMicroseconds) } while domain.facts().isPaused
        return domain.facts().state != .gone
    }
}
