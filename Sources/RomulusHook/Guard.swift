import CLinux
import CXen
import Glibc
import RomulusCore
import RomulusHost

/// `xl`'s hold on its guard: the process that looks after the guest when `xl` dies or stands still, from before the guest is
/// touched until the run is over. What it must know is in the lease that they share, so that no death can keep it from it.
public final class Guard: @unchecked Sendable {
    public let lease: SharedLease
    /// For the save helper to hold as long as it lives.
    public let helperMark: Descriptor
    /// The guard watches its other end. Nobody else holds this one. Written while no relay runs, whose thread looks at it.
    private var post: Descriptor?

    /// In the guard it does not return. To be called before there is a thread here: a fork takes none along, only what it may hold
    /// at that moment.
    ///
    /// - Parameters:
    ///   - link: what keeps the link to the backup open (-1 is none): it ends for the backup when the guard has ended too.
    ///   - helper: the other end of `helperMark`.
    public init(
        domain: UInt32, link: [Int32], lease: SharedLease, helper: consuming Descriptor,
        helperMark: consuming Descriptor
    ) throws(SystemError) {
        self.lease = lease
        self.helperMark = helperMark
        let ends = try Descriptor.messageSockets()
        let (post, watched) = (ends.other.raw, helper.raw)
        switch romulus_fork_apart("romulus-guard \(domain)", link + [post, watched], link.count + 2) {
        case 0: GuardProcess.run(domain: domain, post: post, helper: watched, lease)
        case 1: self.post = .some(ends.one)
        default: throw SystemError("fork")
        }
    }

    public static func posted(domain: UInt32, link: [Int32]) throws(SystemError) -> Guard {
        let mark = try Descriptor.pipe(bytes: 4096)
        return try Guard(
            domain: domain, link: link, lease: SharedLease(), helper: mark.one, helperMark: mark.other)
    }

    /// From now on `xl` must not die unnoticed. Before this it leaves nothing behind.
    public func begin(_ settings: HelperSettings) {
        if let raw = post?.raw { _ = HelperControl.send(.begin(settings), on: raw) }
    }

    /// False when it has been killed, or could not be: whoever killed this process then would leave the guest to nobody.
    public var isThere: Bool {
        guard let raw = post?.raw else { return false }
        var polls = PollSet()
        polls.add(raw)
        polls.wait(until: .now)
        return !polls.isBroken(0)
    }

    /// The run is over: the guard ends, and lets go of the link.
    public func relieve() {
        lease.endRun()
        post = nil
    }
}

/// The guard itself, in its own process.
final class GuardProcess {
    private let domain: UInt32
    private let post: Int32
    private let helper: Int32
    private let lease: SharedLease
    private let log: Log
    /// Opened at the start: when it is needed, this host may have nothing left to open it with.
    private let hypervisor: OpaquePointer?
    private var duty: GuardDuty

    static func run(domain: UInt32, post: Int32, helper: Int32, _ lease: SharedLease) -> Never {
        romulus_name_thread("romulus-guard")
        // A run that is refused before it has begun has no need of one.
        guard let settings = firstOrder(from: post) else { _exit(0) }
        GuardProcess(domain, post, helper, lease, settings).watch()
    }

    private static func firstOrder(from post: Int32) -> HelperSettings? {
        var polls = PollSet()
        while true {
            polls.reset()
            polls.add(post, reading: true)
            polls.wait(until: nil)
            switch HelperControl.receiveOrder(from: post) {
            case .message(.begin(let settings)): return settings
            case .message, .nothing: continue
            case .closed: return nil
            }
        }
    }

    private init(_ domain: UInt32, _ post: Int32, _ helper: Int32, _ lease: SharedLease, _ settings: HelperSettings) {
        self.domain = domain
        self.post = post
        self.helper = helper
        self.lease = lease
        duty = GuardDuty(domain: domain)
        log = Log(guest: "domain \(domain)", events: .standard, isAside: true)
        hypervisor = xc_interface_open(nil, nil, 0)
        if hypervisor == nil {
            log.warning("cannot watch over xl: if it is killed, or stands still, look at both hosts")
        }
        if settings.locksMemory { Urgency.lockMemory(log) }
        Urgency.raise(to: settings.realtimePriority, log)
    }

    private func watch() -> Never {
        var polls = PollSet()
        while true {
            polls.reset()
            polls.add(post)
            polls.wait(until: nextLook)
            if polls.isBroken(0) { break }
            freezeIfLeaseHasEnded()
        }
        perform(lease.isRunOver ? .runIsOver : .xlHasGone(lease.replica, isGuestFrozen: lease.isGuestFrozen))
        _exit(0)
    }

    private static let lookNanoseconds: Int64 = 20_000_000

    private var nextLook: MonotonicTime {
        let soon = MonotonicTime.now + Self.lookNanoseconds
        return max(soon, lease.end ?? soon)
    }

    /// `xl` renews the lease many times before it ends, and takes it away when it has frozen the guest itself.
    private func freezeIfLeaseHasEnded() {
        guard let end = lease.end, MonotonicTime.now >= end else { return }
        if lease.take(end) { perform(.leaseWasTaken) }
        lease.settle()
    }

    private func perform(_ event: GuardDuty.Event) {
        for action in duty.handle(event) {
            switch action {
            case .pauseGuest: perform(.guestPaused(hypervisor.map { xc_domain_pause($0, domain) == 0 } ?? false))
            case .noteFreeze: lease.noteFreeze()
            case .resumeGuest: resumeGuest()
            case .releaseOutput: (try? Leftovers(of: domain))?.release(log)
            case .log(let line): log.write(line)
            case .exit:
                log.drain()
                _exit(1)
            }
        }
    }

    private func resumeGuest() {
        // It ends with its xl. One that hangs can suspend nobody any more.
        var polls = PollSet()
        polls.add(helper)
        polls.wait(until: .now + Self.helperPatienceNanoseconds)
        if GuestStanding(of: domain, hypervisor) == .suspended { _ = xc_domain_resume(hypervisor, domain, 1) }
    }

    private static let helperPatienceNanoseconds: Int64 = 5_000_000_000
}
