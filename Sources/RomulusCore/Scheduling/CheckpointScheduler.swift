/// How a run chooses when its epochs begin.
public enum SchedulePolicy: Equatable, Sendable {
    /// `-i`: from one suspend request to the next, as in the paper of 2008 (section 4.2), not a sleep after the commit as
    /// in stock Xen.
    case fixed(periodNanoseconds: Int64)
    case adaptive(ScheduleBudgets)
}

/// What a committed epoch has cost.
public struct EpochCost: Equatable, Sendable {
    /// When its suspension was asked for.
    public var requested: MonotonicTime
    public var pauseNanoseconds: Int64
    /// From the guest's resuming to the backup's acknowledgement.
    public var acknowledgeNanoseconds: Int64
    /// On the link.
    public var linkBytes: UInt64

    public init(
        requested: MonotonicTime, pauseNanoseconds: Int64, acknowledgeNanoseconds: Int64, linkBytes: UInt64
    ) {
        self.requested = requested
        self.pauseNanoseconds = pauseNanoseconds
        self.acknowledgeNanoseconds = acknowledgeNanoseconds
        self.linkBytes = linkBytes
    }
}

/// Decides when the next epoch begins. Pure: whoever uses it asks again when the guest's output begins to wait.
public struct CheckpointScheduler: Sendable {
    public let policy: SchedulePolicy
    /// Epochs that took longer than a fixed period, so that the next one began at once.
    public private(set) var overrunCount = 0
    private var adaptive: AdaptiveSchedule?
    private var lastStart: MonotonicTime?

    public init(_ policy: SchedulePolicy) {
        self.policy = policy
        if case .adaptive(let budgets) = policy { adaptive = AdaptiveSchedule(budgets) }
    }

    /// The answer depends on whether output waits, so it is worth looking.
    public var asksForOutput: Bool { adaptive != nil }

    /// A budget that the last epochs did not keep, and cannot.
    public var unmetBudget: ScheduleBudgets.Kind? { adaptive?.unmet }

    public mutating func epochCommitted(_ cost: EpochCost, at now: MonotonicTime) {
        lastStart = cost.requested
        adaptive?.epochCommitted(cost)
        if case .fixed(let period) = policy, cost.requested + period < now { overrunCount += 1 }
    }

    /// When the next epoch begins; a moment that has passed means at once.
    ///
    /// - Parameter outputSince: since when output of the guest's has waited for its next checkpoint; nil where none waits.
    public mutating func nextStart(outputSince: MonotonicTime?) -> MonotonicTime? {
        guard let lastStart else { return nil }
        switch policy {
        case .fixed(let period): return lastStart + period
        case .adaptive: return adaptive?.nextStart(after: lastStart, outputSince: outputSince)
        }
    }
}
