import RomulusCore
import RomulusPlugin
import Synchronization

/// The plugins that are asked before the backup suspects its primary. Used on the relay's thread, which does not wait.
public final class SuspicionPlugins {
    private struct Answers: Sendable {
        var round = 0
        /// Who has not answered yet, by position.
        var waitedFor: Set<Int> = []
        var patienceMilliseconds: UInt32 = 0
    }

    private let plugins: [Plugin]
    private let answers: SharedAnswers
    /// When no answer is waited for any longer.
    public private(set) var deadline: MonotonicTime?

    /// A callback that was left behind may still come to it.
    private final class SharedAnswers: Sendable {
        let value = Mutex(Answers())
        let event: Descriptor

        init() throws(SystemError) { event = try Descriptor.event() }
    }

    /// - Returns: nil where nobody wants to be asked.
    public init?(_ set: PluginSet) throws(SystemError) {
        plugins = set.plugins.filter { $0.callbacks.suspect != nil }
        guard !plugins.isEmpty else { return nil }
        answers = try SharedAnswers()
    }

    /// Readable when all have answered.
    public var descriptor: Int32 { answers.event.raw }

    public func ask(silenceNanoseconds: Int64, timesBefore: Int, epoch: Epoch, now: MonotonicTime) {
        deadline = now + (plugins.map(\.timeoutNanoseconds).max() ?? 0)
        let round = answers.value.withLock { answers in
            answers = Answers(round: answers.round + 1, waitedFor: Set(plugins.indices))
            return answers.round
        }
        let question = romulus_suspicion(
            size: UInt32(MemoryLayout<romulus_suspicion>.size), asked: UInt32(clamping: timesBefore),
            silence_ns: UInt64(silenceNanoseconds), epoch: epoch.rawValue)
        for (index, plugin) in plugins.enumerated() {
            let (callback, me) = (plugin.callbacks.suspect!, SelfPointer(plugin.callbacks.`self`))
            let isPosted = plugin.lane.post { [answers] in
                var question = question
                Self.note(callback(me.raw, &question), of: index, in: round, answers)
            }
            if !isPosted { Self.note(0, of: index, in: round, answers) }
        }
    }

    private static func note(
        _ milliseconds: UInt32, of index: Int, in round: Int, _ answers: SharedAnswers
    ) {
        let isLast = answers.value.withLock { answers in
            guard answers.round == round, answers.waitedFor.remove(index) != nil else { return false }
            answers.patienceMilliseconds = max(answers.patienceMilliseconds, milliseconds)
            return answers.waitedFor.isEmpty
        }
        if isLast { answers.event.signal() }
    }

    /// What they say together, once: 0 agrees. Nil while it is waited for. Who is late is left behind, and has agreed.
    public func takeAnswer(now: MonotonicTime) -> Int64? {
        guard let deadline else { return nil }
        answers.event.drain()
        let (late, patience) = answers.value.withLock { answers -> (Set<Int>, UInt32?) in
            if answers.waitedFor.isEmpty { return ([], answers.patienceMilliseconds) }
            guard now >= deadline else { return ([], nil) }
            answers.round += 1
            return (answers.waitedFor, answers.patienceMilliseconds)
        }
        for index in late { plugins[index].lane.leaveBehind("suspect", after: plugins[index].timeoutNanoseconds) }
        guard let patience else { return nil }
        self.deadline = nil
        return .nanoseconds(milliseconds: Int(patience))
    }
}
