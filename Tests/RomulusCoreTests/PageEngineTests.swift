import Testing

@testable import RomulusCore

@Suite struct PageEngineTests {
    private func scan(_ words: [UInt64], pageCount: Int, room: Int) -> [UInt64] {
        words.withUnsafeBufferPointer { words in
            var scan = DirtyScan(words: words.baseAddress!, pageCount: pageCount)
            var room = [UInt64](repeating: 0, count: room)
            var found: [UInt64] = []
            while true {
                let count = room.withUnsafeMutableBufferPointer { scan.next(into: $0) }
                if count == 0 { break }
                found += room.prefix(count)
            }
            let again = room.withUnsafeMutableBufferPointer { scan.next(into: $0) }
            #expect(again == 0, "the end stays the end")
            return found
        }
    }

    @Test func aScanFindsEveryDirtyPageOnceAndNoneBehindTheLast() {
        var generator = SystemRandomNumberGenerator()
        for pageCount in [1, 63, 64, 65, 127, 128, 1000, 4096] {
            for density in [UInt64(1), 8, 64, 1000] {
                let words = (0..<(pageCount + 63) / 64).map { _ in
                    (0..<64).reduce(UInt64(0)) { word, bit in
                        UInt64.random(in: 0..<density, using: &generator) == 0 ? word | 1 << UInt64(bit) : word
                    }
                }
                let expected = (0..<pageCount).filter { words[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }.map(UInt64.init)
                for room in [1, 7, 512] { #expect(scan(words, pageCount: pageCount, room: room) == expected) }
            }
        }
    }

    @Test func whatTheBufferHoldsIsAStreamThatOurOwnCheckTakes() throws {
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 4096)
        defer { storage.deallocate() }
        var buffer = RecordBuffer(storage: storage)
        let page = [UInt8](repeating: 7, count: 4096)
        page.withUnsafeBytes { page in
            let entries: [UInt64] = [5, 6 | 0xF << 60, 9]
            let contents = [page.baseAddress, nil, page.baseAddress]
            entries.withUnsafeBufferPointer { entries in
                contents.withUnsafeBufferPointer { buffer.pageData(entries, $0) }
            }
        }
        #expect(buffer.filledBytes == RecordBuffer.pageDataBytes(pages: 3) - 4096)
        [UInt8](1...5).withUnsafeBytes { buffer.record(.hvmContext, $0) }
        #expect(buffer.filledBytes % 8 == 0)
        buffer.record(.checkpoint)
        // libxl's CHECKPOINT_END has the same form.
        buffer.record(.init(rawValue: LibxlFormat.RecordType.checkpointEnd.rawValue))
        #expect(try EpochCheck.pageCount(of: buffer.filled) == 3)
        buffer.reset()
        buffer.headers(guestType: LibxcFormat.guestTypeHVM, xenMajor: 4, xenMinor: 17)
        #expect(buffer.filledBytes == LibxcFormat.imageHeaderBytes + LibxcFormat.domainHeaderBytes)
        #expect(buffer.freeBytes == storage.count - buffer.filledBytes)
    }

    @Test func aWalkGivesEveryFrameNumberOnceWhateverIsFound() {
        var generator = SystemRandomNumberGenerator()
        for frameCount in [1, 500, 0xF0000, 0xFF000, 0x10_0000, 0x12_3456] {
            var walk = FrameWalk(frameCount: frameCount)
            var room = [UInt64](repeating: 0, count: 510)
            var seen = [UInt8](repeating: 0, count: frameCount)
            while true {
                let count = room.withUnsafeMutableBufferPointer { walk.next(into: $0) }
                if count == 0 { break }
                for frame in room.prefix(count) { seen[Int(frame)] += 1 }
                if Bool.random(using: &generator) { walk.foundNothing() }
            }
            #expect(walk.isDone && seen.allSatisfy { $0 == 1 }, "\(frameCount)")
        }
    }

    @Test func aWalkComesEarlyToWhereThereIsSomething() {
        // A PVH guest of 160 MiB.
        let pages = [0..<40_960, 0xFC000..<0xFC009, 0xFEFF8..<0xFF000]
        var walk = FrameWalk(frameCount: 0xFF000)
        var room = [UInt64](repeating: 0, count: 510)
        var (found, asked) = (0, 0)
        while found < pages.map(\.count).reduce(0, +) {
            let count = room.withUnsafeMutableBufferPointer { walk.next(into: $0) }
            asked += count
            let here = room.prefix(count).count { frame in pages.contains { $0.contains(Int(frame)) } }
            if here == 0 { walk.foundNothing() }
            found += here
        }
        #expect(asked < 43_000, "\(asked)")
    }

    @Test func theFirstCopyStopsWhereAnotherRoundWouldNotGainMuch() {
        func rounds(_ dirty: [Int]) -> Int {
            var policy = LivePolicy(pages: 100_000)
            for pages in dirty where policy.goesOn { policy.roundBegins(pages: pages) }
            return policy.round
        }
        #expect(rounds([20, 20, 20]) == 1, "few pages are left to the suspension")
        #expect(rounds([1000, 900, 800, 700]) == 2, "the guest writes as fast as it is copied")
        #expect(rounds([40_000, 10_000, 2000, 500, 100, 60]) == 5)
        #expect(rounds([0, 0]) == 1)
    }
}
