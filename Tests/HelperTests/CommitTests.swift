import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// What the relay does to the guest's output and to the guest, with the stock helper under it.
    @Suite struct CommitTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test func eachEpochIsHeldOnceAndReleasedOnceInTurn() throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(8)
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            let steps = guest.output.steps
            #expect(steps.last == .open)
            let epochs = Array(steps.dropLast())
            #expect(epochs.count >= 16)
            for (index, step) in epochs.enumerated() { #expect(step == (index % 2 == 0 ? .hold : .release)) }
            #expect(guest.freezer.freezes == 0 && !guest.freezer.isGivenUp)
        }

        @Test func outputThatCannotBeHeldEndsTheRunWithTheGuestSuspendedAndNothingOut() throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(3)
            guest.output.fail(.hold)
            let ending = try guest.end()
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            #expect(ending.primary.end.cause.text.contains("output cannot be held"))
            guest.expectDiscard(ending, cause: "output cannot be held", "no hold")
            #expect(guest.source.isSuspended, "resuming it is libxl's, once its output is its own again")
            #expect(guest.output.steps.last == .open)
        }

        @Test func aLostLinkFreezesTheGuestAndARefusalDropsItsOutput() throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(3)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            #expect(ending.primary.end.fate == .yields("the test"))
            #expect(guest.freezer.isFrozen && guest.freezer.isGivenUp)
            #expect(guest.output.steps.last == .drop && !guest.output.steps.contains(.open))
            try guest.expectFailover(ending, "stalled")
        }

        @Test func withoutAnArbiterTheGuestStaysFrozenUntilTheBackupSaysThatItsReplicaRuns() throws {
            let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 300, arbiter: .none))
            try guest.waitForCommits(3)
            // Only one way: the backup hears nothing, and its farewell arrives.
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            #expect(ending.primary.end.fate == .yields("the replica runs on the backup"))
            #expect(guest.freezer.isFrozen && guest.freezer.isGivenUp && guest.output.steps.last == .drop)
            try guest.expectFailover(ending, "stalled")
        }
    }
}
