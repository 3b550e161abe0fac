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

    /// Held while an order is read, so that none is read and not counted yet when the guardian looks; and while what it asks for
    /// is done.
    private let duty: Mutex<HelperDuty>

    /// - Returns: nil when this helper was not started by Romulus's hook in `xl`.
    init?(_ interface: OpaquePointer?, _ domain: UInt32) {
        guard let number = romulus_launch_value(ROMULUS_CONTROL), let control = Int32(String(cString: number)),
            case .begin(let settings)? = Self.firstOrder(from: control)
        else { return nil }
        self.interface = interface
        self.domain = domain
        duty = Mutex(HelperDuty(domain: domain))
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

    func replicaBecomesPossible() { duty.withLock { perform(&$0, .replicaBecomesPossible) } }

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
        duty.withLock { receiveOrder(&$0) }
    }

    private func receiveOrder(_ duty: inout HelperDuty) -> HelperControl.Received<HelperControl.Order> {
        let order = HelperControl.receiveOrder(from: control)
        if case .message(.guestGoesOn) = order { perform(&duty, .guestGoesOn) }
        return order
    }

    // MARK: When xl dies

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

    /// `xl` renews the lease many times before it ends, and takes it away when it has frozen the guest itself.
    private func freezeIfLeaseHasEnded() {
        guard let lease, let end = lease.end, MonotonicTime.now >= end, lease.take(end) else { return }
        duty.withLock { perform(&$0, .leaseWasTaken) }
    }

    nonisolated(unsafe) private static var guardian: HelperSession?

    func finish() {
        duty.withLock { perform(&$0, .saveIsOver) }
        log.drain()
    }

    /// An exit in the middle of a save: `xl` is dead, or dying, and its descriptors close one after the other.
    private func orphanedAtExit() {
        guard duty.withLock({ $0.isWatching }) else { return }
        var polls = PollSet()
        polls.add(control)
        polls.wait(until: .now + .nanoseconds(milliseconds: 500))
        if polls.isBroken(0) { orphaned() }
    }

    /// Whoever comes first does it; whoever comes second waits here until it is done.
    private func orphaned() {
        duty.withLock { duty in
            guard duty.isWatching else { return }
            // What xl said last counts, even if the save has not come to read it.
            while case .message = receiveOrder(&duty) {}
            perform(&duty, .xlHasGone(isGuestFrozen: lease?.isGuestFrozen == true))
        }
    }

    private func perform(_ duty: inout HelperDuty, _ event: HelperDuty.Event) {
        for action in duty.handle(event) {
            switch action {
            case .pauseGuest:
                let isPaused = hypervisor.map { xc_domain_pause($0, domain) == 0 } ?? false
                perform(&duty, .guestPaused(isPaused))
            case .noteFreeze: lease?.noteFreeze()
            case .resumeGuest:
                if GuestStanding(of: domain, hypervisor) == .suspended { _ = xc_domain_resume(hypervisor, domain, 1) }
            case .releaseOutput: (try? Leftovers(of: domain))?.release(log)
            case .log(let line): log.write(line)
            case .exit:
                log.drain()
                _exit(1)
            }
        }
    }
}
