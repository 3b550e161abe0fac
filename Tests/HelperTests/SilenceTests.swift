import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// A peer that says nothing, while its link stays open.
    @Suite struct SilenceTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test func aSilentPrimaryIsSuspectedAtTheTimeoutAndNotBefore() throws {
            let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 200))
            try guest.waitForCommits(3)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            try guest.expectFailover(ending, "stalled")
            let silence = ending.backup.decidedAt - ending.backup.lastHeardAt
            #expect(silence >= .nanoseconds(milliseconds: 200))
            #expect(silence < .nanoseconds(milliseconds: 5000))
        }

        /// Its thread stands still with a line that nobody takes; meanwhile the primary is granted the guest, and says so.
        @Test func aBackupThatHasOversleptReadsWhatHasComeBeforeItSuspects() throws {
            let terminal = try StoppedTerminal()
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: 400, primaryVerdict: .granted("the test"),
                    backupLog: Log(guest: "test", terminal: terminal.writer.descriptor)))
            let deadline = ContinuousClock.now + .seconds(20)
            while guest.freezer.thaws == 0, ContinuousClock.now < deadline { usleep(10_000) }
            usleep(600_000)
            terminal.goOn()
            let ending = try guest.end()
            #expect(ending.primary.end.fate == .goesOn(.ruledOut("the test")))
            guest.expectDiscard(ending, cause: "the primary said farewell", "overslept")
        }

        @Test func heartbeatsKeepAnIdleLinkAlive() throws {
            let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 200, periodMilliseconds: 900))
            try guest.waitForCommits(3)
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            guest.expectDiscard(ending, cause: "the primary said farewell: protection was ended by SIGINT", "idle")
        }

        @Test func aSilentBackupEndsTheRunAndTheGuestGoesOn() throws {
            let guest = try ProtectedGuest(
                in: folder, .init(detectTimeoutMilliseconds: 400, primaryVerdict: .granted("the test")))
            try guest.waitForCommits(3)
            guest.backWire.stall()
            let ending = try guest.end()
            #expect(ending.primary.end.fate == .goesOn(.ruledOut("the test")))
            #expect(guest.freezer.freezes == 1 && !guest.freezer.isFrozen)
            #expect(guest.output.steps.last == .open)
            guard case .backupSilent(let milliseconds) = ending.primary.end.cause else {
                Issue.record("\(ending.primary.end)")
                return
            }
            #expect((300..<3000).contains(milliseconds))
            // Between two epochs the stock code calls it 0; libxl finds its stream closed.
            #expect(ending.saved.exit == .status(0), "\(ending.saved.story)")
            #expect(guest.source.isRunning)
            #expect(!ending.primary.wasFarewellHeard, "nothing came back, so nothing is known")
            guest.expectDiscard(ending, cause: "the primary said farewell", "the way there still carries")
        }

        /// An agent or an etcd may take its time to be ended.
        @Test func anArbiterThatHangsDoesNotHoldUpAGuestThatGoesOn() throws {
            let mayEnd = DispatchSemaphore(value: 0)
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    backupVerdict: .refused("the test"),
                    primaryQuestion: { _ in
                        _ = mayEnd.wait(timeout: .now() + 15)
                        return nil
                    }))
            try guest.waitForCommits(3)
            guest.wire.stall()
            let stalled = ContinuousClock.now
            var decided = ContinuousClock.now
            let ending = try guest.end {
                decided = .now
                mayEnd.signal()
            }
            #expect(ending.primary.end.fate == .goesOn(.discarded), "\(ending.primary.end)")
            #expect(guest.freezer.freezes == 1 && !guest.freezer.isFrozen)
            #expect(decided - stalled < .seconds(10), "the guest waited for the arbiter's end")
        }

        /// Another's pause is not Romulus's to undo.
        @Test func whatCouldNotBeFrozenIsNotThawed() throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(detectTimeoutMilliseconds: 400, primaryVerdict: .granted("the test"), canFreeze: false))
            try guest.waitForCommits(3)
            guest.backWire.stall()
            let ending = try guest.end()
            #expect(ending.primary.end.fate == .goesOn(.ruledOut("the test")))
            #expect(guest.freezer.freezes == 1 && guest.freezer.thaws == 0)
        }

        /// The helper was about to freeze the guest when the lease was renewed after all.
        @Test func aFreezeThatCameTooLateIsUndone() throws {
            let guest = try ProtectedGuest(in: folder)
            try guest.waitForCommits(3)
            #expect(guest.source.pause())
            guest.primary.lease.noteFreeze()
            // Between two checkpoints.
            var wasSeenRunning = false
            for _ in 0..<5000 where !wasSeenRunning {
                usleep(1000)
                wasSeenRunning = guest.source.isRunning
            }
            #expect(wasSeenRunning)
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            #expect(guest.freezer.thaws == 1 && guest.freezer.freezes == 0)
        }

        private func say(_ request: AdminSocket.Request, _ side: Side) throws -> String? {
            try AdminSocket.ask(request, of: "guest.\(side)", directory: folder.path)
        }

        /// Until it is told, or allowed; as an agent that fails.
        private static let unanswered: ArbiterDesk.Question = { interest in
            while !interest.isWithdrawn() { usleep(10_000) }
            return nil
        }

        @Test func aBackupThatStillAsksItsAgentHearsTheAdminsWordWhenTheLinkIsBack() throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    primaryQuestion: Self.unanswered, backupQuestion: Self.unanswered,
                    settling: { .word($0, isTold: false) }))
            try guest.waitForCommits(3)
            #expect(try say(.resume, .backup) == "nothing to decide: the primary is heard")
            guest.wire.hold()
            guest.backWire.hold()
            try waitUntil("both ask") {
                let status = try say(.status, .backup) ?? ""
                return guest.freezer.isFrozen && status.contains("deciding")
            }
            #expect(try say(.resume, .primary) == "ok")
            let ending = try guest.end {
                #expect(!guest.freezer.isFrozen, "the guest goes on before the backup has heard it")
                guest.wire.heal()
                guest.backWire.heal()
                guest.primary.tellBackup()
            }
            #expect(ending.primary.end.fate == .goesOn(.ruledOut("the admin said so")), "\(ending.primary.end)")
            guest.expectDiscard(ending, cause: "the primary said farewell: the guest goes on at the primary", "told")
        }

        private func waitUntil(_ what: String, _ condition: () throws -> Bool) throws {
            let deadline = ContinuousClock.now + .seconds(20)
            while try !condition() {
                guard ContinuousClock.now < deadline else { throw HelperTestError.timedOut(waitingFor: what) }
                usleep(10_000)
            }
        }

        @Test func aBackupThatStopsReadingAndSpeakingLeavesASuspendedGuestToItsCaller() throws {
            // An epoch that fits neither into staging nor into the link, so that the guest waits while suspended: the
            // native engine would have copied it aside.
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    fault: .jam(after: 0), place: .init(.data(number: 1, afterEpoch: 3), 100), stagingBytes: 64 << 10,
                    engine: .stock, dirtyPages: 600))
            try guest.waitUntilJammed()
            guest.backWire.stall()
            let ending = try guest.end(hangsUp: false)
            guard case .backupSilent = ending.primary.end.cause else {
                Issue.record("\(ending.primary.end)")
                return
            }
            #expect(ending.saved.result == -1 && ending.saved.errorNumber == EPIPE, "\(ending.saved.story)")
            #expect(guest.source.isSuspended, "resuming it is libxl's")
            #expect(guest.source.calls(SIMXEN_CALL_PAUSE) == 0)
            try guest.expectFailover(ending, "jammed")
        }

        @Test func aLinkThatTakesNothingBeforeTheFirstCheckpointRunsOutOfPatience() throws {
            let guest = try ProtectedGuest(
                in: folder, .init(fault: .jam(after: 1_000_000), patienceMilliseconds: 400, stagingBytes: 256 << 10))
            let ending = try guest.end(hangsUp: false)
            guest.expectNoReplica(ending, "jammed in the first copy")
            guard case .backupLeft = ending.primary.end.cause else {
                Issue.record("\(ending.primary.end)")
                return
            }
            #expect(guest.source.isRunning)
        }

        @Test func aSilentStockPrimaryHasTheStockTimeout() throws {
            let stock = try StockPrimary(in: folder, detectTimeoutMilliseconds: 100, patienceMilliseconds: 700)
            try stock.send(epochs: 4)
            let (restored, backup) = try stock.received()
            guard case .failOver = backup.end else {
                Issue.record("\(backup.end)")
                return
            }
            let silence = backup.decidedAt - backup.lastHeardAt
            #expect(silence >= .nanoseconds(milliseconds: 700))
            #expect(silence < .nanoseconds(milliseconds: 5000))
            try stock.expectReplica(restored, backup, epoch: 4)
        }
    }
}
