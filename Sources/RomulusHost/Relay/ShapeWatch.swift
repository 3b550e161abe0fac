import RomulusCore
import Synchronization

/// Looks whether the guest becomes what its replica is not: xenstore is asked from time to time, by a thread that may wait for
/// it.
public final class ShapeWatch: Sendable {
    private let wakeUp: Descriptor
    private let shared: Shared
    /// Kept: what it holds of Xen's is not to be closed by the thread, nor while that runs.
    private let look: @Sendable () -> GuestShape?
    private let thread: Thread

    private final class Shared: Sendable {
        let isClosed = Atomic(false)
        let lack = Mutex<String?>(nil)
    }

    /// - Parameter look: the guest as it is; nil where that cannot be told just now. Its first answer is what the replica has.
    public init(
        intervalNanoseconds: Int64 = 1_000_000_000, look: @escaping @Sendable () -> GuestShape?
    ) throws(SystemError) {
        wakeUp = try Descriptor.event()
        shared = Shared()
        self.look = look
        let (wakeUp, shared) = (wakeUp.raw, shared)
        thread = try Thread(name: "romulus-shape") {
            var first: GuestShape?
            var polls = PollSet()
            while !shared.isClosed.load(ordering: .acquiring) {
                if let now = look() {
                    first = first ?? now
                    if let lack = first?.lack(comparedTo: now) {
                        shared.lack.withLock { $0 = lack }
                        return
                    }
                }
                polls.reset()
                polls.add(wakeUp, reading: true)
                polls.wait(until: .now + intervalNanoseconds)
            }
        }
    }

    /// What the replica does not have.
    var lack: String? { shared.lack.withLock { $0 } }

    public func close() {
        shared.isClosed.store(true, ordering: .releasing)
        wakeUp.signal()
        // A xenstore that does not answer is nobody to wait for.
        thread.join(milliseconds: 1000)
    }

    deinit { close() }
}
