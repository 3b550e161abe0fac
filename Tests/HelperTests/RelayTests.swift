import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

/// Relay to relay around the stock helpers: what a link does to a protected guest, and what becomes of it.
@Suite(.serialized, .timeLimit(.minutes(4)))
struct RelayTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func expectFailover(_ ending: ProtectedGuest.Ending, _ guest: ProtectedGuest, _ story: String) throws {
        guard case .failOver = ending.backup.end else {
            Issue.record("\(story): no failover but \(ending.backup.end)")
            return
        }
        let restored = try #require(ending.restored, "\(story)")
        try #require(restored.result == 0, "\(story): \(restored.story)")
        let last = Int(ending.backup.lastEpoch.rawValue)
        #expect(last >= Int(ending.primary.acknowledgedEpoch.rawValue), "\(story): an acknowledged epoch is lost")
        let copy = try #require(guest.copies[last - 1], "\(story)")
        #expect(guest.target.differingPages(from: copy) == [], "\(story): not the memory of epoch \(last)")
        #expect(guest.target.context == copy.context, "\(story)")
    }

    @Test func epochsAreAcknowledgedInOrderAndCtrlCDiscardsTheReplica() throws {
        let guest = try ProtectedGuest(in: folder)
        try guest.waitForCommits(6)
        guest.interrupt()
        let ending = try guest.end(farewell: .farewell(.protectionEnded, text: "bye"))
        #expect(ending.primary.end == .stopRequested(signalName: "SIGINT"))
        #expect(ending.primary.acknowledgedEpoch.rawValue >= 6)
        #expect(ending.primary.wasFarewellHeard)
        #expect(ending.backup.end == .discard(cause: "the primary said farewell: bye"))
        #expect(ending.saved.exit == .status(0), "\(ending.saved.story)")
        #expect(guest.source.calls(SIMXEN_CALL_PAUSE) == 0)
    }

    @Test(arguments: UInt64(0)..<12) func aCutAnywhereRestoresTheLastCompleteEpoch(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed &+ 77)
        // The first part is a little over 4 MiB; each further epoch some 160 KiB.
        let offset = 4_400_000 + Int(random.next(below: 1_500_000))
        let guest = try ProtectedGuest(in: folder, .init(fault: .cut(after: offset), seed: seed &+ 1))
        try expectFailover(try guest.end(), guest, "seed \(seed), cut after \(offset)")
    }

    @Test(arguments: UInt64(0)..<4) func aDamagedByteNeverReachesTheRestorer(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed &+ 177)
        let offset = 4_400_000 + Int(random.next(below: 1_000_000))
        let guest = try ProtectedGuest(in: folder, .init(fault: .flip(at: offset), seed: seed &+ 20))
        try expectFailover(try guest.end(), guest, "seed \(seed), bit flipped at \(offset)")
    }

    @Test func aCutBeforeTheFirstCheckpointDiscardsTheReplica() throws {
        let guest = try ProtectedGuest(in: folder, .init(fault: .cut(after: 1_000_000)))
        let ending = try guest.end()
        guard case .discard(let cause) = ending.backup.end else {
            Issue.record("\(ending.backup.end)")
            return
        }
        #expect(cause.contains("before the first complete checkpoint"))
        #expect(ending.restored?.result == -1)
        #expect(ending.primary.acknowledgedEpoch == .none)
    }

    @Test func aSilentPrimaryIsSuspectedAtTheTimeoutAndNotBefore() throws {
        let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 200))
        try guest.waitForCommits(3)
        guest.wire.stall()
        let ending = try guest.end()
        try expectFailover(ending, guest, "stalled")
        let silence = ending.backup.decidedAt - ending.backup.lastHeardAt
        #expect(silence >= .nanoseconds(milliseconds: 200))
        #expect(silence < .nanoseconds(milliseconds: 2000))
    }

    @Test func heartbeatsKeepAnIdleLinkAlive() throws {
        let guest = try ProtectedGuest(in: folder, .init(detectTimeoutMilliseconds: 200, periodMilliseconds: 900))
        try guest.waitForCommits(3)
        guest.interrupt()
        let ending = try guest.end(farewell: .farewell(.protectionEnded, text: "bye"))
        #expect(ending.primary.end == .stopRequested(signalName: "SIGINT"))
        #expect(ending.backup.end == .discard(cause: "the primary said farewell: bye"))
    }

    @Test func aKilledHelperIsNoReasonToActivateTheReplica() throws {
        let guest = try ProtectedGuest(in: folder)
        try guest.waitForCommits(3)
        guest.saver.process.kill(SIGKILL)
        let ending = try guest.end(farewell: .farewell(.primaryFailed, text: "the helper died"))
        #expect(ending.saved.exit == .signal(SIGKILL))
        #expect(ending.primary.wasFarewellHeard)
        #expect(ending.backup.end == .discard(cause: "the primary said farewell: the helper died"))
    }

    @Test func aDestroyedPrimaryHandsTheGuestOverAtOnce() throws {
        let leave = Shared<PrimarySession.GuestLeave?>(nil)
        let guest = try ProtectedGuest(in: folder, .init(guestLeave: { leave.value }))
        try guest.waitForCommits(3)
        leave.set(.destroyed)
        let ending = try guest.end()
        #expect(ending.primary.end == .guestLeft(.destroyed))
        try expectFailover(ending, guest, "destroyed")
    }

    @Test func stagingSmallerThanAnEpochMakesTheGuestWaitAndLosesNothing() throws {
        let guest = try ProtectedGuest(
            in: folder, .init(fault: .cut(after: 9_000_000), stagingBytes: 64 << 10, dirtyPages: 300))
        let ending = try guest.end()
        #expect(ending.primary.statistics.stagingFullCount > 0)
        try expectFailover(ending, guest, "small staging")
    }

    @Test func suspendRequestsKeepThePeriod() throws {
        let guest = try ProtectedGuest(in: folder, .init(periodMilliseconds: 120))
        try guest.waitForCommits(5)
        guest.interrupt()
        _ = try guest.end(farewell: .farewell(.protectionEnded, text: "bye"))
        let requests = guest.suspendRequests
        for (earlier, later) in zip(requests.dropFirst(), requests.dropFirst(2)) {
            // The request reaches the test a moment after the helper has noted its time.
            #expect(later - earlier >= .milliseconds(100))
        }
    }

    @Test func withoutABackChannelTheStreamIsStockToTheLastByte() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 1024, seed: 5)
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        let relay = try PrimaryRelay(
            link: file.descriptor, back: -1,
            configuration: .init(
                stagingBytes: 1 << 20, periodNanoseconds: 1_000_000, patienceNanoseconds: 10_000_000_000),
            log: Log(guest: "test"))
        try relay.start()
        let copies = EpochCopies()
        let saver = try StockStreams.startRemus(
            source, to: try OpenFile(duplicating: relay.streamForLibxl.raw),
            whileSuspended: { epoch in copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch) },
            afterEpoch: { epoch in
                var generator = SeededGenerator(seed: UInt64(epoch))
                source.dirty(50, using: &generator)
                return epoch < 4
            },
            adjust: { try? ProtectedGuest.hook(&$0, relay) })
        let saved = try saver.outcome()
        #expect(saved.result == 0, "\(saved.story)")
        let outcome = relay.finish { _ in .farewell(.protectionEnded, text: "") }
        #expect(!outcome.wasFarewellHeard)

        let bytes = try Data(contentsOf: URL(fileURLWithPath: folder("stream")))
        for mark in [PrivateRecord.announcement, PrivateRecord.framesBegin] {
            let pattern = withUnsafeBytes(of: mark.rawValue.littleEndian) { Data($0) }
            #expect(bytes.range(of: pattern) == nil, "a private record in a stock stream")
        }
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
        let restored = try StockStreams.startRestore(
            into: target, from: try OpenFile(folder("stream"), O_RDONLY), type: .remus
        ).outcome()
        #expect(restored.result == 0, "\(restored.story)")
        #expect(target.differingPages(from: try #require(copies[4])) == [])
    }

    @Test func aStockBackupIsMadeToDiscardItsReplicaWhenProtectionEnds() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 1024, seed: 5)
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
        let (here, there) = try OpenFile.pair()
        let (back, silent) = try OpenFile.pair()
        let relay = try PrimaryRelay(
            link: here.descriptor, back: back.descriptor,
            configuration: .init(
                stagingBytes: 1 << 20, periodNanoseconds: 1_000_000, patienceNanoseconds: 10_000_000_000),
            log: Log(guest: "test"))
        try relay.start()
        let saver = try StockStreams.startRemus(
            source, to: try OpenFile(duplicating: relay.streamForLibxl.raw),
            afterEpoch: { epoch in
                if epoch == 3 {
                    var mark = UInt64(1) << 40
                    _ = write(relay.signalEvent, &mark, 8)
                }
                return true
            },
            adjust: { try? ProtectedGuest.hook(&$0, relay) })
        let restorer = try StockStreams.startRestore(into: target, from: there, type: .remus)
        _ = try saver.outcome()
        let outcome = relay.finish { _ in .farewell(.protectionEnded, text: "") }
        here.shutDown()
        #expect(outcome.end == .stopRequested(signalName: "SIGTERM"))
        #expect(outcome.acknowledgedEpoch.rawValue >= 4)
        #expect(outcome.wasFarewellHeard)
        #expect(try restorer.outcome().result == -1, "a stock backup must not activate the replica")
        withExtendedLifetime(silent) {}
    }

    @Test func aPlainSaveThroughTheLibraryIsStockByteForByte() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 1024, seed: 5)
        let saves = try [true, false].map { isHooked in
            let file = try OpenFile(folder("stream\(isHooked)"), O_RDWR | O_CREAT)
            let saved = try StockStreams.savePlain(source, to: file) {
                if isHooked { $0.preload.insert(ProtectedGuest.library, at: 0) }
            }
            #expect(saved.result == 0, "\(saved.story)")
            source.resume()
            return try Data(contentsOf: URL(fileURLWithPath: folder("stream\(isHooked)")))
        }
        #expect(saves[0] == saves[1])
    }

    @Test func whenXlDiesAfterTheFirstCommitTheCopyHereIsPaused() throws {
        let guest = try HelperAlone(in: folder)
        try guest.waitForEpoch(commitUpTo: 2)
        guest.closeControl()
        let outcome = try guest.saver.outcome()
        #expect(outcome.exit == .status(1), "\(outcome.story)")
        #expect(guest.source.calls(SIMXEN_CALL_PAUSE) == 1, "\(outcome.story)")
        #expect(outcome.standardError.contains("the copy here is paused"))
    }

    @Test func whenXlDiesBeforeTheFirstCommitTheGuestGoesOn() throws {
        let guest = try HelperAlone(in: folder)
        try guest.waitForEpoch(commitUpTo: 0)
        guest.closeControl()
        let outcome = try guest.saver.outcome()
        #expect(guest.source.calls(SIMXEN_CALL_PAUSE) == 0)
        #expect(!guest.source.isSuspended, "\(outcome.story)")
        #expect(outcome.standardError.contains("the guest goes on here"))
    }
}
