import RomulusCore
import RomulusPlugin
import Synchronization

/// The plugins that hear of every committed epoch, and those that say when the next one begins. Used on the relay's thread,
/// which never waits for them.
public final class EpochPlugins {
    private struct Answer: Sendable {
        var epoch = Epoch.none
        /// 0 is Romulus's own.
        var periodNanoseconds: UInt64 = 0
        var isNews = false
    }

    private static let allowedPeriods: ClosedRange<UInt64> = 1_000_000...60_000_000_000

    /// A callback that was left behind may still come to it.
    private final class SharedAnswer: Sendable {
        let value = Mutex(Answer())
        let event: Descriptor

        init() throws(SystemError) { event = try Descriptor.event() }
    }

    private let plugins: [Plugin]
    private let answer: SharedAnswer

    /// - Returns: nil where nobody wants to hear.
    public init?(_ set: PluginSet) throws(SystemError) {
        plugins = set.plugins.filter { $0.callbacks.observe != nil || $0.callbacks.schedule != nil }
        guard !plugins.isEmpty else { return nil }
        answer = try SharedAnswer()
    }

    /// Readable when a period has been chosen.
    var descriptor: Int32 { answer.event.raw }

    /// Whether any of them chooses periods, and has not failed.
    var choosesPeriods: Bool { plugins.contains { $0.callbacks.schedule != nil && $0.lane.isWorking } }

    /// - Parameters:
    ///   - aimed: the period that this epoch was to have.
    ///   - period: Romulus's own, until the next.
    func committed(_ epoch: CompletedEpoch, aimedNanoseconds aimed: Int64, periodNanoseconds period: Int64) {
        leaveBehindWhoeverIsLate()
        Self.tell(
            plugins[...], Self.facts(epoch, aimedNanoseconds: aimed), periodNanoseconds: UInt64(max(period, 0)),
            isChosen: false, epoch.number, answer)
    }

    /// What was chosen since the last time, for the epoch that began last: nanoseconds, and 0 for Romulus's own.
    func takePeriod(after epoch: Epoch) -> Int64? {
        answer.event.drain()
        return answer.value.withLock { answer in
            guard answer.isNews, answer.epoch == epoch else { return nil }
            answer.isNews = false
            return Int64(answer.periodNanoseconds)
        }
    }

    func leaveBehindWhoeverIsLate() {
        let now = MonotonicTime.now
        for plugin in plugins {
            guard let since = plugin.lane.busySince, now - since > plugin.timeoutNanoseconds else { continue }
            plugin.lane.leaveBehind("observe or schedule", after: plugin.timeoutNanoseconds)
        }
    }

    /// One after the other, each on its own thread: a later one hears what an earlier one has chosen.
    private static func tell(
        _ plugins: ArraySlice<Plugin>, _ facts: romulus_epoch, periodNanoseconds: UInt64, isChosen: Bool,
        _ epoch: Epoch, _ answer: SharedAnswer
    ) {
        guard let plugin = plugins.first else {
            answer.value.withLock {
                $0 = Answer(epoch: epoch, periodNanoseconds: isChosen ? periodNanoseconds : 0, isNews: true)
            }
            answer.event.signal()
            return
        }
        let isPosted = plugin.lane.post {
            let chosen = call(plugin, facts, periodNanoseconds: periodNanoseconds)
            tell(
                plugins.dropFirst(), facts, periodNanoseconds: chosen ?? periodNanoseconds,
                isChosen: isChosen || chosen != nil, epoch, answer)
        }
        if !isPosted {
            tell(
                plugins.dropFirst(), facts, periodNanoseconds: periodNanoseconds, isChosen: isChosen, epoch, answer)
        }
    }

    /// On the plugin's thread.
    ///
    /// - Returns: a period, if it chooses one.
    private static func call(_ plugin: Plugin, _ facts: romulus_epoch, periodNanoseconds: UInt64) -> UInt64? {
        var facts = facts
        let me = plugin.callbacks.`self`
        if let observe = plugin.callbacks.observe, observe(me, &facts) != 0 {
            plugin.lane.failed("observe")
            return nil
        }
        guard let schedule = plugin.callbacks.schedule else { return nil }
        let period = schedule(me, &facts, periodNanoseconds)
        guard period != 0 else { return nil }
        guard allowedPeriods.contains(period) else {
            plugin.lane.failed("schedule, with a period of \(period) ns,")
            return nil
        }
        return period
    }

    private static func facts(_ epoch: CompletedEpoch, aimedNanoseconds: Int64) -> romulus_epoch {
        func nanoseconds(_ value: Int64) -> UInt64 { UInt64(max(value, 0)) }
        let times = epoch.times
        return romulus_epoch(
            size: UInt32(MemoryLayout<romulus_epoch>.size), reserved: 0, epoch: epoch.number.rawValue,
            requested_ns: nanoseconds(times.requested.nanoseconds), pause_ns: nanoseconds(times.pauseNanoseconds),
            suspend_ns: nanoseconds(times.suspended - times.requested),
            copy_ns: nanoseconds(times.saved - times.suspended),
            hold_ns: nanoseconds(times.outputHeld - times.saved),
            resume_ns: nanoseconds(times.resumed - times.outputHeld), pages: UInt64(epoch.size.pages),
            stream_bytes: epoch.size.streamBytes, link_bytes: epoch.size.linkBytes,
            sent_ns: nanoseconds(epoch.sentAt - times.resumed),
            acknowledged_ns: nanoseconds(epoch.acknowledgeNanoseconds), period_ns: nanoseconds(aimedNanoseconds))
    }
}
