import RomulusCore

/// What a run did, summed up as it goes; nothing is kept per epoch.
public struct RunStatistics: Sendable {
    public let startedAt: MonotonicTime
    public private(set) var epochCount: UInt64 = 0
    public private(set) var pauseNanoseconds = Distribution()
    public private(set) var pages = Distribution()
    public private(set) var streamBytes = Distribution()
    public private(set) var linkBytes = Distribution()
    /// As `EpochTimes.parts`.
    public private(set) var pauseParts = [Distribution](
        repeating: Distribution(), count: EpochTimes.partNames.count)
    public private(set) var stagingFullCount = 0
    public var overrunCount = 0

    public init(startedAt: MonotonicTime) {
        self.startedAt = startedAt
    }

    public struct Distribution: Equatable, Sendable {
        public private(set) var count: Int64 = 0
        public private(set) var sum: Int64 = 0
        public private(set) var largest: Int64 = 0

        public var mean: Int64 { count == 0 ? 0 : sum / count }

        public mutating func add(_ value: Int64) {
            count += 1
            sum += value
            largest = max(largest, value)
        }
    }

    mutating func add(_ epoch: CompletedEpoch) {
        pauseNanoseconds.add(epoch.times.pauseNanoseconds)
        for (index, part) in epoch.times.parts.enumerated() { pauseParts[index].add(part) }
        // The first epoch is the whole guest: it says nothing about the others.
        guard epoch.number.rawValue > 1 else { return }
        pages.add(Int64(epoch.size.pages))
        streamBytes.add(Int64(epoch.size.streamBytes))
        linkBytes.add(Int64(epoch.size.linkBytes))
    }

    mutating func committed(_ epoch: Epoch) { epochCount = epoch.rawValue }
    mutating func stagingWasFull() { stagingFullCount += 1 }

    /// The mean pause's parts, in microseconds.
    private var pauseInParts: String {
        zip(EpochTimes.partNames, pauseParts)
            .map { "\($0) \($1.mean / 1000)" }.joined(separator: ", ") + " us"
    }

    /// The run in one line.
    public func summary(at now: MonotonicTime) -> String {
        let seconds = Double((now - startedAt).inMilliseconds) / 1000
        return "\(epochCount) epochs in \(seconds) s; pages per epoch \(pages.mean) (most \(pages.largest));"
            + " \(linkBytes.mean >> 10) of \(streamBytes.mean >> 10) KiB per epoch over the link;"
            + " pause \(pauseNanoseconds.mean.inMilliseconds) ms (longest \(pauseNanoseconds.largest.inMilliseconds) ms:"
            + " \(pauseInParts));"
            + " \(overrunCount) epochs took longer than the period; staging was full \(stagingFullCount) times"
    }
}
