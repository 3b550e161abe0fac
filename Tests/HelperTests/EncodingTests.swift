import Foundation
import RomulusCore
import RomulusHost
import Testing

extension ProtectionTests {
    /// Pages that go over the link as what has changed in them.
    @Suite struct EncodingTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test(arguments: [Engine.native, .stock], Compression.allCases)
        func theReplicaIsTheGuestAndTheLinkCarriesLess(engine: Engine, compression: Compression) throws {
            let guest = try ProtectedGuest(
                in: folder,
                .init(pages: 200, engine: engine, slots: (1024, 1024), compression: compression, seed: 31))
            try guest.waitForCommits(25)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            try guest.expectFailover(ending, "\(engine), \(compression)")
            let statistics = ending.primary.statistics
            // Pages whose first copy went before the backup's answer cost their whole size once more.
            #expect(statistics.linkBytes.sum * 4 < statistics.streamBytes.sum, "eight words of each page change")
        }

        @Test(arguments: [(1024, 16), (16, 1024), (24, 24), (8, 3)])
        func theSmallerCacheCounts(primary: Int, backup: Int) throws {
            let guest = try ProtectedGuest(in: folder, .init(slots: (primary, backup), seed: 32))
            try guest.waitForCommits(6)
            guest.wire.stall()
            try guest.expectFailover(try guest.end(hangsUp: false), "\(primary) and \(backup) slots")
        }

        @Test(arguments: [(1024, 0), (0, 1024)])
        func withoutAPartnerPagesGoAsTheyAre(primary: Int, backup: Int) throws {
            let guest = try ProtectedGuest(in: folder, .init(slots: (primary, backup), seed: 33))
            try guest.waitForCommits(4)
            guest.wire.stall()
            let ending = try guest.end(hangsUp: false)
            try guest.expectFailover(ending, "\(primary) and \(backup) slots")
            #expect(ending.primary.statistics.linkBytes.sum >= ending.primary.statistics.streamBytes.sum)
        }

        @Test(arguments: [
            FrameScanner.Place(.data(number: 1, afterEpoch: 3), 0), .init(.data(number: 1, afterEpoch: 3), 30),
            .init(.data(number: 1, afterEpoch: 3), 700), .init(.epochEnd(4), 3),
        ]) func aCutOrDamageInEncodedPagesFailsOverToTheEpochBefore(place: FrameScanner.Place) throws {
            for fault in [Wire.Fault.cut(after: 0), .flip(at: 0)] {
                let guest = try ProtectedGuest(
                    in: try TemporaryFolder(), .init(fault: fault, place: place, slots: (1024, 1024), seed: 34))
                let ending = try guest.end()
                try guest.expectFailover(ending, "\(fault) at \(place)")
                #expect(ending.backup.lastEpoch.rawValue == 3)
            }
        }

        @Test func stagingSmallerThanAnEpochLosesNothing() throws {
            let guest = try ProtectedGuest(
                in: folder, .init(stagingBytes: 64 << 10, slots: (512, 512), seed: 35, dirtyPages: 300))
            try guest.waitForCommits(5)
            guest.wire.stall()
            try guest.expectFailover(try guest.end(hangsUp: false), "small staging")
        }
    }
}
