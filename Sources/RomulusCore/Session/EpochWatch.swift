/// What a domain's copy here does, as Xen tells it.
public enum GuestStanding: Equatable, Sendable {
    case runs
    /// By an admin, or by a freeze. It neither takes an order to suspend nor follows one.
    case paused
    /// For a checkpoint.
    case suspended
}

/// Whether a checkpoint gets on, from the order to suspend until the guest runs again. libxl waits up to two minutes for a guest that
/// does not follow, and for ever for a helper that hangs, with the guest's output held all the time.
public struct EpochWatch: Sendable {
    public enum Advice: Equatable, Sendable {
        case wait
        case say(String)
        /// It has lasted too long: the run is to end.
        case end(String)
    }

    /// After so long without a sign of progress a line tells of it.
    public static let noticeNanoseconds = Int64.nanoseconds(milliseconds: 10_000)
    /// And after so long the run ends. A Linux guest that cannot freeze a task gives that up after 20 seconds.
    public static let limitNanoseconds = Int64.nanoseconds(milliseconds: 30_000)

    private let noticeNanoseconds: Int64
    private let limitNanoseconds: Int64
    /// The last sign of progress; nil while no checkpoint is under way.
    private var movedAt: MonotonicTime?
    private var hasSaid = false

    public init(
        noticeNanoseconds: Int64 = EpochWatch.noticeNanoseconds, limitNanoseconds: Int64 = EpochWatch.limitNanoseconds
    ) {
        self.noticeNanoseconds = noticeNanoseconds
        self.limitNanoseconds = limitNanoseconds
    }

    public mutating func began(at now: MonotonicTime) {
        movedAt = now
        hasSaid = false
    }

    public mutating func moved(at now: MonotonicTime) { if movedAt != nil { movedAt = now } }

    public mutating func ended() { movedAt = nil }

    /// Whether it is worth a look at the guest.
    public func isDue(at now: MonotonicTime) -> Bool { movedAt.map { now - $0 >= noticeNanoseconds } ?? false }

    public mutating func look(_ guest: GuestStanding, at now: MonotonicTime) -> Advice {
        guard isDue(at: now), let movedAt else { return .wait }
        let isOver = now - movedAt >= limitNanoseconds
        let seconds = "\((now - movedAt) / 1_000_000_000) s"
        let limit = "\(limitNanoseconds / 1_000_000_000) s"
        switch guest {
        case .paused:
            // Whoever paused it may take their time.
            self.movedAt = now
            return say(
                "the guest was paused in the middle of a checkpoint, which waits until it runs again (xl unpause)")
        case .runs where isOver:
            return .end("the guest has not suspended for \(seconds)")
        case .runs:
            return say(
                "the guest was told to suspend \(seconds) ago and has not (does it hang, or have a task that cannot be"
                    + " frozen?): protection ends after \(limit)")
        case .suspended where isOver:
            return .end("the checkpoint has stood still for \(seconds) while the guest is suspended")
        case .suspended:
            return say(
                "a checkpoint has stood still for \(seconds) while the guest is suspended (does the save helper or the device"
                    + " model hang?): protection ends after \(limit)")
        }
    }

    private mutating func say(_ text: String) -> Advice {
        if hasSaid { return .wait }
        hasSaid = true
        return .say(text)
    }
}
