import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// `xl` is killed: when the backup sees the link's end, the copy here must have been dealt with.
    @Suite struct OrphanTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        private func expectPaused(_ helper: HelperAlone, _ pausesWhenLinkEnded: Shared<Int>) throws {
            let outcome = try helper.outcome()
            #expect(pausesWhenLinkEnded.value == 1, "the link ended before the copy here stood still")
            #expect(outcome.exit == .status(0), "the helper ends by itself: \(outcome.story)")
            #expect(try helper.guardsWords().contains("the copy here is paused"))
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 1)
            #expect(!helper.surroundings.source.isRunning)
        }

        private func expectRunning(_ helper: HelperAlone) throws {
            let outcome = try helper.outcome()
            let said = try helper.guardsWords()
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 0)
            #expect(helper.surroundings.source.isRunning, "\(outcome.story)")
            #expect(said.contains("the guest goes on here"))
        }

        @Test func afterTheFirstCommitTheRunningCopyIsPaused() throws {
            let pauses = Shared(0)
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    try around.killXl()
                    pauses.set(around.source.calls(SIMXEN_CALL_PAUSE))
                }))
            try expectPaused(helper, pauses)
        }

        @Test func afterTheFirstCommitTheSuspendedCopyIsPausedToo() throws {
            let pauses = Shared(0)
            let helper = try HelperAlone(
                in: folder,
                .init(whileSuspended: { around, epoch in
                    guard epoch == 3 else { return }
                    try around.killXl()
                    pauses.set(around.source.calls(SIMXEN_CALL_PAUSE))
                }))
            try expectPaused(helper, pauses)
            #expect(helper.surroundings.source.isSuspended)
        }

        @Test func aCommitThatTheHelperHasNotReadYetCountsToo() throws {
            let pauses = Shared(0)
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    around.commit(epoch)
                    try around.killXl()
                    pauses.set(around.source.calls(SIMXEN_CALL_PAUSE))
                }))
            try expectPaused(helper, pauses)
        }

        @Test func beforeTheFirstCheckpointTheSuspendedGuestIsResumed() throws {
            let helper = try HelperAlone(in: folder, .init(whileSuspended: { around, _ in around.killXlAtOnce() }))
            try expectRunning(helper)
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_RESUME) == 1)
        }

        /// The backup may have the first epoch before its acknowledgement is here.
        @Test func withTheFirstCheckpointUnderWayTheRunningCopyIsPaused() throws {
            let pauses = Shared(0)
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, _ in
                    try around.killXl()
                    pauses.set(around.source.calls(SIMXEN_CALL_PAUSE))
                }))
            try expectPaused(helper, pauses)
        }

        @Test func afterTheDecisionThatTheGuestGoesOnItDoes() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    around.lease.decideReplica(mayRun: false)
                    around.stop()
                    around.killXlAtOnce()
                }))
            try expectRunning(helper)
        }

        /// A stopped `xl` holds its sockets open, and says nothing.
        @Test func whenXlStandsStillTheGuardFreezesTheGuestInItsPlace() throws {
            let pauses = Shared([Int]())
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    func look() { pauses.change { $0.append(around.source.calls(SIMXEN_CALL_PAUSE)) } }
                    // Renewed, it does not end; taken away, it is nobody's.
                    for _ in 0..<8 {
                        around.lease.set(.now + .nanoseconds(milliseconds: 1000))
                        usleep(200_000)
                    }
                    around.lease.set(nil)
                    usleep(1_200_000)
                    look()
                    around.lease.set(.now + .nanoseconds(milliseconds: 100))
                    usleep(1_500_000)
                    look()
                    around.stop()
                }))
            let outcome = try helper.outcome()
            #expect(pauses.value == [0, 1], "\(outcome.story)")
            #expect(helper.surroundings.lease.takeFreezes() == 1)
            #expect(try helper.guardsWords().contains("the copy here is frozen"))
        }

        /// One `xl unpause` is to undo it.
        @Test func whatStandsStillAlreadyIsNotPausedTwice() throws {
            let pauses = Shared([Int]())
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    around.lease.set(.now + .nanoseconds(milliseconds: 100))
                    usleep(1_000_000)
                    pauses.change { $0.append(around.source.calls(SIMXEN_CALL_PAUSE)) }
                    try around.killXl()
                    pauses.change { $0.append(around.source.calls(SIMXEN_CALL_PAUSE)) }
                }))
            let outcome = try helper.outcome()
            #expect(pauses.value == [1, 1], "\(outcome.story)")
            #expect(try helper.guardsWords().contains("the copy here is paused"))
        }

        @Test func whatTheRelayHasFrozenIsNotPausedAgain() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    _ = around.source.pause()
                    around.lease.noteRelay(hasFrozen: true)
                    try around.killXl()
                }))
            let outcome = try helper.outcome()
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 0, "\(outcome.story)")
            #expect(try helper.guardsWords().contains("the copy here is paused"))
        }

        /// What was not frozen must not be thawed, and is the admin's to know.
        @Test func aFreezeThatFailsIsSaidAndNotCounted() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    simxen_arm_fault(around.source.raw, SIMXEN_CALL_PAUSE, EPERM, 1)
                    around.lease.set(.now + .nanoseconds(milliseconds: 100))
                    usleep(1_000_000)
                    around.stop()
                }))
            let outcome = try helper.outcome()
            #expect(helper.surroundings.lease.takeFreezes() == 0)
            #expect(try helper.guardsWords().contains("could not be frozen"), "\(outcome.story)")
        }

        @Test func aHostThatCanOpenNothingMoreFreezesTheGuestAllTheSame() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    simxen_arm_fault(around.source.raw, SIMXEN_CALL_XENCALL_OPEN, EMFILE, 1000)
                    around.lease.set(.now + .nanoseconds(milliseconds: 100))
                    usleep(1_000_000)
                    around.stop()
                }))
            let outcome = try helper.outcome()
            #expect(helper.surroundings.lease.takeFreezes() == 1)
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 1, "\(outcome.story)")
        }

        /// Ctrl-C, or a save that failed: the backup has its replica until it has answered the farewell.
        @Test func afterTheSavesEndTheCopyIsPausedToo() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    if epoch == 3 { around.stop() } else { around.commit(epoch) }
                }))
            let outcome = try helper.outcome()
            #expect(outcome.exit == .status(0), "\(outcome.story)")
            try helper.surroundings.killXl()
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 1)
            #expect(!helper.surroundings.source.isRunning)
        }

        @Test func withItsHelperKilledJustBeforeTheCopyIsPausedToo() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    guard epoch == 3 else { return around.commit(epoch) }
                    around.killHelper()
                    try around.killXl()
                }))
            let outcome = try helper.outcome()
            #expect(outcome.exit == .signal(SIGKILL), "\(outcome.story)")
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 1)
            #expect(!helper.surroundings.source.isRunning)
        }

        @Test func anOrderToStopEndsTheSaveAndLeavesTheGuestRunning() throws {
            let helper = try HelperAlone(
                in: folder,
                .init(afterCheckpoint: { around, epoch in
                    if epoch == 3 { around.stop() } else { around.commit(epoch) }
                }))
            let outcome = try helper.outcome()
            #expect(outcome.result != nil && outcome.exit == .status(0), "\(outcome.story)")
            #expect(helper.surroundings.source.isRunning)
            #expect(try helper.guardsWords() == "")
            #expect(helper.surroundings.source.calls(SIMXEN_CALL_PAUSE) == 0)
        }

        @Test func aGuardThatIsKilledIsMissedOnceAndTheRunGoesOn() throws {
            let events = EventFile(path: folder("events"), limitBytes: 1 << 20)
            let isGuarded = Shared(true)
            let guest = try ProtectedGuest(
                in: folder, .init(isGuarded: { isGuarded.value }, log: Log(guest: "test", events: events)))
            try guest.waitForCommits(3)
            isGuarded.set(false)
            var missed: Int { events.events()?.count { $0.text.hasPrefix("romulus-guard has ended") } ?? 0 }
            for _ in 0..<1000 where missed == 0 { usleep(10_000) }
            try guest.waitForCommits(guest.commitsSeen + 3)
            usleep(300_000)
            #expect(missed == 1)
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.fate == .goesOn(.discarded), "\(ending.primary.end)")
        }
    }
}
