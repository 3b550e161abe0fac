import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost

/// The helper's side of its talk with `xl`. What is owed to the guest when `xl` dies is the guard's; the save ends then.
final class HelperSession {
    private let interface: OpaquePointer?
    private let domain: UInt32
    private let control: Int32
    private let lease: SharedLease
    let settings: HelperSettings
    let log: Log

    private var committed = Epoch.none
    private var nextStart = MonotonicTime(nanoseconds: 0)
    private var outputHeld = Epoch.none
    private var isStopOrdered = false

    /// - Returns: nil when this helper was not started by Romulus's hook in `xl`.
    init?(_ interface: OpaquePointer?, _ domain: UInt32) {
        guard let number = romulus_launch_value(ROMULUS_CONTROL), let control = Int32(String(cString: number)),
            let lease = Self.inheritedLease(), case .begin(let settings)? = Self.firstOrder(from: control)
        else { return nil }
        self.interface = interface
        self.domain = domain
        self.control = control
        self.settings = settings
        log = Log(guest: "domain \(domain)", events: .standard, isAside: true)
        self.lease = lease
        if settings.locksMemory { Urgency.lockMemory(log) }
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
    private static let lookNanoseconds: Int64 = 20_000_000

    /// - Returns: false when the run is over.
    func awaitCommit(of epoch: Epoch) -> Bool {
        wait { self.committed >= epoch }
    }

    /// - Returns: false when the run is over.
    func awaitOutputHeld(of epoch: Epoch) -> Bool {
        wait { self.outputHeld >= epoch }
    }

    func replicaBecomesPossible() { lease.replicaBecomesPossible() }

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
            switch HelperControl.receiveOrder(from: control) {
            case .message(.commit(let epoch, let start)):
                committed = epoch
                nextStart = start
            case .message(.start(let start)):
                nextStart = start
            case .message(.outputHeld(let epoch)):
                outputHeld = epoch
            case .message(.stop), .message(.begin), .closed:
                isStopOrdered = true
                return
            case .nothing:
                return
            }
        }
    }

    /// At the end of the save.
    func finish() { log.drain() }
}
