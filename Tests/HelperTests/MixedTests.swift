import Foundation
import RomulusCore
import RomulusHost
import SimulatedXen
import Testing

extension ProtectionTests {
    /// One side has Romulus, the other does not: promise 4, stock stays stock.
    @Suite struct MixedTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test func withoutABackChannelTheStreamIsStockToTheLastByte() throws {
            let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
            let run = try StockBackup(in: folder, link: file.descriptor, back: -1, engine: .stock)
            let saved = try run.start(afterEpoch: { $0 < 4 }).outcome()
            #expect(saved.result == 0, "\(saved.story)")
            let outcome = run.relay.finish()
            #expect(!outcome.wasFarewellHeard)
            #expect(outcome.statistics.epochCount == 5)

            // The same guest under stock Remus.
            let other = try TemporaryFolder()
            let stockFile = try OpenFile(other("stream"), O_RDWR | O_CREAT)
            let source = try SimulatedDomain(guestAt: other("source"), domid: 7, pageCount: 1024, seed: 5)
            let stock = try StockBackup.startSaver(
                source, to: stockFile, other, EpochCopies(),
                afterEpoch: {
                    // The one page more that Romulus has in each epoch: the witness of the log.
                    simxen_mark_dirty(source.raw, 1021)
                    return $0 < 4
                }
            ).outcome()
            #expect(stock.result == 0, "\(stock.story)")
            let paths = [folder("stream"), other("stream")]
            let streams = try paths.map { try Data(contentsOf: URL(fileURLWithPath: $0)) }
            #expect(streams[0] == streams[1], "\(streams[0].count) and \(streams[1].count) bytes")

            let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
            let restored = try StockStreams.startRestore(
                into: target, from: try OpenFile(folder("stream"), O_RDONLY), type: .remus
            ).outcome()
            #expect(restored.result == 0, "\(restored.story)")
            #expect(target.differingPages(from: try #require(run.copies[4])) == [])
        }

        @Test func aPlainSaveThroughTheLibraryIsStockByteForByteAndXensVerifierTakesIt() throws {
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
            let verdict = try Program.verifyStream(folder("streamtrue"))
            #expect(verdict.status == 0, "\(verdict.output)")
        }

        @Test func aRemusSaveWithoutOurXlIsLeftAlone() throws {
            // The library is there but nobody has set the helper up: a stock xl with a stray preload.
            let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 1024, seed: 5)
            let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
            let saved = try StockBackup.startSaver(
                source, to: file, folder, EpochCopies(), afterEpoch: { $0 < 2 },
                adjust: { $0.preload.insert(ProtectedGuest.library, at: 0) }
            ).outcome()
            #expect(saved.result == 0 && saved.exit == .status(0), "\(saved.story)")
            #expect(saved.standardError == "")
        }

        @Test func aBackupThatNeverAnswersGetsAStockStreamAndTheAdminAWarning() throws {
            let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
            let (here, there) = try OpenFile.pair()
            let (back, silent) = try OpenFile.pair()
            let said = try StandardError.captured {
                let run = try StockBackup(in: folder, link: here.descriptor, back: back.descriptor)
                let saver = try run.start(afterEpoch: { $0 < 4 })
                let restorer = try StockStreams.startRestore(into: target, from: there, type: .remus)
                let saved = try saver.outcome()
                #expect(saved.result == 0, "\(saved.story)")
                let outcome = run.relay.finish()
                #expect(outcome.statistics.epochCount == 5)
                #expect(outcome.wasFarewellHeard)
                here.shutDown()
                // What follows the announcement is what stock sends, up to a word that stock must refuse: the guest goes on here.
                #expect(try restorer.outcome().result == -1, "a stock backup must not activate the replica")
                #expect(target.differingPages(from: try #require(run.copies[4])) == [])
            }
            #expect(said.contains("romulus: stock: warning: the backup did not answer as Romulus"))
            withExtendedLifetime(silent) {}
        }

        @Test func aStockBackupIsMadeToDiscardItsReplicaWhenProtectionEnds() throws {
            let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
            let (here, there) = try OpenFile.pair()
            let (back, silent) = try OpenFile.pair()
            let run = try StockBackup(in: folder, link: here.descriptor, back: back.descriptor)
            let signals = run.relay.signalEvent
            let saver = try run.start(afterEpoch: { epoch in
                if epoch == 3 {
                    var mark = UInt64(1) << 40
                    _ = write(signals, &mark, 8)
                }
                return true
            })
            let restorer = try StockStreams.startRestore(into: target, from: there, type: .remus)
            _ = try saver.outcome()
            let outcome = run.relay.finish()
            here.shutDown()
            #expect(outcome.end.cause == .stopRequested(signalName: "SIGTERM"))
            #expect(outcome.statistics.epochCount >= 4)
            #expect(outcome.wasFarewellHeard)
            #expect(try restorer.outcome().result == -1, "a stock backup must not activate the replica")
            withExtendedLifetime(silent) {}
        }

        /// Powered off, rebooted, crashed, saved away: what the host here makes of it is the only one.
        @Test(arguments: [PrimarySession.GuestLeave.shutDown, .crashed, .taken])
        func aGuestThatLeavesIsNotResurrectedByAStockBackup(leave: PrimarySession.GuestLeave) throws {
            let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
            let (here, there) = try OpenFile.pair()
            let (back, silent) = try OpenFile.pair()
            let hasLeft = Shared(false)
            let run = try StockBackup(
                in: folder, link: here.descriptor, back: back.descriptor, leave: { hasLeft.value ? leave : nil })
            let saver = try run.start(afterEpoch: { epoch in
                if epoch == 3 { hasLeft.set(true) }
                return true
            })
            let restorer = try StockStreams.startRestore(into: target, from: there, type: .remus)
            _ = try saver.outcome()
            let outcome = run.relay.finish()
            here.shutDown()
            #expect(outcome.end.cause == .guestLeft(leave))
            #expect(outcome.wasFarewellHeard)
            #expect(try restorer.outcome().result == -1, "a stock backup must not activate the replica")
            withExtendedLifetime(silent) {}
        }

        /// What `xl destroy` leaves is the replica.
        @Test func aGuestThatIsDestroyedIsAStockBackups() throws {
            let target = try SimulatedDomain(emptyAt: folder("target"), domid: 9, pageCount: 1024)
            let (here, there) = try OpenFile.pair()
            let (back, silent) = try OpenFile.pair()
            let isGone = Shared(false)
            let run = try StockBackup(
                in: folder, link: here.descriptor, back: back.descriptor, leave: { isGone.value ? .destroyed : nil })
            let saver = try run.start(afterEpoch: { epoch in
                if epoch == 3 { isGone.set(true) }
                return true
            })
            let restorer = try StockStreams.startRestore(into: target, from: there, type: .remus)
            _ = try saver.outcome()
            #expect(!run.relay.finish().wasFarewellHeard)
            here.shutDown()
            #expect(try restorer.outcome().result == 0)
            withExtendedLifetime(silent) {}
        }

        /// Xen's own restorer, at the end of a stream that was cut anywhere in an epoch.
        @Test func aStockBackupRefusesWhereverItsStreamWasCut() throws {
            let source = try SimulatedDomain(guestAt: folder("source"), domid: 7, pageCount: 512, seed: 5)
            let file = try OpenFile(folder("stream"), O_RDWR | O_CREAT)
            let saved = try StockBackup.startSaver(source, to: file, folder, EpochCopies(), afterEpoch: { $0 < 2 })
                .outcome()
            #expect(saved.result == 0, "\(saved.story)")
            let stream = [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder("stream"))))
            let ends = StockWalk.epochEnds(stream)
            let first = try #require(ends.first)
            let second = ends[1]
            // Right behind the first CHECKPOINT, all about its end, in the next epoch's pages, all about that one's end.
            let cuts = Array(first - 8...first + 25) + [first + 3000, first + 4096 * 3] + Array(second - 18...second)
            for cut in cuts {
                var cursor = StreamCursor()
                try stream.prefix(cut).withUnsafeBytes { bytes in
                    var passed = 0
                    while passed < bytes.count {
                        passed += try cursor.advance(over: UnsafeRawBufferPointer(rebasing: bytes[passed...]))
                            .passedBytes
                    }
                }
                let words = try #require(StockFarewell.words(after: cursor), "at \(cut)")
                let (here, there) = try OpenFile.pair()
                let target = try SimulatedDomain(emptyAt: folder("target\(cut)"), domid: 9, pageCount: 512)
                let writer = Background {
                    try BoundedIO.write(
                        Array(stream.prefix(cut)) + words, to: here.descriptor, deadline: .now + .seconds(20))
                    here.shutDown()
                }
                let restorer = try StockStreams.startRestore(into: target, from: there, type: .remus)
                #expect(try restorer.outcome().result == -1, "cut \(cut - first) bytes behind the first epoch")
                // It may have gone before it has read all of it.
                _ = try? writer.value()
            }
        }

        @Test func aStockPrimaryThatEndsIsTakenOverFromItsLastWholeEpoch() throws {
            let stock = try StockPrimary(in: folder)
            try stock.send(epochs: 5)
            stock.hangUp()
            let (restored, backup) = try stock.received()
            #expect(backup.end == .failOver(cause: "the link to the primary ended without a farewell"))
            try stock.expectReplica(restored, backup, epoch: 5)
        }
    }
}
