/// What a domain's copy here does, as Xen tells it.
public enum GuestStanding: Equatable, Sendable {
    case runs
    /// By an admin, or by a freeze. It neither takes an order to suspend nor follows one.
    case paused
    /// For a checkpoint.
    case suspended
}

/// Whether a checkpoint gets on, from the order to suspend until all of it is on its way. libxl waits up to two minutes for a
/// guest that does not follow, and for ever for a helper that hangs, with the guest's output held all the time.
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

    private enum Stage {
        case none
        case suspending
        case sending
    }

    private let noticeNanoseconds: Int64
    private let limitNanoseconds: Int64
    private var stage = Stage.none
    /// The last sign of progress.
    private var movedAt = MonotonicTime(nanoseconds: 0)
    private var hasSaid = false

    public init(
        noticeNanoseconds: Int64 = EpochWatch.noticeNanoseconds, limitNanoseconds: Int64 = EpochWatch.limitNanoseconds
    ) {
        self.noticeNanoseconds = noticeNanoseconds
        self.limitNanoseconds = limitNanoseconds
    }

    public mutating func began(at now: MonotonicTime) {
        stage = .suspending
        movedAt = now
        hasSaid = false
    }

    /// The guest has suspended and is copied.
    public mutating func saved(at now: MonotonicTime) {
        stage = .sending
        movedAt = now
    }

    public mutating func moved(at now: MonotonicTime) { movedAt = now }

    public mutating func ended() { stage = .none }

    /// The guest has been told to suspend, and nothing is known of it yet.
    public var isSuspending: Bool { stage == .suspending }

    /// Whether it is worth a look at the guest.
    public func isDue(at now: MonotonicTime) -> Bool { stage != .none && now - movedAt >= noticeNanoseconds }

    public mutating func look(_ guest: GuestStanding, at now: MonotonicTime) -> Advice {
        guard isDue(at: now) else { return .wait }
        if stage == .suspending, guest == .paused {
            // Whoever paused it may take their time.
            movedAt = now
            return say(
                "the guest was paused in the middle of a checkpoint, which waits until it runs again (xl unpause)")
        }
        let still = "for \((now - movedAt) / 1_000_000_000) s"
        let isDisobedient = stage == .suspending && guest == .runs
        let what =
            isDisobedient
            ? "the guest has not suspended \(still)"
            : "a checkpoint has stood still \(still)" + (guest == .suspended ? " while the guest is suspended" : "")
        if now - movedAt >= limitNanoseconds { return .end(what) }
        let why =
            isDisobedient
            ? "does it hang, or have a task that cannot be frozen?" : "does the save helper or the device model hang?"
        return say("\(what) (\(why)): protection ends after \(limitNanoseconds / 1_000_000_000) s")
    }

    private mutating func say(_ text: String) -> Advice {
        if hasSaid { return .wait }
        hasSaid = true
        return .say(text)
    }
}
