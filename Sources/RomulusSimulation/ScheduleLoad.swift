import RomulusCore

/// A guest and its host as a scheduler sees them: what they cost per epoch, as the guest's work changes.
public struct ScheduleLoad: Sendable {
    /// What the guest does at one time.
    public struct Work: Sendable {
        public var pagesPerSecond: Double
        /// Seconds between two packets; nil where it sends none.
        public var outputInterval: Double?

        public init(pagesPerSecond: Double, outputInterval: Double? = nil) {
            self.pagesPerSecond = pagesPerSecond
            self.outputInterval = outputInterval
        }
    }

    /// By the seconds since the beginning.
    public var work: @Sendable (Double) -> Work
    /// However long an epoch is, no more pages than these are written.
    public var workingSetPages = 20_000.0
    /// Seconds: of every pause, and per page.
    public var fixedPause = 0.003
    public var pausePerPage = 0.000_001
    public var bytesPerPage = 600.0
    /// Seconds from the guest's resuming to the acknowledgement: of every epoch, and per byte.
    public var fixedAcknowledge = 0.001
    public var acknowledgePerByte = 1 / 100e6

    public init(_ work: @escaping @Sendable (Double) -> Work) { self.work = work }

    /// One epoch. Times are seconds since the beginning.
    public struct Sample: Equatable, Sendable {
        public var start: Double
        /// Since the epoch before.
        public var period: Double
        public var pause: Double
        public var bytes: Double
        public var committed: Double
        /// How long the first packet that waited for this epoch has waited.
        public var waited: Double?
    }

    /// The closed loop of guest and scheduler.
    public func run(_ policy: SchedulePolicy, seconds: Double) -> [Sample] {
        var scheduler = CheckpointScheduler(policy)
        var samples: [Sample] = []
        var start = 0.0
        var resumed = 0.0
        var firstPacket: Double?
        while start < seconds {
            let period = samples.last.map { start - $0.start } ?? 0
            let pages = written(from: resumed, to: start)
            let pause = fixedPause + pages * pausePerPage
            let bytes = pages * bytesPerPage
            let committed = start + pause + fixedAcknowledge + bytes * acknowledgePerByte
            samples.append(
                Sample(
                    start: start, period: period, pause: pause, bytes: bytes, committed: committed,
                    waited: firstPacket.map { committed - $0 }))
            resumed = start + pause
            scheduler.epochCommitted(
                EpochCost(
                    requested: Self.time(start), pauseNanoseconds: Self.nanoseconds(pause),
                    acknowledgeNanoseconds: Self.nanoseconds(committed - resumed), linkBytes: UInt64(bytes)),
                at: Self.time(committed))
            (start, firstPacket) = next(&scheduler, resumed: resumed, committed: committed)
        }
        return samples
    }

    private func next(
        _ scheduler: inout CheckpointScheduler, resumed: Double, committed: Double
    ) -> (start: Double, firstPacket: Double?) {
        func start(_ outputSince: Double?) -> Double {
            scheduler.nextStart(outputSince: outputSince.map(Self.time)).map { Double($0.nanoseconds) / 1e9 }
                ?? committed
        }
        let quiet = max(committed, start(nil))
        guard let packet = packet(after: resumed, before: quiet) else { return (quiet, nil) }
        return (max(committed, packet, min(quiet, start(packet))), packet)
    }

    private static let grain = 0.001

    /// Distinct pages: those that are written twice count once.
    private func written(from: Double, to: Double) -> Double {
        var clean = workingSetPages
        var moment = from
        while moment < to {
            let length = min(Self.grain, to - moment)
            clean -= clean * min(1, work(moment).pagesPerSecond * length / workingSetPages)
            moment += Self.grain
        }
        return workingSetPages - clean
    }

    private func packet(after: Double, before: Double) -> Double? {
        var moment = after
        while moment < before {
            if let interval = work(moment).outputInterval {
                let packet = (moment / interval).rounded(.up) * interval
                if packet < before, packet - moment <= Self.grain || interval > Self.grain { return packet }
            }
            moment += Self.grain
        }
        return nil
    }

    private static func nanoseconds(_ seconds: Double) -> Int64 { Int64(seconds * 1e9) }
    private static func time(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds(seconds)) }
}

// MARK: Loads that a schedule is tried with

extension ScheduleLoad {
    /// A clock tick now and then, and hardly a packet.
    public static let idle = ScheduleLoad { _ in Work(pagesPerSecond: 200, outputInterval: 30) }
    /// A server that answers all the time; from the tenth to the thirtieth second it also writes much.
    public static let step = ScheduleLoad { second in
        Work(pagesPerSecond: (10..<30).contains(second) ? 60_000 : 2000, outputInterval: 0.005)
    }
    /// Two seconds of work in every ten, with answers; else quiet.
    public static let burst = ScheduleLoad { second in
        second.truncatingRemainder(dividingBy: 10) < 2
            ? Work(pagesPerSecond: 80_000, outputInterval: 0.01) : Work(pagesPerSecond: 500)
    }
    /// Work that grows for eight seconds and falls at once.
    public static let sawtooth = ScheduleLoad { second in
        Work(pagesPerSecond: 2000 + 8000 * second.truncatingRemainder(dividingBy: 8), outputInterval: 0.005)
    }
}
