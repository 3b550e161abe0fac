import Foundation
import SimulatedXen
import Synchronization

/// A thread that writes into a simulated domain whenever the domain runs, until it is stopped.
final class SimulatedGuest: Sendable {
    private let isStopped = Mutex(false)
    private let hasEnded = DispatchSemaphore(value: 0)
    private let writes = Mutex(0)

    /// Rounds of writing so far; a round dirties `pagesPerRound` pages.
    var rounds: Int { writes.withLock { $0 } }

    init(in domain: SimulatedDomain, seed: UInt64, pagesPerRound: Int = 4, pauseMicroseconds: UInt32 = 500) {
        Thread.detachNewThread { [self] in
            var generator = SeededGenerator(seed: seed)
            while !isStopped.withLock({ $0 }) {
                if domain.dirty(pagesPerRound, using: &generator) { writes.withLock { $0 += 1 } }
                usleep(pauseMicroseconds)
            }
            hasEnded.signal()
        }
    }

    func stop() {
        isStopped.withLock { $0 = true }
        hasEnded.wait()
    }
}
