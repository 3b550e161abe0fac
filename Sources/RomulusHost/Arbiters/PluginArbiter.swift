import Glibc
import RomulusCore
import RomulusPlugin
import Synchronization

/// Whatever the admins have given both hosts a plugin for. What it must promise stands in romulus.h.
struct PluginArbiter: Arbiter {
    let plugin: Plugin
    let guestUUID: String
    let run: UInt64

    private static let reasonBytes = 256

    private init(_ plugin: Plugin, guestUUID: String, run: UInt64) {
        self.plugin = plugin
        self.guestUUID = guestUUID
        self.run = run
    }

    func of(run: UInt64) -> Arbiter { PluginArbiter(plugin, guestUUID: guestUUID, run: run) }

    /// - Returns: nil where no plugin is an arbiter.
    init?(_ set: PluginSet, guestUUID: String, run: UInt64) {
        guard let plugin = set.plugins.last(where: { $0.callbacks.arbitrate != nil }) else { return nil }
        self.init(plugin, guestUUID: guestUUID, run: run)
    }

    /// Loading it was all that can be done without harm.
    func prepare(_ side: Side) {}

    func decide(
        _ side: Side, note: (String) -> Void, isWithdrawn: () -> Bool, isCancelled: () -> Bool
    ) -> ArbiterVerdict? {
        guard let lane = plugin.arbiterLane else { return nil }
        var reasons = Reasons()
        while !isWithdrawn(), !isCancelled() {
            let call = Call(side, plugin, guestUUID: guestUUID, run: run)
            guard lane.post({ call.make() }) else { return nil }
            let begun = MonotonicTime.now
            while !call.isOver.wait(20_000_000) {
                if isWithdrawn() || isCancelled() { return nil }
                if MonotonicTime.now - begun > plugin.timeoutNanoseconds {
                    reasons.tell(
                        "the plugin \(plugin.name) has not answered yet which copy goes on; waiting for it", note)
                }
            }
            switch call.answer {
            case .some(let verdict): return verdict
            case nil:
                reasons.tell("the plugin \(plugin.name) has no verdict (\(call.reason)); asking again", note)
                pause(milliseconds: 1000) { isWithdrawn() || isCancelled() }
            }
        }
        return nil
    }

    func end(for side: Side) {}

    func settle(for winner: Side) -> Settlement {
        .untold("the plugin \(plugin.name) is not told, and may decide otherwise on the other host")
    }

    func test() -> [CheckLine] {
        [.ok("the plugin \(plugin.name) is an arbiter")]
    }

    /// One question. Its memory is not freed: a callback may come back, and write its reason, when nobody waits any more.
    private final class Call: @unchecked Sendable {
        private let plugin: Plugin
        private let question: UnsafeMutablePointer<romulus_question>
        private let result = Atomic<Int32>(0)
        let isOver = PluginSignal()

        init(_ side: Side, _ plugin: Plugin, guestUUID: String, run: UInt64) {
            self.plugin = plugin
            let reason = UnsafeMutablePointer<CChar>.allocate(capacity: reasonBytes)
            reason.initialize(repeating: 0, count: reasonBytes)
            question = .allocate(capacity: 1)
            question.initialize(
                to: romulus_question(
                    size: UInt32(MemoryLayout<romulus_question>.size), side: side == .primary ? 1 : 2, run: run,
                    guest_uuid: strdup(guestUUID), reason: reason, reason_bytes: reasonBytes))
        }

        func make() {
            result.store(plugin.callbacks.arbitrate!(plugin.callbacks.`self`, question), ordering: .releasing)
            isOver.signal()
        }

        var reason: String {
            question.pointee.reason[reasonBytes - 1] = 0
            let text = String(cString: question.pointee.reason)
            return text.isEmpty ? "it gives no reason" : text
        }

        var answer: ArbiterVerdict? {
            switch result.load(ordering: .acquiring) {
            case 1: .granted(reason)
            case 2: .refused(reason)
            default: nil
            }
        }
    }
}
