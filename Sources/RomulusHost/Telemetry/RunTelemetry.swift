import RomulusCore

/// Everything that is told of a run on the primary, while it goes on and afterwards. Used on the relay's thread only.
struct RunTelemetry {
    private(set) var statistics: RunStatistics
    private(set) var newest: CompletedEpoch?
    /// From the last epoch's beginning to this one's.
    private(set) var periodNanoseconds: Int64 = 0
    private var book = EpochBook()
    private let trace: EpochTrace?
    private let file: MetricsFile?
    private var metrics: Metrics

    init(guest: String, trace: EpochTrace?, metrics file: MetricsFile?) {
        statistics = RunStatistics(startedAt: .now)
        metrics = Metrics(guest: guest)
        self.trace = trace
        self.file = file
    }

    mutating func resumed(_ times: EpochTimes) { book.resumed(times) }
    mutating func sent(_ size: EpochSize) { book.sent(size, at: .now) }
    mutating func stagingWasFull() { statistics.stagingWasFull() }
    mutating func overran(_ count: Int) { statistics.overrunCount = count }

    mutating func committed(_ number: Epoch) -> CompletedEpoch? {
        statistics.committed(number)
        guard let epoch = book.committed(number, at: .now) else { return nil }
        if let newest { periodNanoseconds = epoch.times.requested - newest.times.requested }
        newest = epoch
        statistics.add(epoch)
        trace?.add(epoch)
        metrics.add(epoch)
        return epoch
    }

    mutating func isNow(_ state: SessionState, held: HeldOutput) {
        guard let file else { return }
        metrics.state = state
        metrics.held = held
        metrics.periodNanoseconds = periodNanoseconds
        file.update { [metrics] in metrics.text }
    }

    mutating func close() {
        isNow(.ending, held: HeldOutput())
        trace?.drain()
        file?.close()
    }

    /// For `romulus status`.
    func details(schedule: SchedulePolicy, arbiter: ArbiterKind, held: HeldOutput) -> [JSON.Member] {
        var members: [JSON.Member] = [
            .init("schedule", schedule.isFixed ? "fixed" : "adaptive"), .init("arbiter", .string("\(arbiter)")),
            .init("held_packets", .integer(Int64(held.packets))), .init("held_bytes", .integer(Int64(held.bytes))),
            .init("dropped_packets", .integer(Int64(held.droppedPackets))),
        ]
        guard let newest else { return members }
        members += [
            .init("period_ms", .milliseconds(periodNanoseconds)),
            .init("pause_ms", .milliseconds(newest.times.pauseNanoseconds)),
            .init(
                "pause_parts_ms",
                .object(zip(EpochTimes.partNames, newest.times.parts).map { .init($0, .milliseconds($1)) })),
            .init("pages", .integer(Int64(newest.size.pages))),
            .init("stream_bytes", .integer(Int64(clamping: newest.size.streamBytes))),
            .init("link_bytes", .integer(Int64(clamping: newest.size.linkBytes))),
            .init("acknowledge_ms", .milliseconds(newest.acknowledgeNanoseconds)),
            .init("mean_pause_ms", .milliseconds(statistics.pauseNanoseconds.mean)),
            .init("longest_pause_ms", .milliseconds(statistics.pauseNanoseconds.largest)),
        ]
        return members
    }
}

extension SchedulePolicy {
    var isFixed: Bool { if case .fixed = self { true } else { false } }
}
