/// Decides when the next epoch begins: `-i` is the period from one suspend request to the next, as in the paper of 2008
/// (section 4.2), not a sleep after the commit as in stock Xen.
public struct CheckpointScheduler: Sendable {
    public let periodNanoseconds: Int64
    /// Epochs that took longer than the period, so that the next one began at once.
    public private(set) var overrunCount = 0
    private var lastStart: MonotonicTime?

    public init(periodNanoseconds: Int64) {
        self.periodNanoseconds = periodNanoseconds
    }

    public mutating func epochBegan(at now: MonotonicTime) { lastStart = now }

    /// Called once per epoch, when it is committed: when the next one begins, never before `now`.
    public mutating func nextStart(committedAt now: MonotonicTime) -> MonotonicTime {
        guard let lastStart else { return now }
        let due = lastStart + periodNanoseconds
        if due < now { overrunCount += 1 }
        return max(due, now)
    }
}

/// Lets one message of a kind through per interval, and counts the others.
public struct MessageLimiter: Sendable {
    public let intervalNanoseconds: Int64
    private var lastPassed: MonotonicTime?

    public init(intervalNanoseconds: Int64) { self.intervalNanoseconds = intervalNanoseconds }

    public mutating func passes(at now: MonotonicTime) -> Bool {
        if let lastPassed, now - lastPassed < intervalNanoseconds { return false }
        lastPassed = now
        return true
    }
}
