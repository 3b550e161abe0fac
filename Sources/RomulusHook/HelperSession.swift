import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost
import Synchronization

/// The helper's side of its talk with `xl`, and its duty when `xl` dies under it.
final class HelperSession: @unchecked Sendable {
    private let interface: OpaquePointer?
    private let domain: UInt32
    private let control: Int32
    private let lease: SharedLease?
    /// The guardian's own. Opened at the start: when it is needed, this host may have nothing left to open it with.
    private let hypervisor: OpaquePointer?
    let settings: HelperSettings
    let log: Log

    // The save's thread only.
    private var committed = Epoch.none
    private var nextStart = MonotonicTime(nanoseconds: 0)
    private var outputHeld = Epoch.none
    private var isStopOrdered = false

    private enum Duty {
        case none
        /// A save is under way: somebody must look after the guest if `xl` dies.
        case watching
        case orphaned
    }
    private let duty = Mutex(Duty.watching)
    /// For the guardian. Held while an order is read, so that none is read and not counted yet when the guardian looks.
    private let isReplicaPossible = Mutex(false)

    /// - Returns: nil when this helper was not started by Romulus's hook in `xl`.
    init?(_ interface: OpaquePointer?, _ domain: UInt32) {
        guard let number = romulus_launch_value(ROMULUS_CONTROL), let control = Int32(String(cString: number)),
            case .begin(let settings)? = Self.firstOrder(from: control)
        else { return nil }
        self.interface = interface
        self.domain = domain
        self.control = control
        self.settings = settings
        log = Log(guest: "domain \(domain)", events: .standard, isAside: true)
        lease = Self.inheritedLease()
        hypervisor = xc_interface_open(nil, nil, 0)
        if settings.locksMemory { Urgency.lockMemory(log) }
        startGuardian()
    }

    private static func firstOrder(from control: Int32) -> HelperControl.Order? {
        var polls = PollSet()
        polls.add(control, reading: true)
        polls.wait(until: .now + .nanoseconds(milliseconds: 5000))
        if case .message(let order) = HelperControl.receiveOrder(from: control) { return order }
        return nil
    }

    private static func inheritedLease() -> SharedLease? {
        guard let number = romulus_launch_value(ROMULUS_LEASE), let raw = Int32(String(cString: number)) else {
            return nil
        }
        return try? SharedLease(file: Descriptor(owning: raw))
    }

    // MARK: Orders and reports

    func report(_ report: HelperControl.Report) {
        _ = HelperControl.send(report, on: control)
    }

    func isStopped() -> Bool {
        takeOrders()
        return isStopOrdered
    }

    /// `xl save` and `xl migrate` suspend a guest; resumed under their hands, what they save would be torn.
    ///
    /// - Returns: true when the guest is theirs, and the run over.
    func leaveToWhoeverSuspended() -> Bool {
        guard standing == .suspended else { return false }
        report(.guestTaken)
        isStopOrdered = true
        return true
    }

    var standing: GuestStanding? { GuestStanding(of: domain, interface) }

    /// A paused guest follows no order to suspend, and libxl waits for that no longer than a minute or two.
    ///
    /// - Returns: false when the run is over.
    func awaitUnpaused() -> Bool {
        guard standing == .paused else { return true }
        report(.paused(true))
        defer { report(.paused(false)) }
        return wait(until: { MonotonicTime.now + Self.lookNanoseconds }, for: { self.standing != .paused })
    }

    /// It has just been unpaused, and may have an order that it follows now.
    ///
    /// - Returns: whether it did.
    func suspendsLate() -> Bool {
        let deadline = MonotonicTime.now + Self.settlingNanoseconds
        _ = wait(
            until: { MonotonicTime.now + Self.lookNanoseconds },
            for: { self.standing != .runs || MonotonicTime.now >= deadline })
        return standing == .suspended
    }

    private static let settlingNanoseconds: Int64 = 1_000_000_000

    /// - Returns: false when the run is over.
    func awaitCommit(of epoch: Epoch) -> Bool {
        wait { self.committed >= epoch }
    }

    /// - Returns: false when the run is over.
    func awaitOutputHeld(of epoch: Epoch) -> Bool {
        wait { self.outputHeld >= epoch }
    }

    func replicaBecomesPossible() { isReplicaPossible.withLock { $0 = true } }

    /// Until the next epoch is to begin; whoever schedules may change its mind meanwhile.
    ///
    /// - Returns: false when the run is over.
    func awaitNextStart() -> Bool {
        wait(until: { self.nextStart }, for: { MonotonicTime.now >= self.nextStart })
    }

    private func wait(until deadline: () -> MonotonicTime? = { nil }, for condition: () -> Bool) -> Bool {
        var polls = PollSet()
        while true {
            takeOrders()
            if isStopOrdered { return false }
            if condition() { return true }
            polls.reset()
            polls.add(control, reading: true)
            polls.wait(until: deadline())
        }
    }

    private func takeOrders() {
        while true {
            switch takeOrder() {
            case .message(.commit(let epoch, let start)):
                committed = epoch
                nextStart = start
            case .message(.start(let start)):
                nextStart = start
            case .message(.outputHeld(let epoch)):
                outputHeld = epoch
            case .message(.stop), .message(.guestGoesOn), .message(.begin):
                isStopOrdered = true
                return
            case .closed:
                orphaned()
                isStopOrdered = true
                return
            case .nothing:
                return
            }
        }
    }

    private func takeOrder() -> HelperControl.Received<HelperControl.Order> {
        isReplicaPossible.withLock { isPossible in
            let order = HelperControl.receiveOrder(from: control)
            if case .message(.guestGoesOn) = order { isPossible = false }
            return order
        }
    }

    // MARK: When xl dies

    /// `xl` holds the other end of the control socket for as long as it lives. This helper holds a copy of the link, so
    /// the backup sees its end only after the guest here has been taken care of.
    private func startGuardian() {
        let isStarted = try? Thread(name: "romulus-guard") { [self] in
            Urgency.raise(to: settings.realtimePriority, log)
            var polls = PollSet()
            while true {
                polls.reset()
                polls.add(control)
                polls.wait(until: nextLook)
                if polls.isBroken(0) { break }
                freezeIfLeaseHasEnded()
            }
            orphaned()
        }
        if isStarted == nil || hypervisor == nil {
            log.warning("cannot watch over xl: if it is killed, or stands still, look at both hosts")
        }
        // The stock helper exits by itself when it notices; not before its duty is done.
        Self.guardian = self
        atexit { HelperSession.guardian?.orphanedAtExit() }
    }

    private static let lookNanoseconds: Int64 = 20_000_000

    private var nextLook: MonotonicTime {
        let soon = MonotonicTime.now + Self.lookNanoseconds
        return max(soon, lease?.end ?? soon)
    }

    /// `xl` renews the lease many times before it ends, and takes it away when it has frozen the guest itself. One that has
    /// ended is `xl`'s that stands still.
    private func freezeIfLeaseHasEnded() {
        guard let lease, let end = lease.end, MonotonicTime.now >= end, lease.take(end) else { return }
        guard pause() else {
            return log.error(
                "xl remus does not run (stopped, or stuck), and the copy here could not be frozen: stop it with xl pause"
                    + " \(domain), the backup takes over")
        }
        lease.noteFreeze()
        log.warning(
            "xl remus does not run (stopped, or stuck), and the backup takes over: the copy here is frozen")
    }

    private func pause() -> Bool { hypervisor.map { xc_domain_pause($0, domain) == 0 } ?? false }

    nonisolated(unsafe) private static var guardian: HelperSession?

    func finish() {
        duty.withLock { if $0 == .watching { $0 = .none } }
        log.drain()
    }

    /// An exit in the middle of a save: `xl` is dead, or dying, and its descriptors close one after the other.
    private func orphanedAtExit() {
        guard duty.withLock({ $0 == .watching }) else { return }
        var polls = PollSet()
        polls.add(control)
        polls.wait(until: .now + .nanoseconds(milliseconds: 500))
        if polls.isBroken(0) { orphaned() }
    }

    /// Whoever comes first does it; whoever comes second waits here until it is done.
    private func orphaned() {
        duty.withLock { duty in
            guard duty == .watching else { return }
            duty = .orphaned
            // What xl said last counts, even if the save has not come to read it.
            while case .message = takeOrder() {}
            lookAfterGuest()
            log.drain()
            _exit(1)
        }
    }

    /// With a complete replica on the backup, which takes over when the link ends, this copy must not run, and its output
    /// stays held. Without one it must go on, and what is held is its own.
    private func lookAfterGuest() {
        if isReplicaPossible.withLock({ $0 }) {
            // One pause is enough, and is undone by one xl unpause.
            if lease?.isGuestFrozen == true || pause() {
                log.error(
                    "xl remus was killed: the backup takes over; the copy here is paused: remove it with"
                        + " xl destroy \(domain) once the guest runs there")
            } else {
                log.error("xl remus was killed and the copy here could not be paused: stop it, the backup takes over")
            }
            return
        }
        if GuestStanding(of: domain, hypervisor) == .suspended { _ = xc_domain_resume(hypervisor, domain, 1) }
        (try? Leftovers(of: domain))?.release(log)
        log.error("xl remus was killed before there was a replica: the guest goes on here, unprotected")
    }
}
