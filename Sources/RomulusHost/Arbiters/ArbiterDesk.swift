import Glibc
import RomulusCore
import Synchronization

/// Asks an arbiter on a thread of its own, so that a relay goes on listening while the answer is on its way.
public final class ArbiterDesk: @unchecked Sendable {
    /// How much is still wanted of a question that is under way.
    public struct Interest: Sendable {
        /// Nothing: it is given up wherever it is.
        public let isCancelled: @Sendable () -> Bool
        /// What has been begun is finished, and no more.
        public let isWithdrawn: @Sendable () -> Bool
    }

    /// Blocks until there is a verdict, or none is wanted any more; nil then.
    public typealias Question = @Sendable (Interest) -> ArbiterVerdict?
    /// Has the other side hear the admin's word, where that can be.
    public typealias Settling = @Sendable (AdminWord) -> Answer

    public enum Answer: Equatable, Sendable {
        case verdict(ArbiterVerdict)
        /// The admin has spoken first. The other side hears of it when it asks, or does not.
        case word(AdminWord, isTold: Bool)
        /// The question was withdrawn in time: nothing has been done on this side's behalf.
        case withdrawn
    }

    private let question: Question
    private let settling: Settling
    private let event: Descriptor
    private let isCancelled = Atomic(false)
    private let isWithdrawn = Atomic(false)
    private let answer = Mutex<Answer?>(nil)
    private let word = Mutex<AdminWord?>(nil)
    // The relay's thread only.
    private var thread: Thread?

    public init(
        _ question: @escaping Question, settling: @escaping Settling = { .word($0, isTold: true) }
    ) throws(SystemError) {
        self.question = question
        self.settling = settling
        event = try Descriptor.event()
    }

    /// Readable when the answer is there.
    public var descriptor: Int32 { event.raw }

    /// Once; a second call changes nothing.
    public func ask() throws(SystemError) {
        guard thread == nil else { return }
        thread = try Thread(name: "romulus-arbiter") { [self] in
            let isCancelled = { @Sendable in self.isCancelled.load(ordering: .relaxed) }
            let isWithdrawn = { @Sendable in self.isWithdrawn.load(ordering: .relaxed) || isCancelled() }
            let verdict = isWithdrawn() ? nil : question(Interest(isCancelled: isCancelled, isWithdrawn: isWithdrawn))
            let answer: Answer? =
                if let verdict {
                    .verdict(verdict)
                } else if let word = word.withLock({ $0 }) {
                    settling(word)
                } else if !isCancelled() {
                    .withdrawn
                } else { nil }
            guard let answer else { return }
            self.answer.withLock { $0 = answer }
            event.signal()
        }
    }

    /// The admin's word in place of the arbiter's, unless that has answered already. A copy that is given up is given up only
    /// when nobody is about to turn the other host off on its behalf.
    ///
    /// - Returns: false where the opposite was said before, and is carried out.
    @discardableResult
    public func settle(_ word: AdminWord) throws(SystemError) -> Bool {
        let first = self.word.withLock { first in
            first = first ?? word
            return first
        }
        guard first == word else { return false }
        switch word {
        case .resume: isCancelled.store(true, ordering: .relaxed)
        case .yield: isWithdrawn.store(true, ordering: .relaxed)
        }
        try ask()
        return true
    }

    /// Nothing more is to be begun.
    public func withdraw() { isWithdrawn.store(true, ordering: .relaxed) }

    /// The answer, once.
    public func takeAnswer() -> Answer? {
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
