import RomulusCore
import SimulatedXen
import Testing

extension ProtectionTests {
    /// A link that ends or lies.
    @Suite struct LinkFaultTests {
        let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        @Test(arguments: UInt64(0)..<20) func aCutAnywhereRestoresTheLastCompleteEpoch(seed: UInt64) throws {
            var random = SeededGenerator(seed: seed &+ 77)
            // The first part is a little over 4 MiB; each further epoch some 160 KiB.
            let offset = 4_400_000 + Int(random.next(below: 1_500_000))
            let guest = try ProtectedGuest(in: folder, .init(fault: .cut(after: offset), seed: seed &+ 1))
            try guest.expectFailover(try guest.end(), "seed \(seed), cut after \(offset)")
        }

        /// A whole EPOCH_END: header, number, length.
        private static let epochEndBytes = FrameScanner.headerBytes + 16

        @Test(arguments: [
            FrameScanner.Place(.epochEnd(1), epochEndBytes),
            .init(.data(number: 1, afterEpoch: 1), 0),
            .init(.data(number: 1, afterEpoch: 1), 7),
            .init(.data(number: 1, afterEpoch: 1), 16),
            // In a page of the first PAGE_DATA record, and between that record and the next.
            .init(.data(number: 1, afterEpoch: 2), FrameScanner.headerBytes + 5_000),
            .init(.data(number: 1, afterEpoch: 4), 100_001),
            .init(.epochEnd(2), 0),
            .init(.epochEnd(2), 9),
            .init(.epochEnd(3), 16),
            .init(.epochEnd(3), epochEndBytes - 1),
            .init(.epochEnd(4), epochEndBytes),
        ]) func aCutInAFrameRestoresTheLastCompleteEpoch(place: FrameScanner.Place) throws {
            let guest = try ProtectedGuest(in: folder, .init(fault: .cut(after: 0), place: place))
            let ending = try guest.end()
            try guest.expectFailover(ending, "cut at \(place)")
            let complete =
                switch place.frame {
                case .data(_, let epoch): epoch
                case .epochEnd(let epoch): place.offset >= Self.epochEndBytes ? epoch : epoch - 1
                }
            #expect(ending.backup.lastEpoch.rawValue == UInt64(complete))
        }

        @Test(arguments: UInt64(0)..<6) func aDamagedByteNeverReachesTheRestorer(seed: UInt64) throws {
            var random = SeededGenerator(seed: seed &+ 177)
            let offset = 4_400_000 + Int(random.next(below: 1_000_000))
            let guest = try ProtectedGuest(in: folder, .init(fault: .flip(at: offset), seed: seed &+ 20))
            let ending = try guest.end()
            try guest.expectFailover(ending, "seed \(seed), bit flipped at \(offset)")
            #expect(ending.primary.end.cause == .backupLeft(text: try ending.damage()))
            #expect(ending.primary.end.fate == .yields("the replica runs on the backup"))
        }

        @Test(arguments: [
            // Type, the length's high and low octets, sequence, checksums, payload.
            FrameScanner.Place(.data(number: 1, afterEpoch: 3), 0),
            .init(.data(number: 1, afterEpoch: 3), 5),
            .init(.data(number: 1, afterEpoch: 3), 7),
            .init(.data(number: 1, afterEpoch: 3), 9),
            .init(.data(number: 1, afterEpoch: 3), 14),
            .init(.data(number: 1, afterEpoch: 3), 16),
            .init(.data(number: 1, afterEpoch: 3), 9_000),
            .init(.epochEnd(4), 3),
            .init(.epochEnd(4), 5),
            .init(.epochEnd(4), 12),
            .init(.epochEnd(4), 16),
            .init(.epochEnd(4), 24),
        ]) func damageInAFrameFailsOverToTheEpochBefore(place: FrameScanner.Place) throws {
            let guest = try ProtectedGuest(in: folder, .init(fault: .flip(at: 0), place: place))
            let ending = try guest.end()
            try guest.expectFailover(ending, "bit flipped at \(place)")
            #expect(ending.backup.lastEpoch.rawValue == 3)
            _ = try ending.damage()
        }

        @Test func aCutBeforeTheFirstCheckpointDiscardsTheReplica() throws {
            for offset in [3, 20, 70, 1_000_000] {
                let folder = try TemporaryFolder()
                let guest = try ProtectedGuest(in: folder, .init(fault: .cut(after: offset)))
                guest.expectNoReplica(try guest.end(), "cut after \(offset)")
            }
        }

        @Test(arguments: [
            FrameScanner.Place(.data(number: 1, afterEpoch: 0), 8),
            .init(.data(number: 2, afterEpoch: 0), 17),
            .init(.epochEnd(1), 12),
        ]) func damageBeforeTheFirstCheckpointDiscardsTheReplica(place: FrameScanner.Place) throws {
            let guest = try ProtectedGuest(in: folder, .init(fault: .flip(at: 0), place: place))
            let ending = try guest.end()
            guest.expectNoReplica(ending, "bit flipped at \(place)")
            #expect(guest.source.isRunning || guest.source.isSuspended)
        }
    }
}

extension ProtectedGuest.Ending {
    /// Why the backup's relay gave the link up; it must have been damage.
    fileprivate func damage() throws -> String {
        guard case .failOver(let cause) = backup.end else { return "" }
        #expect(cause.hasPrefix("what arrived is damaged"), "\(primary) \(saved.story)")
        return cause
    }
}
