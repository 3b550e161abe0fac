import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// Ends that one side tells the other.
    @Suite struct FarewellTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test func epochsAreAcknowledgedInOrderAndCtrlCDiscardsTheReplica() throws {
            let guest = try ProtectedGuest(in: folder)
            let writer = SimulatedGuest(in: guest.source, seed: 3)
            defer { writer.stop() }
            try guest.waitForCommits(10)
            guest.interrupt()
            let ending = try guest.end { guest.expectOfXlsDeath(.ruledOut, isRunOver: false) }
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            #expect(ending.primary.statistics.epochCount >= 10)
            #expect(ending.primary.wasFarewellHeard)
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            guest.expectDiscard(ending, cause: "the primary said farewell: protection was ended by SIGINT", "Ctrl-C")
            #expect(guest.notes.value == [true, false])
            #expect(ending.backup.lastEpoch.rawValue >= ending.primary.statistics.epochCount)
            #expect(ending.saved.exit == .status(0), "\(ending.saved.story)")
            #expect(guest.source.calls(SIMXEN_CALL_PAUSE) == 0)
        }

        @Test(arguments: [1, 3]) func aKilledHelperIsNoReasonToActivateTheReplica(commits: Int) throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(commits)
            guest.saver.process.kill(SIGKILL)
            let ending = try guest.end()
            #expect(ending.saved.exit == .signal(SIGKILL))
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            #expect(ending.primary.wasFarewellHeard)
            guest.expectDiscard(ending, cause: "checkpointing failed", "helper killed")
        }

        @Test func aHelperWithoutRomulusEndsTheRunBeforeThereIsAReplica() throws {
            let guest = try ProtectedGuest(in: folder, .init(isHelperHooked: false))
            let ending = try guest.end()
            guard case .saveEnded(let why) = ending.primary.end.cause else {
                Issue.record("it ended with \(ending.primary.end.cause)")
                return
            }
            #expect(why.hasPrefix("the save helper knows nothing of Romulus; "))
            #expect(ending.primary.end.fate == .goesOn(.none))
            guest.expectNoReplica(ending, cause: "the save helper knows nothing of Romulus", "a stock helper")
        }

        @Test func aHelperKilledInTheMiddleOfAnEpochIsNoReasonEither() throws {
            let guest = try ProtectedGuest(in: folder, helperGets: SIGKILL, inEpoch: 4)
            let ending = try guest.end()
            #expect(ending.saved.exit == .signal(SIGKILL))
            #expect(ending.primary.statistics.epochCount == 3)
            #expect(ending.primary.wasFarewellHeard)
            guest.expectDiscard(ending, cause: "checkpointing failed", "helper killed in an epoch")
            #expect(guest.source.isSuspended, "resuming it is libxl's")
        }

        /// As where QEMU was killed, or `xl destroy` has begun: the save fails, and so does what libxl would resume.
        @Test func aGuestThatCannotGoOnHereAfterAFailedSaveGoesOnThere() throws {
            let guest = try ProtectedGuest(
                in: folder, helperGets: SIGKILL, inEpoch: 4, .init(detectTimeoutMilliseconds: 10_000))
            let ending = try guest.end(resumed: false) { guest.expectOfXlsDeath(.possible, isRunOver: false) }
            #expect(ending.primary.end.fate == .yields("it cannot go on here"), "\(ending.primary.end)")
            #expect(guest.freezer.isFrozen && guest.output.steps.last == .drop)
            try guest.expectFailover(ending, "no device model")
        }

        /// Without it a guest hangs, and does not follow the order to suspend: libxl waits a minute, and then says that it goes on.
        @Test func aGuestWhoseDeviceModelDiesGoesOnThereAtOnce() throws {
            let isServed = Shared(true)
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: 10_000,
                    suspends: {
                        if !isServed.value { usleep(3_000_000) }
                        return isServed.value
                    }, isServed: { isServed.value }))
            try guest.waitForCommits(3)
            isServed.set(false)
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .saveEnded("the guest's device model has died"))
            #expect(ending.primary.end.fate == .yields("it cannot go on here"))
            #expect(guest.freezer.isFrozen && guest.freezer.isGivenUp && guest.output.steps.last == .drop)
            try guest.expectFailover(ending, "device model killed")
        }

        @Test func aFailingHypercallEndsTheRunAndDiscardsTheReplica() throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(2)
            simxen_arm_fault(guest.source.raw, SIMXEN_CALL_LOGDIRTY_CONTROL, EINVAL, 1)
            let ending = try guest.end()
            #expect(ending.saved.result == -1 && ending.saved.errorNumber == EINVAL, "\(ending.saved.story)")
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            guest.expectDiscard(ending, cause: "checkpointing failed", "failing hypercall")
        }

        @Test func aDestroyedPrimaryHandsTheGuestOverAtOnce() throws {
            let leave = Shared<PrimarySession.GuestLeave?>(nil)
            let guest = try ProtectedGuest(
                in: folder, .init(detectTimeoutMilliseconds: 10_000, guestLeave: { leave.value }))
            try guest.waitForCommits(3)
            leave.set(.destroyed)
            let ending = try guest.end { guest.expectOfXlsDeath(.possible, isRunOver: false) }
            #expect(ending.primary.end.cause == .guestLeft(.destroyed))
            try guest.expectFailover(ending, "destroyed")
        }

        @Test func aGuestThatIsSavedOrMigratedAwayIsNotHandedOver() throws {
            let leave = Shared<PrimarySession.GuestLeave?>(nil)
            let guest = try ProtectedGuest(
                in: folder, .init(detectTimeoutMilliseconds: 10_000, guestLeave: { leave.value }))
            try guest.waitForCommits(3)
            leave.set(.taken)
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .guestLeft(.taken))
            #expect(ending.primary.wasFarewellHeard)
            guest.expectDiscard(ending, cause: "saved or migrated", "taken")
            #expect(!guest.freezer.isGivenUp, "the other one's order to suspend is not ours to take")
        }

        @Test func aGuestThatShutsDownTakesItsReplicaAlong() throws {
            let leave = Shared<PrimarySession.GuestLeave?>(nil)
            let guest = try ProtectedGuest(in: folder, .init(guestLeave: { leave.value }))
            try guest.waitForCommits(3)
            leave.set(.shutDown)
            let ending = try guest.end { guest.expectOfXlsDeath(.possible, isRunOver: true) }
            #expect(ending.primary.end.cause == .guestLeft(.shutDown))
            guest.expectDiscard(ending, cause: "the guest has shut down", "shut down")
        }

        /// Between two epochs, or in the midst of its suspension. What its on_crash makes must not find a replica beside it.
        @Test(arguments: [false, true]) func aGuestThatCrashesTakesItsReplicaAlong(isToldToSuspend: Bool) throws {
            let source = Shared<SimulatedDomain?>(nil)
            let requests = Shared(0)
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: 4000, periodMilliseconds: 50,
                    suspends: {
                        requests.change { $0 += 1 }
                        if isToldToSuspend, requests.value == 5, let raw = source.value?.raw { simxen_crash(raw) }
                        return true
                    }, guestLeave: { source.value?.hasCrashed == true ? .crashed : nil }))
            source.set(guest.source)
            defer { source.set(nil) }
            try guest.waitForCommits(3)
            if !isToldToSuspend { simxen_crash(guest.source.raw) }
            let ending = try guest.end()
            #expect(ending.primary.end == .init(cause: .guestLeft(.crashed), fate: .hasLeft(.discarded)))
            #expect(ending.primary.wasFarewellHeard)
            guest.expectDiscard(ending, cause: "the guest has crashed", "crash")
            #expect(guest.source.hasCrashed, "resumed")
        }

        /// A planned reboot of the backup's host: nobody is frozen, nobody is asked.
        @Test func aBackupThatIsAskedToStopSaysFarewellAndTheGuestGoesOn() throws {
            let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 4000))
            try guest.waitForCommits(3)
            guest.stopBackup()
            let ending = try guest.end()
            let text = "the backup was asked to stop (SIGTERM)"
            #expect(ending.primary.end == .init(cause: .backupLeft(text: text), fate: .goesOn(.discarded)))
            guest.expectDiscard(ending, cause: text, "asked to stop")
            #expect(guest.freezer.freezes == 0 && guest.output.steps.last == .open)
        }

        @Test func aRestoreThatFailsEndsTheRunAtOnceAndTheGuestGoesOn() throws {
            let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 10_000))
            try guest.waitForCommits(3)
            guest.killRestorer()
            let ending = try guest.end()
            #expect(ending.restored?.exit == .signal(SIGKILL))
            guest.expectDiscard(ending, cause: "the restore on the backup failed", "restorer killed")
            guard case .backupLeft = ending.primary.end.cause else {
                Issue.record("\(ending.primary.end)")
                return
            }
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            #expect(ending.saved.exit == .status(0), "\(ending.saved.story)")
        }

        /// Restored is not yet running: xl may fail between the two.
        @Test(arguments: [true, false]) func thePrimaryKeepsItsCopyUntilTheReplicaRuns(runs: Bool) throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    isReplicaUnpaused: runs,
                    primaryQuestion: { interest in
                        while !interest.isWithdrawn() { usleep(10_000) }
                        return nil
                    }))
            try guest.waitForCommits(3)
            // One way only: the backup suspects, and its words still arrive.
            guest.wire.stall()
            let ending = try guest.end()
            try guest.expectFailover(ending, "unpaused: \(runs)")
            #expect(
                ending.primary.end.fate == (runs ? .yields("the replica runs on the backup") : .goesOn(.discarded)),
                "\(ending.primary.end)")
            #expect(guest.freezer.isFrozen == runs)
        }

        @Test func anEpochThatIsTooLargeForTheBackupEndsTheRunAndTheGuestGoesOn() throws {
            let isLarge = Shared(false)
            let sources = Shared<SimulatedDomain?>(nil)
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: 10_000, epochLimitBytes: 2 << 20,
                    whileSuspended: {
                        guard isLarge.value, let source = sources.value else { return }
                        for page in 200..<900 as Range<UInt64> { simxen_mark_dirty(source.raw, page) }
                    }))
            sources.set(guest.source)
            try guest.waitForCommits(3)
            isLarge.set(true)
            let ending = try guest.end()
            guest.expectDiscard(ending, cause: "epoch_limit_mib (2 on the backup)", "epoch too large")
            #expect(ending.primary.end.fate == .goesOn(.discarded), "\(ending.primary.end)")
        }
    }
}
