import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// A guest that does not follow the order to suspend, or is suspended and stays so.
    @Suite struct PausedGuestTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        /// `xl pause`, for longer than anybody's patience, and `xl unpause`.
        @Test(arguments: [Engine.native, .stock]) func aPausedGuestStaysProtectedAndGoesOn(engine: Engine) throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: 400, engine: engine,
                    // More than what a guest gets that was paused with an order under way.
                    epochWatch: EpochWatch(
                        noticeNanoseconds: .nanoseconds(milliseconds: 100),
                        limitNanoseconds: .nanoseconds(milliseconds: 2500))))
            try guest.waitForCommits(3)
            let said = try StandardError.captured {
                #expect(guest.source.pause())
                usleep(300_000)
                let asked = guest.suspendRequests.count
                usleep(3_000_000)
                #expect(guest.suspendRequests.count == asked, "a paused guest was told to suspend")
                #expect(guest.source.unpause())
                do { try guest.waitForCommits(guest.commitsSeen + 3) } catch { Issue.record("\(error)") }
            }
            #expect(said.components(separatedBy: "the guest is paused (xl pause)").count == 2, "\(said)")
            guest.interrupt()
            let ending = try guest.end()
            #expect(ending.primary.end.cause == .stopRequested(signalName: "SIGINT"))
            #expect(guest.freezer.freezes == 0)
            guest.expectDiscard(ending, cause: "the primary said farewell: protection was ended by SIGINT", "paused")
        }

        enum Then: CaseIterable {
            /// libxl has withdrawn its order.
            case asksAgain
            /// It had taken the order, and follows it when it runs again.
            case suspendsLate
        }

        /// libxl has given up by the time when it is unpaused.
        @Test(arguments: [Engine.native, .stock], Then.allCases)
        func aGuestThatIsPausedBeforeItHasSuspendedIsAskedAgain(_ engine: Engine, _ then: Then) throws {
            let requests = Shared(0)
            let epochs = Shared<UInt64>(0)
            let alone = try HelperAlone(
                in: folder, engine: engine,
                .init(
                    suspends: { surroundings in
                        requests.change { $0 += 1 }
                        guard requests.value == 3 else { return true }
                        let source = surroundings.source
                        _ = source.pause()
                        Thread.detachNewThread {
                            usleep(300_000)
                            if then == .suspendsLate { simxen_suspend(source.raw) }
                            _ = source.unpause()
                        }
                        return false
                    },
                    afterCheckpoint: { surroundings, epoch in
                        epochs.set(epoch)
                        if epoch == 5 { surroundings.stop() } else { surroundings.commit(epoch) }
                    }))
            let outcome = try alone.outcome()
            #expect(epochs.value == 5, "\(outcome.story)")
            #expect(requests.value == 6)
            #expect(!alone.surroundings.source.isSuspended, "left suspended by the old order")
            #expect(!outcome.standardError.contains("cannot be saved"), "\(outcome.standardError)")
        }

        private static let quick = EpochWatch(
            noticeNanoseconds: .nanoseconds(milliseconds: 300), limitNanoseconds: .nanoseconds(milliseconds: 900))

        /// libxl waits up to two minutes for it. Its output does not.
        ///
        /// - Parameter timeout: in milliseconds; with 800 a sign of life is due as often as the guest is looked at.
        @Test(arguments: [800, 4000]) func aGuestThatDoesNotSuspendEndsProtectionAndItsOutputIsLetOut(timeout: Int)
            throws
        {
            let requests = Shared(0)
            let protected = Shared<ProtectedGuest?>(nil)
            let stepsAtTheEnd = Shared<[RecordingOutput.Step]>([])
            let guest = try ProtectedGuest(
                in: folder,
                .init(
                    detectTimeoutMilliseconds: timeout,
                    suspends: {
                        requests.change { $0 += 1 }
                        guard requests.value == 4 else { return true }
                        usleep(3_000_000)
                        stepsAtTheEnd.set(protected.value?.output.steps ?? [])
                        return false
                    }, epochWatch: Self.quick))
            protected.set(guest)
            defer { protected.set(nil) }
            let ending = try guest.end()
            guard case .saveEnded(let why) = ending.primary.end.cause else {
                Issue.record("it ended with \(ending.primary.end.cause)")
                return
            }
            #expect(why.contains("the guest has not suspended for"))
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            #expect(stepsAtTheEnd.value.last == .open, "its output was held until libxl had given up")
            #expect(ending.primary.isSuspendOrderOut, "it may follow the order yet")
            guest.expectDiscard(ending, cause: "checkpointing failed", "cannot freeze")
        }

        @Test(arguments: [true, false])
        func aHelperThatHangsIsEndedAndNobodyWaitsForEver(whileSuspended isSuspended: Bool) throws {
            let saver = Shared<HelperProcess.Service?>(nil)
            let epochs = Shared(0)
            let stop: @Sendable () -> Void = {
                epochs.change { $0 += 1 }
                if epochs.value == 4 { saver.value?.process.kill(SIGSTOP) }
            }
            var settings = ProtectedGuest.Settings(detectTimeoutMilliseconds: 4000, epochWatch: Self.quick)
            if isSuspended { settings.whileSuspended = stop } else { settings.whileResumed = stop }
            let guest = try ProtectedGuest(in: folder, settings)
            saver.set(guest.saver)
            defer { saver.set(nil) }
            let ending = try guest.end()
            guard case .saveEnded(let why) = ending.primary.end.cause else {
                Issue.record("it ended with \(ending.primary.end.cause)")
                return
            }
            #expect(why.contains("a checkpoint has stood still"))
            #expect(why.contains("while the guest is suspended") == isSuspended)
            #expect(ending.primary.end.fate == .goesOn(.discarded))
            #expect(ending.saved.exit == .signal(SIGKILL), "libxl waits for it, and nobody resumes the guest")
            #expect(guest.output.steps.last == .open)
            #expect(!ending.primary.isSuspendOrderOut)
            guest.expectDiscard(ending, cause: "checkpointing failed", "helper hangs")
        }

        /// As where the device model hangs: it was in the checkpoint's way, and is in that of the guest's resuming.
        @Test func aHelperThatHangsWithAGuestThatCannotBeResumedLeavesItToTheReplica() throws {
            let guest = try ProtectedGuest(
                in: folder, helperGets: SIGSTOP, inEpoch: 4,
                .init(detectTimeoutMilliseconds: 10_000, epochWatch: Self.quick))
            let ending = try guest.end(resumed: false)
            #expect(ending.saved.exit == .signal(SIGKILL))
            #expect(ending.primary.end.fate == .yields("it cannot go on here"), "\(ending.primary.end)")
            #expect(guest.freezer.isFrozen && guest.output.steps.last == .drop)
            try guest.expectFailover(ending, "device model hangs")
        }
    }
}
