import CPages
import Foundation
import Testing

@testable import RomulusCore

/// Memory for both sides of the codec.
private final class Codec {
    private let cache: UnsafeMutableRawBufferPointer
    private let kept: UnsafeMutableRawBufferPointer
    private let encoderOutput: UnsafeMutableRawBufferPointer
    let decoderOutput: UnsafeMutableRawBufferPointer
    var encoder: PageEncoder
    var decoder: PageDecoder

    init(slots: Int, compression: Compression) {
        func zeroed(_ count: Int) -> UnsafeMutableRawBufferPointer {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
            memory.initializeMemory(as: UInt8.self, repeating: 0)
            return memory
        }
        cache = zeroed(PageCache.storageBytes(slots: slots))
        kept = zeroed(slots * PageFormat.pageBytes)
        encoderOutput = zeroed(PageEncoder.outputBytes)
        decoderOutput = zeroed(PageFormat.maximumDecodedBytes)
        encoder = PageEncoder(
            cache: PageCache(storage: cache), compression: compression, output: encoderOutput)
        decoder = PageDecoder(storage: kept)
    }

    deinit { for memory in [cache, kept, encoderOutput, decoderOutput] { memory.deallocate() } }

    func encode(_ pages: [(number: UInt64, bytes: [UInt8])]) -> [UInt8] {
        encoder.begin()
        for page in pages {
            page.bytes.withUnsafeBufferPointer { encoder.page(page.number, $0.baseAddress!) }
        }
        return Array(encoder.finish())
    }

    func decode(_ payload: [UInt8]) throws(PageError) -> [UInt8] {
        let result: Result<[UInt8], PageError> = payload.withUnsafeBytes { payload in
            do throws(PageError) {
                return .success(Array(try decoder.decode(payload, into: decoderOutput)))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

/// Kinds of pages, and of what becomes of them.
private enum Pages {
    static func zero() -> [UInt8] { [UInt8](repeating: 0, count: 4096) }

    static func random(_ random: inout Seeded) -> [UInt8] {
        var page = zero()
        page.withUnsafeMutableBytes { raw in
            for offset in stride(from: 0, to: 4096, by: 8) {
                raw.storeBytes(of: random.next(), toByteOffset: offset, as: UInt64.self)
            }
        }
        return page
    }

    static func text(_ random: inout Seeded) -> [UInt8] {
        let words = (0..<20).map { _ in (0..<7).map { _ in UInt8.random(in: 97...122, using: &random) } + [32] }
        return Array((0..<512).flatMap { _ in words.randomElement(using: &random)! })
    }

    /// Everything from one changed bit to a whole new page.
    static func changed(_ page: [UInt8], _ random: inout Seeded) -> [UInt8] {
        var page = page
        switch Int.random(in: 0..<9, using: &random) {
        case 0: break
        case 1: page[Int.random(in: 0..<4096, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
        case 2: for _ in 0..<8 { page[Int.random(in: 0..<4096, using: &random)] &+= 1 }
        case 3:
            let start = Int.random(in: 0...3840, using: &random)
            for place in start..<start + 256 { page[place] = UInt8.random(in: 0...255, using: &random) }
        case 4:
            for place in 0..<4096 where UInt8.random(in: 0..<100, using: &random) < 18 { page[place] ^= 0x5A }
        case 5: for place in 0..<4096 { page[place] ^= 0xFF }
        case 6: page = zero()
        case 7: page = text(&random)
        default: page = Self.random(&random)
        }
        return page
    }
}

@Suite struct PageCodecTests {
    // MARK: The inner loops

    static let levels: [romulus_pages_level] = [
        ROMULUS_PAGES_PLAIN, ROMULUS_PAGES_AVX2, ROMULUS_PAGES_AVX512,
    ].filter { $0.rawValue <= romulus_pages_best_level().rawValue }

    private func delta(_ before: [UInt8], _ now: [UInt8], _ level: romulus_pages_level) -> [UInt8] {
        var room = [UInt8](repeating: 0xEE, count: Int(ROMULUS_DELTA_ROOM) + 16)
        let length = romulus_delta_at(level, &room, before, now)
        #expect(room[Int(ROMULUS_DELTA_ROOM)...].allSatisfy { $0 == 0xEE }, "written past the room")
        return Array(room[..<length])
    }

    @Test func everyProcessorsLoopsSayTheSame() {
        var random = Seeded(1)
        for round in 0..<600 {
            let before = round % 3 == 0 ? Pages.zero() : Pages.random(&random)
            let now = Pages.changed(before, &random)
            let deltas = Self.levels.map { delta(before, now, $0) }
            #expect(deltas.allSatisfy { $0 == deltas[0] }, "round \(round)")
            for level in Self.levels {
                var page = before
                let isTaken = romulus_apply_delta_at(level, &page, deltas[0], deltas[0].count)
                #expect(isTaken && page == now)
                #expect(romulus_page_is_zero_at(level, now) == now.allSatisfy { $0 == 0 })
            }
            #expect((deltas[0].count == 8) == (before == now))
        }
    }

    @Test func aPageWithOneByteAnywhereIsNotZero() {
        for place in 0..<4096 {
            var page = Pages.zero()
            page[place] = 1
            for level in Self.levels { #expect(!romulus_page_is_zero_at(level, page)) }
        }
    }

    @Test func manyPagesAndFewAreCopiedAsTheyAre() {
        var random = Seeded(6)
        let pages = (0..<40).map { _ in Pages.random(&random) }
        for (count, shift, hasHoles) in [(7, 0, false), (7, 8, true), (510, 0, false), (510, 8, false), (510, 0, true)]
        {
            let target = UnsafeMutableRawBufferPointer.allocate(byteCount: (count + 1) * 4096 + 64, alignment: 64)
            defer { target.deallocate() }
            target.initializeMemory(as: UInt8.self, repeating: 0xEE)
            let chosen = (0..<count).map { hasHoles && $0 % 3 == 1 ? nil : Optional(pages[$0 % pages.count]) }
            let copies = chosen.map { page -> UnsafeMutableBufferPointer<UInt8>? in
                guard let page else { return nil }
                let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 4096)
                _ = copy.initialize(from: page)
                return copy
            }
            defer { for copy in copies { copy?.deallocate() } }
            let pointers = copies.map { copy in copy.map { UnsafePointer<UInt8>($0.baseAddress!) } }
            let start = target.baseAddress! + shift
            let end = romulus_copy_pages(start.assumingMemoryBound(to: UInt8.self), pointers, count)
            let expected = chosen.compactMap { $0 }.flatMap { $0 }
            #expect(UnsafeRawPointer(end!) - UnsafeRawPointer(start) == expected.count)
            #expect(target[shift..<shift + expected.count].elementsEqual(expected))
            #expect(target[(shift + expected.count)...].allSatisfy { $0 == 0xEE })
        }
    }

    @Test func aDamagedDeltaIsRefusedWithinItsBounds() {
        var random = Seeded(2)
        var refused = 0
        for _ in 0..<4000 {
            let before = Pages.random(&random)
            var bytes = delta(before, Pages.changed(before, &random), ROMULUS_PAGES_PLAIN)
            if random.next() % 2 == 0 {
                bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
            } else {
                bytes[Int.random(in: 0..<min(bytes.count, 24), using: &random)] ^= 1 << (UInt8(random.next() % 8))
            }
            // The delta ends where the memory does, so that a sanitizer would see a read past it.
            let answers = Self.levels.map { level -> Bool in
                var room = before + [UInt8](repeating: 0xEE, count: 64)
                let isTaken = bytes.withUnsafeBufferPointer {
                    romulus_apply_delta_at(level, &room, $0.baseAddress, $0.count)
                }
                #expect(room[4096...].allSatisfy { $0 == 0xEE })
                return isTaken
            }
            #expect(answers.allSatisfy { $0 == answers[0] })
            if !answers[0] { refused += 1 }
        }
        #expect(refused > 2000)
    }

    // MARK: Both sides

    @Test(arguments: Compression.allCases) func whatIsDecodedIsWhatWasEncoded(compression: Compression) throws {
        for seed in UInt64(0)..<12 {
            var random = Seeded(seed)
            // More pages than slots, so that pages lose theirs and come back.
            let codec = Codec(slots: 16, compression: compression)
            var memory = (0..<40).map { _ in Pages.changed(Pages.zero(), &random) }
            for _ in 0..<60 {
                let written = (0..<Int.random(in: 1...12, using: &random)).map { _ in
                    Int.random(in: 0..<memory.count, using: &random)
                }
                var pages: [(number: UInt64, bytes: [UInt8])] = []
                for index in written {
                    memory[index] = Pages.changed(memory[index], &random)
                    pages.append((UInt64(index) * 1000, memory[index]))
                }
                let payload = codec.encode(pages)
                #expect(try codec.decode(payload) == pages.flatMap(\.bytes), "seed \(seed)")
                let most = PageFormat.headerBytes + pages.count * (4096 + PageFormat.overheadBytes)
                #expect(payload.count <= most, "larger than the pages and a few bytes each")
            }
            let counts = codec.encoder.counts
            #expect(counts.zero > 0 && counts.same > 0 && counts.delta > 0)
            #expect((counts.compressed > 0) == (compression != .none))
        }
    }

    /// What guests in the lab have written: the format is `Tests/Benchmarks/Traces.swift`'s.
    @Test(arguments: ["idle", "compile"]) func recordedPagesAreTheSameAfterTheirWay(name: String) throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = [UInt8](try Data(contentsOf: folder.appendingPathComponent("Benchmarks/traces/\(name).trace")))
        func word(_ offset: Int) -> Int {
            Int(file.withUnsafeBytes { $0.littleEndian(at: offset, as: UInt32.self) })
        }
        #expect(file.prefix(4) == ArraySlice("RMLT".utf8))
        let recorded = Codec(slots: word(4), compression: .zstd)
        let codec = Codec(slots: 256, compression: .lz4)
        var pageCount = 0
        var offset = 8
        while offset < file.count {
            let length = word(offset)
            let bytes = try length == 0 ? [] : recorded.decode(Array(file[offset + 4..<offset + 4 + length]))
            offset += 4 + length
            // Wherever pages begin in it: any 4096 bytes are a page.
            let pages = stride(from: 0, to: bytes.count - 4095, by: 4096).map { start in
                (number: UInt64(start / 4096), bytes: Array(bytes[start..<start + 4096]))
            }
            guard !pages.isEmpty else { continue }
            #expect(try codec.decode(codec.encode(pages)) == pages.flatMap(\.bytes))
            pageCount += pages.count
        }
        #expect(pageCount > 5000 && offset == file.count)
    }

    @Test func whatTheBackupHasCostsAFewBytes() throws {
        var random = Seeded(3)
        let codec = Codec(slots: 64, compression: .lz4)
        let before = (0..<32).map { (number: UInt64($0), bytes: Pages.random(&random)) }
        #expect(codec.encode(before).count > 32 * 4096)
        #expect(codec.encode(before).count <= 32 * 5 + PageFormat.headerBytes)
        let counted = before.map { page in
            var page = page
            page.bytes[77] &+= 1
            return page
        }
        #expect(codec.encode(counted).count <= 32 * 24 + PageFormat.headerBytes)
        #expect(codec.encode(before.map { ($0.number, Pages.zero()) }).count == 32 + PageFormat.headerBytes)
    }

    @Test func pagesThatDoNotCompressAreNotTriedForLong() {
        var trial = CompressionTrial()
        var tried = 0
        for _ in 0..<1000 where trial.isWorthTrying() {
            tried += 1
            trial.ended(smaller: false)
        }
        #expect(tried < 30)
        while !trial.isWorthTrying() {}
        trial.ended(smaller: true)
        let isTriedAgain = trial.isWorthTrying()
        #expect(isTriedAgain)
    }

    @Test func aFullSetGivesAnySlotAwayAndAFreeOneIsTakenFirst() {
        let storage = UnsafeMutableRawBufferPointer.allocate(
            byteCount: PageCache.storageBytes(slots: 8), alignment: 64)
        defer { storage.deallocate() }
        storage.initializeMemory(as: UInt8.self, repeating: 0)
        var cache = PageCache(storage: storage)
        let slots = (UInt64(0)..<8).map { cache.admit($0) }
        #expect(Set(slots).count == 8)
        cache.forget(5)
        let reused = cache.admit(9)
        #expect(reused == slots[5] && cache.find(5) == nil && cache.find(9) == reused)
        var given: Set<Int> = []
        for number in UInt64(10)..<200 {
            given.insert(cache.admit(number))
            let kept = (UInt64(0)...number).filter { cache.find($0) != nil }
            #expect(kept.count == 8 && kept.contains(number))
        }
        #expect(given == Set(slots), "every slot's turn comes")
    }

    @Test func cachesThatDifferAreNoticed() throws {
        var random = Seeded(4)
        let codec = Codec(slots: 16, compression: .lz4)
        let page = Pages.random(&random)
        _ = try codec.decode(codec.encode([(1, page)]))
        var lost = page
        lost[9] ^= 1
        _ = codec.encode([(1, lost)])
        var next = lost
        next[100] ^= 1
        let payload = codec.encode([(1, next)])
        #expect(throws: PageError.checksum) { try codec.decode(payload) }
    }

    // MARK: Bad input

    @Test func theDecoderSurvivesAnything() throws {
        var refused = 0
        var hits = 0
        for seed in UInt64(0)..<3000 {
            var random = Seeded(seed)
            let codec = Codec(slots: 8, compression: seed % 2 == 0 ? .lz4 : .zstd)
            let pages = (0..<4).map { number -> (number: UInt64, bytes: [UInt8]) in
                (number: UInt64(number), bytes: Pages.changed(Pages.text(&random), &random))
            }
            let first = codec.encode(pages)
            let second = codec.encode(pages.map { ($0.number, Pages.changed($0.bytes, &random)) })
            // What is refused must not depend on the checksum alone: damage the pieces, mostly near their headers.
            var bytes = seed % 3 == 0 ? first : second
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch random.next() % 4 {
            case 0: bytes.removeSubrange(place...)
            case 1: bytes.insert(contentsOf: random.bytes(5), at: place)
            case 2: bytes[min(place, 40)] = UInt8.random(in: 0...255, using: &random)
            default: bytes[place] ^= 1 << UInt8(random.next() % 8)
            }
            if seed % 3 != 0 { _ = try codec.decode(first) }
            do throws(PageError) {
                _ = try codec.decode(bytes)
                hits += 1
            } catch {
                refused += 1
            }
        }
        #expect(refused > 2500 && hits < 100, "\(refused) refused, \(hits) taken")
    }

    @Test func lengthsAreBoundedBeforeAnythingIsWritten() {
        let codec = Codec(slots: 8, compression: .lz4)
        func payload(decodedBytes: UInt32, _ pieces: [UInt8]) -> [UInt8] {
            var bytes: [UInt8] = []
            bytes.append(littleEndian: decodedBytes)
            bytes.append(littleEndian: UInt32(0))
            return bytes + pieces
        }
        #expect(throws: PageError.malformed) { try codec.decode([1, 2, 3]) }
        #expect(throws: PageError.malformed) { try codec.decode(payload(decodedBytes: .max, [1])) }
        #expect(throws: PageError.malformed) { try codec.decode(payload(decodedBytes: 4095, [1])) }
        #expect(throws: PageError.malformed) { try codec.decode(payload(decodedBytes: 8192, [1])) }
        #expect(throws: PageError.malformed) {
            try codec.decode(payload(decodedBytes: 4096, [0, 0xFF, 0xFF, 0xFF, 0xFF, 1]))
        }
        #expect(throws: PageError.noSuchSlot(8)) { try codec.decode(payload(decodedBytes: 4096, [2, 8, 0, 0, 0])) }
        #expect(throws: PageError.unknownPiece(99)) { try codec.decode(payload(decodedBytes: 4096, [99])) }
        #expect(throws: PageError.damagedDelta) {
            try codec.decode(payload(decodedBytes: 4096, [3, 0, 0, 0, 0, 2, 0, 1, 1]))
        }
        #expect(throws: PageError.damagedPage) {
            try codec.decode(payload(decodedBytes: 4096, [5, 0, 0, 0, 0, 2, 0, 1, 1]))
        }
        #expect(throws: PageError.damagedPage) {
            try codec.decode(payload(decodedBytes: 4096, [6, 0, 0, 0, 0, 2, 0, 1, 1]))
        }
    }

    // MARK: The stream

    @Test func aStreamThatGoesThroughTheCodecIsTheStream() throws {
        for seed in UInt64(0)..<40 {
            var random = Seeded(seed)
            let epochs = (0..<4).map { epoch in
                Sample.pageData(
                    [3, 4, 15 << 60 | 5, 9 << 60 | 6, UInt64(epoch)], fill: UInt8(epoch / 2))
                    + Sample.epoch(pages: Int.random(in: 0...30, using: &random), isHVM: seed % 2 == 0)
            }
            var input = Sample.head + Sample.record(8, [1, 2, 3]) + epochs.joined()
            let expected = input
            let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 30_000, alignment: 1)
            defer { storage.deallocate() }
            var ring = StagingRing(storage: storage)
            var outgoing = OutgoingStream()
            let codec = Codec(slots: 16, compression: .lz4)
            var output: [UInt8] = []
            var ends = 0
            var streamBytes: UInt64 = 0
            while !input.isEmpty || ring.storedBytes > 0 {
                let take = min(input.count, ring.freeBytes, Int.random(in: 0...9000, using: &random))
                write(Array(input.prefix(take)), into: &ring)
                input.removeFirst(take)
                guard let unit = try outgoing.nextUnit(of: ring, into: &codec.encoder) else { continue }
                ring.didRead(unit.payloadBytes)
                output += try codec.decode(Array(codec.encoder.finish()))
                if case .checkpointEnd(_, let bytes)? = unit.landmark {
                    ends += 1
                    streamBytes += bytes
                }
            }
            #expect(output == expected, "seed \(seed)")
            #expect(ends == 4)
            #expect(streamBytes == UInt64(expected.count))
            #expect(codec.encoder.counts.same > 0)
        }
    }

    @Test func aPayloadFitsIntoAFrameWhateverThePagesAre() throws {
        var random = Seeded(5)
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 << 20, alignment: 1)
        defer { storage.deallocate() }
        var ring = StagingRing(storage: storage)
        var outgoing = OutgoingStream()
        let codec = Codec(slots: 1024, compression: .none)
        var record = Sample.pageData((0..<200).map { UInt64($0) })
        record.replaceSubrange((16 + 1600)..., with: (0..<200).flatMap { _ in Pages.random(&random) })
        let input = Sample.head + record + Sample.epoch(pages: 250, fill: 0)
        write(input, into: &ring)
        var output: [UInt8] = []
        var longest = 0
        while let unit = try outgoing.nextUnit(of: ring, into: &codec.encoder) {
            ring.didRead(unit.payloadBytes)
            let payload = Array(codec.encoder.finish())
            longest = max(longest, payload.count)
            #expect(payload.count <= FrameFormat.maximumPayloadBytes)
            output += try codec.decode(payload)
        }
        #expect(output == input)
        #expect(longest > FrameFormat.maximumPayloadBytes - 5000, "frames are filled")
    }
}
