/// Suspects a peer that has been silent for too long.
///
/// Any byte is a sign of life, so a slow link that carries a large epoch is not a dead one; a peer with nothing to say
/// sends heartbeats. While the listener itself does not read (its memory is full), silence proves nothing and no time
/// counts. Only this host's monotonic clock is asked.
public struct FailureDetector: Sendable {
    public var timeoutNanoseconds: Int64
    private var lastHeard: MonotonicTime
    private var isListening = true

    public init(timeoutNanoseconds: Int64, now: MonotonicTime) {
        self.timeoutNanoseconds = timeoutNanoseconds
        lastHeard = now
    }

    public mutating func heard(at now: MonotonicTime) { lastHeard = now }

    public mutating func setListening(_ listens: Bool, at now: MonotonicTime) {
        if listens, !isListening { lastHeard = now }
        isListening = listens
    }

    /// When the peer becomes suspect unless it is heard before; nil while nobody listens.
    public var deadline: MonotonicTime? { isListening ? lastHeard + timeoutNanoseconds : nil }

    public func silenceNanoseconds(at now: MonotonicTime) -> Int64 { now - lastHeard }

    public func isSuspect(at now: MonotonicTime) -> Bool {
        guard let deadline else { return false }
        return now >= deadline
    }
}

/// How long each side of a link waits, derived from the backup's `detect_timeout_ms`.
///
/// The primary's deadline is the earlier one by a quarter: a cut link is noticed first by the side that has output to
/// hold. Eight heartbeats fit into the timeout, so that one late or lost in a queue is no failure.
public struct LinkTimes: Equatable, Sendable {
    public let backupDeadlineNanoseconds: Int64
    public var primaryDeadlineNanoseconds: Int64 { backupDeadlineNanoseconds / 4 * 3 }
    public var heartbeatNanoseconds: Int64 { backupDeadlineNanoseconds / 8 }

    public init(detectTimeoutMilliseconds: Int) {
        backupDeadlineNanoseconds = .nanoseconds(milliseconds: detectTimeoutMilliseconds)
    }
}

/// Sends a sign of life when nothing else was sent for one interval.
public struct HeartbeatTimer: Sendable {
    public var intervalNanoseconds: Int64
    private var lastSent: MonotonicTime

    public init(intervalNanoseconds: Int64, now: MonotonicTime) {
        self.intervalNanoseconds = intervalNanoseconds
        lastSent = now
    }

    public mutating func sent(at now: MonotonicTime) { lastSent = now }
    public var deadline: MonotonicTime { lastSent + intervalNanoseconds }
    public func isDue(at now: MonotonicTime) -> Bool { now >= deadline }
}
