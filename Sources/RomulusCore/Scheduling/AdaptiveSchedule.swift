/// What an admin lets checkpointing take, and the limits of the period.
public struct ScheduleBudgets: Equatable, Sendable {
    public enum Kind: Equatable, Sendable {
        case pause
        case output
        case bandwidth
    }

    public var floorNanoseconds: Int64
    public var ceilingNanoseconds: Int64
    /// The largest part of its time that the guest may be paused, in (0, 1].
    public var pauseShare: Double
    /// The longest that a packet may wait before it leaves.
    public var outputDelayNanoseconds: Int64?
    /// Of the link.
    public var bytesPerSecond: Double?

    public init(
        floorNanoseconds: Int64, ceilingNanoseconds: Int64, pauseShare: Double, outputDelayNanoseconds: Int64? = nil,
        bytesPerSecond: Double? = nil
    ) {
        self.floorNanoseconds = floorNanoseconds
        self.ceilingNanoseconds = ceilingNanoseconds
        self.pauseShare = pauseShare
        self.outputDelayNanoseconds = outputDelayNanoseconds
        self.bytesPerSecond = bytesPerSecond
    }
}

/// The control law (docs/scheduling.md): every epoch is paid for with time. A pause of p is paid when p / share has passed,
/// b bytes when b / bandwidth has; nothing is smoothed, so nothing swings.
///
///     nothing waits                 the ceiling
///     output waits                  when half of each budget has paid, or when its own delay demands it,
///                                   but not before the whole of each budget has paid
struct AdaptiveSchedule: Sendable {
    private let budgets: ScheduleBudgets
    private var pause: Account
    private var link: Account?
    /// Of pause and acknowledgement together, with an eighth in reserve: rises at once, falls by an eighth per epoch.
    private var expectedDelay: Int64 = 0
    private(set) var unmet: ScheduleBudgets.Kind?

    init(_ budgets: ScheduleBudgets) {
        self.budgets = budgets
        pause = Account(price: 1 / budgets.pauseShare, memoryNanoseconds: budgets.ceilingNanoseconds)
        link = budgets.bytesPerSecond.map { Account(price: 1e9 / $0, memoryNanoseconds: budgets.ceilingNanoseconds) }
    }

    /// When a kind of cost is paid, with a budget and with half of it: the generic cell rate algorithm of ATM (ITU-T I.371).
    /// What was not used is remembered for as long as one ceiling, and so is what was used too much.
    private struct Account {
        /// In nanoseconds, of what is charged.
        let price: Double
        let memoryNanoseconds: Int64
        private(set) var paid = MonotonicTime(nanoseconds: .min / 2)
        private(set) var paidWithHalf = MonotonicTime(nanoseconds: .min / 2)

        init(price: Double, memoryNanoseconds: Int64) {
            self.price = price
            self.memoryNanoseconds = memoryNanoseconds
        }

        /// - Returns: whether a ceiling is time enough to pay.
        mutating func charge(_ amount: Double, at start: MonotonicTime) -> Bool {
            let cost = Int64(min(amount * price, 1e15))
            func after(_ before: MonotonicTime, _ cost: Int64) -> MonotonicTime {
                min(max(before, start + -memoryNanoseconds) + cost, start + memoryNanoseconds)
            }
            paid = after(paid, cost)
            paidWithHalf = after(paidWithHalf, 2 * cost)
            return cost <= memoryNanoseconds
        }
    }

    mutating func epochCommitted(_ cost: EpochCost) {
        let pauses = pause.charge(Double(cost.pauseNanoseconds), at: cost.requested)
        let flows = link?.charge(Double(cost.linkBytes), at: cost.requested) ?? true
        let delay = cost.pauseNanoseconds + cost.acknowledgeNanoseconds
        expectedDelay = max(delay + delay / 8, expectedDelay - expectedDelay / 8)
        unmet = !pauses ? .pause : !flows ? .bandwidth : nil
    }

    mutating func nextStart(after lastStart: MonotonicTime, outputSince: MonotonicTime?) -> MonotonicTime {
        let latest = lastStart + budgets.ceilingNanoseconds
        guard let outputSince else { return latest }
        let floor = lastStart + budgets.floorNanoseconds
        let earliest = max(floor, pause.paid, link?.paid ?? floor)
        let comfortable = max(floor, pause.paidWithHalf, link?.paidWithHalf ?? floor)
        let demanded = budgets.outputDelayNanoseconds.map { outputSince + max(0, $0 - expectedDelay) }
        let start = min(max(earliest, min(comfortable, demanded ?? comfortable)), latest)
        if unmet == nil, let allowed = budgets.outputDelayNanoseconds,
            max(start, outputSince) + expectedDelay > outputSince + allowed
        {
            unmet = .output
        }
        return start
    }
}

extension ScheduleBudgets {
    /// What an admin can do about a budget that is not kept.
    public func advice(_ kind: Kind) -> String {
        let percent = Int((pauseShare * 100).rounded())
        return switch kind {
        case .pause:
            "the guest is paused for more than max_pause_percent = \(percent) even with the longest period: raise that, or"
                + " period_ceiling_ms = \(ceilingNanoseconds.inMilliseconds), in /etc/xen/romulus.conf"
        case .bandwidth:
            "checkpoints need more than max_mbit_per_s = \(Int((bytesPerSecond ?? 0) * 8 / 1e6)) even with the longest"
                + " period: raise that, or period_ceiling_ms = \(ceilingNanoseconds.inMilliseconds), in /etc/xen/romulus.conf"
        case .output:
            "the guest's output waits longer than max_output_delay_ms = \(outputDelayNanoseconds?.inMilliseconds ?? 0),"
                + " because the other budgets leave no room for more checkpoints: raise one of them in"
                + " /etc/xen/romulus.conf"
        }
    }
}
