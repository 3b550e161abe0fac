import RomulusCore
import Synchronization

/// Counts what waits in the plugs. The kernel tells of every queue of this host at once, however many guests have some; so
/// it is asked aside, and what is known is the newest answer.
final class HeldCounter: Sendable {
    struct Count {
        var packets = 0
        var bytes = 0
        var drops = 0
        var at = MonotonicTime(nanoseconds: 0)
    }

    private struct State {
        var newest = Count()
        var isAsked = false
    }

    /// Used by the scribe alone, where there is one.
    private struct Source: @unchecked Sendable {
        let network: HostNetwork
    }

    private let state = Mutex(State())
    private let source: Source
    private let scribe: Scribe?

    /// - Parameter isAside: whether `network` is this one's own, to be used on another thread; else whoever looks waits.
    init(_ network: HostNetwork, isAside: Bool) {
        source = Source(network: network)
        scribe = isAside ? try? Scribe(name: "romulus-count") : nil
    }

    /// What was counted last. Has it counted anew.
    func look(at devices: [NetworkDevice]) -> Count {
        guard let scribe else {
            count(devices)
            return state.withLock { $0.newest }
        }
        let (newest, isIdle) = state.withLock { state in
            defer { state.isAsked = true }
            return (state.newest, !state.isAsked)
        }
        if isIdle { scribe.take { [self] in count(devices) } }
        return newest
    }

    private func count(_ devices: [NetworkDevice]) {
        let begin = MonotonicTime.now
        let sum = source.network.plugStatistics(devices)
        state.withLock {
            $0 = State(newest: Count(packets: sum.packets, bytes: sum.bytes, drops: sum.drops, at: begin))
        }
    }
}
