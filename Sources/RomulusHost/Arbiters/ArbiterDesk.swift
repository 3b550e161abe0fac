import Glibc
import RomulusCore
import Synchronization

/// Asks an arbiter on a thread of its own, so that a relay goes on listening while the answer is on its way.
public final class ArbiterDesk: @unchecked Sendable {
    /// Blocks until there is a verdict, or until `isCancelled`; nil then.
    public typealias Question = @Sendable (_ isCancelled: @Sendable () -> Bool) -> ArbiterVerdict?

    private let question: Question
    private let event: Descriptor
    private let isCancelled = Atomic(false)
    private let answer = Mutex<ArbiterVerdict?>(nil)
    // The relay's thread only.
    private var thread: Thread?

    public init(_ question: @escaping Question) throws(SystemError) {
        self.question = question
        event = try Descriptor.event()
    }

    /// Readable when the verdict is there.
    public var descriptor: Int32 { event.raw }

    /// Once; a second call changes nothing.
    public func ask() throws(SystemError) {
        guard thread == nil else { return }
        thread = try Thread(name: "romulus-arbiter") { [self] in
            guard let verdict = question({ self.isCancelled.load(ordering: .relaxed) }) else { return }
            answer.withLock { $0 = verdict }
            event.signal()
        }
    }

    /// The verdict, once.
    public func takeVerdict() -> ArbiterVerdict? {
        event.drain()
        return answer.withLock { answer in
            defer { answer = nil }
            return answer
        }
    }

    /// Whatever the question still waits for, it is over when this returns.
    public func close() {
        isCancelled.store(true, ordering: .relaxed)
        thread?.join()
    }
}
