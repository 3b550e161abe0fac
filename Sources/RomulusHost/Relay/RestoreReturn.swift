import RomulusCore
import Synchronization

/// Where the thread that has libxl on the backup and the relay's thread meet: before the restore, which is begun only for a stream
/// that is one, and after it.
final class RestoreReturn: Sendable {
    private let begun: Descriptor
    private let returned: Descriptor
    private let isAnnounced = Atomic(false)
    private let hasBegun = Atomic(false)
    private let isRestored = Atomic(false)

    init() throws(SystemError) {
        begun = try Descriptor.event()
        returned = try Descriptor.event()
    }

    /// Waits until the primary's stream has begun, or will not.
    func waitForStream() -> Bool {
        Self.wait(for: begun.raw)
        return hasBegun.load(ordering: .acquiring)
    }

    func restoreReturned(_ isRestored: Bool) {
        self.isRestored.store(isRestored, ordering: .releasing)
        returned.signal()
    }

    // MARK: The relay's

    /// The first word counts.
    func announceStream(_ isThere: Bool) {
        guard !isAnnounced.exchange(true, ordering: .relaxed) else { return }
        hasBegun.store(isThere, ordering: .releasing)
        begun.signal()
    }

    /// Readable from when the restore has returned.
    var returnDescriptor: Int32 { returned.raw }

    /// Waits for the restore's end; whether there is a replica.
    func waitForReplica() -> Bool {
        Self.wait(for: returned.raw)
        return isRestored.load(ordering: .acquiring)
    }

    private static func wait(for event: Int32) {
        var polls = PollSet()
        polls.add(event, reading: true)
        repeat { polls.wait(until: nil) } while !polls.isReady(0)
    }
}
