import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

/// Everything that runs relays and helpers, one run at a time: the machine's time is part of what is looked at.
@Suite(.serialized, .timeLimit(.minutes(2))) enum ProtectionTests {}

extension ProtectedGuest {
    /// The replica runs on, and what it has is the last epoch that its relay counted complete, to the byte.
    func expectFailover(_ ending: Ending, _ story: String) throws {
        guard case .failOver = ending.backup.end else {
            Issue.record("\(story): no failover but \(ending.backup.end)")
            return
        }
        let restored = try #require(ending.restored, "\(story)")
        try #require(restored.result == 0, "\(story): \(restored.story)")
        let last = Int(ending.backup.lastEpoch.rawValue)
        #expect(last >= Int(ending.primary.statistics.epochCount), "\(story): an acknowledged epoch is lost")
        #expect(last >= commitsSeen, "\(story): an epoch is lost that the helper saw committed")
        let copy = try #require(copies[last - 1], "\(story)")
        #expect(target.differingPages(from: copy) == [], "\(story): not the memory of epoch \(last)")
        #expect(target.context == copy.context, "\(story)")
        let ends = StockWalk.epochEnds(tap.bytes)
        #expect(ends.count == last && ends.last == tap.bytes.count, "\(story): libxl saw a part of an epoch")
    }

    /// What the guard would find if `xl` were killed at this moment.
    func expectOfXlsDeath(_ replica: GuardDuty.Replica, isRunOver: Bool) {
        #expect(primary.lease.replica == replica && primary.lease.isRunOver == isRunOver)
    }

    /// There is nothing at the backup that could run.
    func expectDiscard(_ ending: Ending, cause: String, _ story: String) {
        guard case .discard(let said) = ending.backup.end else {
            Issue.record("\(story): not discarded but \(ending.backup.end)")
            return
        }
        #expect(said.contains(cause), "\(story)")
    }

    /// An end before the first complete checkpoint.
    func expectNoReplica(
        _ ending: Ending, cause: String = "before the first complete checkpoint", _ story: String
    ) {
        expectDiscard(ending, cause: cause, story)
        #expect(ending.backup.lastEpoch == .none, "\(story)")
        #expect(ending.primary.statistics.epochCount == 0, "\(story)")
        // The first part streams through: whole but for its EPOCH_END, it restores, and BackupRun destroys that.
        let isWhole = !StockWalk.epochEnds(tap.bytes).isEmpty
        #expect(isWhole || ending.restored?.result != 0, "\(story)")
    }
}
