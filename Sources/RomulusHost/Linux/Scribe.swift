import CLinux
import Glibc
import RomulusCore
import Synchronization

/// Does for others what may take its time, in their order and on a thread of its own: a line for a terminal that is stopped, an
/// entry for a store that does not answer. Whoever asks never waits; what finds the desk full is left out, and counted.
public final class Scribe: Sendable {
    public typealias Job = @Sendable () -> Void

    static let deskSize = 256

    private struct Desk {
        var jobs: [Job] = []
        /// Left out since the thread took what was there; later than all of it.
        var lost = 0
        var isBusy = false
        var isClosed = false
    }

    private final class Shared: Sendable {
        let desk = Mutex(Desk())
        let wakeUp: Descriptor

        init() throws(SystemError) { wakeUp = try Descriptor.event() }
    }

    private let shared: Shared

    /// - Parameter sayLost: how many jobs were left out, once there is room again.
    public init(name: String, sayLost: @escaping @Sendable (Int) -> Void = { _ in }) throws(SystemError) {
        let shared = try Shared()
        self.shared = shared
        // One that is stuck is left behind with its process.
        _ = try Thread(name: name) { Self.work(shared, sayLost) }
    }

    deinit {
        shared.desk.withLock { $0.isClosed = true }
        shared.wakeUp.signal()
    }

    public func take(_ job: @escaping Job) {
        let isNews = shared.desk.withLock { desk in
            if desk.jobs.count < Self.deskSize { desk.jobs.append(job) } else { desk.lost += 1 }
            return desk.jobs.count == 1
        }
        if isNews { shared.wakeUp.signal() }
    }

    /// Waits until all is done, at the longest until then.
    ///
    /// - Returns: false where something is not.
    @discardableResult
    public func drain(until deadline: MonotonicTime) -> Bool {
        while !isIdle {
            if MonotonicTime.now >= deadline { return false }
            usleep(500)
        }
        return true
    }

    private var isIdle: Bool { shared.desk.withLock { $0.jobs.isEmpty && $0.lost == 0 && !$0.isBusy } }

    // MARK: The thread

    private static func work(_ shared: Shared, _ sayLost: (Int) -> Void) {
        var polls = PollSet()
        while true {
            let (jobs, lost, isOver) = shared.desk.withLock { desk in
                defer { (desk.jobs, desk.lost) = ([], 0) }
                desk.isBusy = !desk.jobs.isEmpty || desk.lost > 0
                return (desk.jobs, desk.lost, desk.isClosed)
            }
            for job in jobs { job() }
            if lost > 0 { sayLost(lost) }
            guard jobs.isEmpty, lost == 0 else { continue }
            if isOver { return }
            polls.reset()
            polls.add(shared.wakeUp.raw, reading: true)
            polls.wait(until: nil)
            shared.wakeUp.drain()
        }
    }
}
