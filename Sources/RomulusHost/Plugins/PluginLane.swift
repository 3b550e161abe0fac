import Glibc
import RomulusCore
import Synchronization

/// A thread on which callbacks of one plugin are called, one at a time.
///
/// Nobody who waits for a callback waits for ever: one that does not come back is left behind, thread and all.
final class PluginLane: @unchecked Sendable {
    typealias Job = @Sendable () -> Void

    private enum Standing {
        case working
        /// Nothing is called any more but `close`.
        case failed
        /// A callback has not come back, or may still be at work.
        case leftBehind
        case ended
    }

    private struct State {
        var standing = Standing.working
        var jobs: [Job] = []
        var busySince: MonotonicTime?
    }

    private let plugin: String
    private let log: Log
    private let state = Mutex(State())
    private let wake: Descriptor
    // Set by `init`.
    private var thread: Thread?

    /// More than a callback that keeps up ever leaves waiting.
    static let mostJobs = 64

    init(plugin: String, log: Log) throws(SystemError) {
        self.plugin = plugin
        self.log = log
        wake = try Descriptor.event()
        thread = try Thread(name: "romulus-plugin") { [self] in work() }
    }

    var isWorking: Bool { state.withLock { $0.standing == .working } }
    var isLeftBehind: Bool { state.withLock { $0.standing == .leftBehind } }
    /// Since when the callback under way is under way.
    var busySince: MonotonicTime? { state.withLock { $0.busySince } }

    /// - Returns: false when the plugin is done for.
    func post(atMost limit: Int = mostJobs, _ job: @escaping Job) -> Bool {
        let waiting = state.withLock { state in
            if state.standing == .working, state.jobs.count < limit { state.jobs.append(job) }
            return state.jobs.count
        }
        if waiting >= limit { leaveBehind("it is too slow: \(waiting) calls wait for it") }
        guard isWorking else { return false }
        wake.signal()
        return true
    }

    /// The last one, behind what waits; also for a plugin that has failed.
    func postLast(_ job: @escaping Job) -> PluginFarewell {
        let farewell = PluginFarewell()
        state.withLock { state in
            guard state.standing != .leftBehind else { return farewell.isOver.signal() }
            state.standing = .ended
            state.jobs.append {
                job()
                farewell.isOver.signal()
            }
        }
        wake.signal()
        return farewell
    }

    /// A callback has said that it failed.
    func failed(_ what: String) { giveUp(.failed, "\(what) failed") }

    /// A callback is not waited for any longer.
    func leaveBehind(_ why: String) { giveUp(.leftBehind, why) }

    func leaveBehind(_ callback: String, after limitNanoseconds: Int64) {
        leaveBehind("\(callback) did not come back within \(limitNanoseconds.inMilliseconds) ms")
    }

    private func giveUp(_ standing: Standing, _ why: String) {
        let isNews = state.withLock { state in
            guard state.standing == .working else { return false }
            state.standing = standing
            state.jobs = []
            return true
        }
        if isNews { log.warning("the plugin \(plugin) is not called any more: \(why); the run goes on without it") }
    }

    private func work() {
        var polls = PollSet()
        while true {
            while let job = next() {
                job()
                state.withLock { $0.busySince = nil }
            }
            if state.withLock({ $0.standing == .ended && $0.jobs.isEmpty }) { return }
            polls.reset()
            polls.add(wake.raw, reading: true)
            polls.wait(until: nil)
            wake.drain()
        }
    }

    private func next() -> Job? {
        state.withLock { state in
            guard !state.jobs.isEmpty else { return nil }
            state.busySince = .now
            return state.jobs.removeFirst()
        }
    }
}

/// The last callback of a plugin, on its way.
final class PluginFarewell: Sendable {
    fileprivate let isOver: PluginSignal
    private static let expected = Mutex<[PluginFarewell]>([])
    /// For a sink that writes down what it has kept.
    private static let longestNanoseconds: Int64 = 60_000_000_000

    fileprivate init() { isOver = PluginSignal() }

    /// - Returns: whether it is over in time.
    func wait(_ nanoseconds: Int64) -> Bool { isOver.wait(nanoseconds) }

    /// The process does not end before it, or before a minute has passed. Nobody else waits.
    static func expect(_ farewell: PluginFarewell) {
        let isFirst = expected.withLock { expected in
            expected.append(farewell)
            return expected.count == 1
        }
        guard isFirst else { return }
        atexit {
            let deadline = MonotonicTime.now + PluginFarewell.longestNanoseconds
            for one in PluginFarewell.expected.withLock({ $0 }) { _ = one.wait(max(0, deadline - .now)) }
        }
    }
}

/// Something that happens once.
final class PluginSignal: Sendable {
    /// An eventfd; -1 where the process has no descriptor left, and then nobody waits.
    private let raw: Int32

    init() { raw = (try? Descriptor.event())?.release() ?? -1 }

    deinit { if raw >= 0 { _ = Descriptor(owning: raw) } }

    func signal() { DescriptorIO.signal(event: raw) }

    /// - Returns: whether it has happened in that time.
    func wait(_ nanoseconds: Int64) -> Bool {
        guard raw >= 0 else { return false }
        var polls = PollSet()
        let deadline = MonotonicTime.now + nanoseconds
        while true {
            polls.reset()
            polls.add(raw, reading: true)
            polls.wait(until: deadline)
            if polls.isReady(0) { return true }
            if MonotonicTime.now >= deadline { return false }
        }
    }
}
