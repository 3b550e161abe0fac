import RomulusCore

/// All of one epoch, once it is committed.
public struct CompletedEpoch: Equatable, Sendable {
    public var number: Epoch
    public var times: EpochTimes
    public var size: EpochSize
    /// All of it had been written to the link.
    public var sentAt: MonotonicTime
    /// The backup had acknowledged it (or, with a stock backup, it had been sent).
    public var committedAt: MonotonicTime

    public var acknowledgeNanoseconds: Int64 { committedAt - times.resumed }

    var cost: EpochCost {
        EpochCost(
            requested: times.requested, pauseNanoseconds: times.pauseNanoseconds,
            acknowledgeNanoseconds: acknowledgeNanoseconds, linkBytes: size.linkBytes)
    }
}

/// What one epoch came to.
public struct EpochSize: Equatable, Sendable {
    public var pages: Int
    /// Of the stock stream.
    public var streamBytes: UInt64
    /// What of it, encoded, went over the link.
    public var linkBytes: UInt64
}

/// Puts an epoch together out of what the helper, the link and the backup tell of it. There is one at a time.
struct EpochBook {
    private var times: EpochTimes?
    private var sent: (size: EpochSize, at: MonotonicTime)?

    mutating func resumed(_ times: EpochTimes) { self.times = times }
    mutating func sent(_ size: EpochSize, at now: MonotonicTime) { sent = (size, now) }

    /// - Returns: nil where something of it was not heard.
    mutating func committed(_ number: Epoch, at now: MonotonicTime) -> CompletedEpoch? {
        defer { (times, sent) = (nil, nil) }
        guard let times, let sent, times.epoch == number else { return nil }
        return CompletedEpoch(number: number, times: times, size: sent.size, sentAt: sent.at, committedAt: now)
    }
}
