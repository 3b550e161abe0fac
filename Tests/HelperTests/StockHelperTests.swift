import Foundation
import SimulatedXen
import Synchronization
import Testing

/// The stand-in itself, proved with Xen's own helper and verifier and nothing of Romulus.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct StockHelperTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test func plainSaveIsAcceptedByXensVerifierAndRestoresTheSameDomain() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 16_384, seed: 1)
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        let saved = try StockStreams.savePlain(source, to: file)
        try #require(saved.result == 0 && saved.exit == .status(0), "\(saved.story)")
        #expect(saved.log.contains { $0.text.contains("Saving domain 7, type x86 HVM") })

        let verdict = try Program.verifyStream(folder("stream"))
        #expect(verdict.status == 0, "\(verdict.output)")

        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 16_384)
        let restored = try restore(into: target, type: .plain, lengthBytes: nil)
        try #require(restored.result == 0 && restored.exit == .status(0), "\(restored.story)")
        expectSameDomain(target, source)
        #expect(restored.storePage == 16_382 && restored.consolePage == 16_383)
        #expect(simxen_policy_of(target.raw).pointee.leaf_count > 0, "the CPU policy came along")
        #expect(source.calls(SIMXEN_CALL_UNKNOWN) == 0 && target.calls(SIMXEN_CALL_UNKNOWN) == 0)
    }

    @Test func liveMigrationOfAWritingGuestRestoresWhatItHadWhenSuspended() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 8_192, seed: 2)
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 8_192)
        let (primary, backup) = try OpenFile.pair()
        let guest = SimulatedGuest(in: source, seed: 3, pagesPerRound: 16)
        defer { guest.stop() }
        let saver = Background {
            defer { primary.shutDown() }
            return try StockStreams.savePlain(source, to: primary, flags: StockStreams.live)
        }
        let restorer = try StockStreams.startRestore(into: target, from: backup, type: .plain)
        let saved = try saver.value()
        let restored = try restorer.outcome()
        try #require(saved.result == 0, "\(saved.story)")
        try #require(restored.result == 0, "\(restored.story)")
        #expect(source.calls(SIMXEN_CALL_LOGDIRTY_CONTROL) >= 2 && guest.rounds > 0)
        #expect(!source.isLogDirty && source.isSuspended)
        expectSameDomain(target, source)
    }

    @Test func remusStreamRestoresTheLastEpoch() throws {
        let (epochs, _) = try recordRemusStream(epochs: 6)
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: epochs[5].pageCount)
        let restored = try restore(into: target, type: .remus, lengthBytes: nil)
        try #require(restored.result == 0, "\(restored.story)")
        expectSameDomain(target, epochs[5])
        #expect(target.differingPages(from: epochs[4]) != [])
    }

    @Test func endOfStreamInTheMiddleOfAnEpochRestoresTheEpochBefore() throws {
        let (epochs, ends) = try recordRemusStream(epochs: 5)
        // Half of the last epoch; all but its CHECKPOINT_END; all but that and its CHECKPOINT.
        let cuts = [(ends[3] + ends[4]) / 2, ends[4] - 8, ends[4] - 16]
        for (index, cut) in cuts.enumerated() {
            let target = try SimulatedDomain(
                emptyAt: folder("target\(index)"), domid: 9, pageCount: epochs[0].pageCount)
            let restored = try restore(into: target, type: .remus, lengthBytes: cut)
            try #require(restored.result == 0, "\(restored.story)")
            expectSameDomain(target, epochs[3])
        }
    }

    @Test func endOfStreamInTheFirstEpochFailsTheRestore() throws {
        let (epochs, ends) = try recordRemusStream(epochs: 2)
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: epochs[0].pageCount)
        let restored = try restore(into: target, type: .remus, lengthBytes: ends[0] / 2)
        #expect(restored.result == -1, "\(restored.story)")
    }

    @Test func killedPrimaryLeavesTheLastCommittedEpochAtTheBackup() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 4_096, seed: 6)
        let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 4_096)
        let (primary, backup) = try OpenFile.pair()
        let copies = EpochCopies()
        let guest = SimulatedGuest(in: source, seed: 7)
        defer { guest.stop() }
        let committed = Background {
            defer { primary.shutDown() }
            let reached = Mutex(-1)
            let killer = DispatchSemaphore(value: 0)
            let saver = try StockStreams.startRemus(
                source, to: primary,
                whileSuspended: { epoch in copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch) },
                afterEpoch: { epoch in
                    reached.withLock { $0 = epoch }
                    if epoch == 4 { killer.signal() }
                    usleep(epoch == 4 ? 200_000 : 20_000)
                    return true
                })
            _ = killer.wait(timeout: .now() + 20)
            saver.process.kill(SIGKILL)
            let outcome = try saver.outcome()
            #expect(outcome.result == nil && outcome.exit == .signal(SIGKILL), "\(outcome.story)")
            return reached.withLock { $0 }
        }
        let restorer = try StockStreams.startRestore(into: target, from: backup, type: .remus)
        let last = try committed.value()
        let restored = try restorer.outcome()
        try #require(restored.result == 0, "\(restored.story)")
        #expect(last == 4)
        expectSameDomain(target, try #require(copies[last]))
    }

    @Test func askedFaultFailsTheSaveWithItsErrno() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 4_096, seed: 8)
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        let saved = try StockStreams.savePlain(source, to: file) {
            $0.environment["SIMXEN_FAIL"] = "xenforeignmemory_map:2:\(ENOMEM)"
        }
        #expect(saved.result == -1 && saved.errorNumber == ENOMEM, "\(saved.story)")
        #expect(source.calls(SIMXEN_CALL_MAP) == 2)
    }

    @Test func faultArmedWhileTheHelperRunsEndsRemusWithItsErrno() throws {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 4_096, seed: 9)
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        let saver = try StockStreams.startRemus(
            source, to: file,
            afterEpoch: { epoch in
                if epoch == 1 { simxen_arm_fault(source.raw, SIMXEN_CALL_LOGDIRTY_CONTROL, EINVAL, 1) }
                return true
            })
        let outcome = try saver.outcome()
        #expect(outcome.result == -1 && outcome.errorNumber == EINVAL, "\(outcome.story)")
        #expect(outcome.log.contains { $0.text.contains("Failed to retrieve logdirty bitmap") })
    }

    // MARK: Parts

    /// Records a Remus run in the file "stream"; returns a copy of the domain for each epoch and where each ended.
    private func recordRemusStream(epochs count: Int) throws -> ([SimulatedDomain], [Int]) {
        let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 4_096, seed: 4)
        let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
        let copies = EpochCopies()
        let ends = Mutex<[Int]>([])
        let saver = try StockStreams.startRemus(
            source, to: file,
            whileSuspended: { epoch in copies.keep(try source.copy(to: folder("epoch\(epoch)")), epoch) },
            afterEpoch: { epoch in
                ends.withLock { $0.append(Int(lseek(file.descriptor, 0, SEEK_CUR))) }
                var generator = SeededGenerator(seed: UInt64(100 + epoch))
                #expect(source.dirty(200, using: &generator), "the guest runs between epochs")
                return epoch + 1 < count
            })
        let saved = try saver.outcome()
        try #require(saved.result == 0 && saved.exit == .status(0), "\(saved.story)")
        return (try (0..<count).map { try #require(copies[$0]) }, ends.withLock { $0 })
    }

    private func restore(
        into target: SimulatedDomain, type: HelperProcess.StreamType, lengthBytes: Int?
    ) throws -> HelperProcess.Outcome {
        if let lengthBytes { try #require(truncate(folder("stream"), lengthBytes) == 0) }
        let stream = try OpenFile(folder("stream"), O_RDONLY)
        return try StockStreams.startRestore(into: target, from: stream, type: type).outcome()
    }

    private func expectSameDomain(_ target: SimulatedDomain, _ source: SimulatedDomain) {
        #expect(target.differingPages(from: source) == [])
        #expect(target.context == source.context)
        #expect(target.raw.pointee.tsc_khz == source.raw.pointee.tsc_khz)
        let console = SimulatedDomain.Parameter.consolePage
        #expect(simxen_param(target.raw, console) == simxen_param(source.raw, console))
    }
}
