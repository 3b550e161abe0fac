/// Lets one message of a kind through per interval.
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
