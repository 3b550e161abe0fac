import CCompression
import CPages
import Glibc
import RomulusCore
import RomulusSimulation

/// Single pages: what each step costs, against memcpy and against compressors, in GB of pages per second.
enum PageSpeed {
    private static let pageCount = 64
    private static let pageBytes = 4096

    private enum Change: String, CaseIterable {
        case word = "(a) one word"
        case words = "(b) 8 scattered words"
        case run = "(c) a run of 256 bytes"
        case scattered = "(d) 18 % scattered bytes"
        case rewritten = "(e) rewritten"
        case none = "(f) identical"

        func apply(_ page: UnsafeMutablePointer<UInt8>, _ numbers: inout Seeded) {
            func difference() -> UInt8 { UInt8.random(in: 1...255, using: &numbers) }
            switch self {
            case .word: changeWords(1)
            case .words: changeWords(8)
            case .run:
                let start = Int.random(in: 0...3840, using: &numbers)
                for place in start..<start + 256 { page[place] ^= difference() }
            case .scattered:
                for place in 0..<4096 where Int.random(in: 0..<100, using: &numbers) < 18 {
                    page[place] ^= difference()
                }
            case .rewritten: for place in 0..<4096 { page[place] = UInt8.random(in: 0...255, using: &numbers) }
            case .none: break
            }
            func changeWords(_ count: Int) {
                for _ in 0..<count {
                    let word = Int.random(in: 0..<512, using: &numbers)
                    for place in word * 8..<word * 8 + 8 { page[place] ^= difference() }
                }
            }
        }
    }

    static func report() {
        reportDeltas()
        reportWalks()
    }

    /// Pages that fit into the second cache, as a batch of the encoder's does.
    private static func reportDeltas() {
        var numbers = Seeded(1)
        let before = pages()
        let now = pages()
        let room = memory(pageCount * 8192)
        let level = romulus_pages_best_level()
        var rows: [[String]] = []
        for change in Change.allCases {
            for index in 0..<pageCount {
                let old = page(before, index)
                let new = page(now, index)
                for place in 0..<4096 { old[place] = UInt8.random(in: 0...255, using: &numbers) }
                new.update(from: old, count: pageBytes)
                change.apply(new, &numbers)
            }
            var lengths = [Int](repeating: 0, count: pageCount)
            func encode(_ level: romulus_pages_level) -> Double {
                speed { index in
                    lengths[index] = romulus_delta_at(
                        level, delta(room, index), page(before, index), page(now, index))
                }
            }
            let plain = encode(ROMULUS_PAGES_PLAIN)
            let best = encode(level)
            // Twice the same delta leaves the page as it was.
            let decode = speed { index in
                _ = romulus_apply_delta(page(before, index), delta(room, index), lengths[index])
            }
            rows.append([
                change.rawValue, number(Double(lengths.reduce(0, +)) / Double(pageCount), 0), number(best, 1),
                number(decode, 1), number(plain, 1), number(lz4(now, room), 2), number(zstd(now, room), 2),
            ])
        }
        let names = ["plain C", "AVX2", "AVX-512"]
        printTable(
            "Deltas (this processor: \(names[Int(level.rawValue)]); GB/s of pages, one core)",
            ["page", "delta, bytes", "encode", "decode", "encode, plain C", "LZ4", "zstd -1"], rows)
    }

    private static func reportWalks() {
        var rows: [[String]] = []
        let source = memory(64 << 20)
        let target = memory(64 << 20)
        var numbers = Seeded(2)
        for offset in stride(from: 0, to: source.count, by: 8) {
            source.storeBytes(of: numbers.next(), toByteOffset: offset, as: UInt64.self)
        }
        let count = source.count / pageBytes
        func row(_ what: String, bytes: Int, against: Double?, _ work: () -> Void) -> Double {
            let speed = Double(bytes) / shortest(work) / 1e9
            rows.append([what, number(speed, 1), against.map { number(speed / $0, 2) } ?? ""])
            return speed
        }
        let copy = row("memcpy of 64 MiB", bytes: source.count, against: nil) {
            memcpy(target.baseAddress!, source.baseAddress!, source.count)
        }
        let batch = RecordBuffer.alignedPages
        let entries = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: batch)
        let contents = UnsafeMutableBufferPointer<UnsafeRawPointer?>.allocate(capacity: batch)
        let room = memory(RecordBuffer.pageDataBytes(pages: batch) * (count / batch))
        _ = row(
            "staging copy: scattered dirty pages into records", bytes: count / batch * batch * pageBytes, against: copy
        ) {
            var buffer = RecordBuffer(storage: room)
            for first in stride(from: 0, to: count / batch * batch, by: batch) {
                for index in 0..<batch {
                    let number = (first + index) * 7919 % count
                    entries[index] = UInt64(number)
                    contents[index] = UnsafeRawPointer(source.baseAddress! + number * pageBytes)
                }
                buffer.pageData(UnsafeBufferPointer(entries), UnsafeBufferPointer(contents))
            }
        }
        let zeroes = memory(16 << 20)
        var found = 0
        _ = row("looking for zero pages, all zero", bytes: zeroes.count, against: copy) {
            for index in 0..<zeroes.count / pageBytes where romulus_page_is_zero(page(zeroes, index)) { found += 1 }
        }
        // A bitmap of a guest of 64 GiB.
        let bitmap = memory(2 << 20)
        let words = bitmap.bindMemory(to: UInt64.self)
        func scan() {
            var scan = DirtyScan(words: words.baseAddress!, pageCount: bitmap.count * 8)
            while case let count = scan.next(into: entries), count > 0 { found += count }
        }
        _ = row("dirty bitmap, empty", bytes: bitmap.count, against: copy, scan)
        for index in stride(from: 0, to: words.count, by: 64) { words[index] = 1 << UInt64(index % 61) }
        _ = row("dirty bitmap, one page in 4096", bytes: bitmap.count, against: copy, scan)
        precondition(found > 0)
        printTable("Walks (GB/s)", ["what", "GB/s", "to memcpy"], rows)
    }

    // MARK: Pages

    private static func pages() -> UnsafeMutableRawBufferPointer { memory(pageCount * pageBytes) }

    private static func page(_ memory: UnsafeMutableRawBufferPointer, _ index: Int) -> UnsafeMutablePointer<UInt8> {
        (memory.baseAddress! + index * pageBytes).assumingMemoryBound(to: UInt8.self)
    }

    private static func delta(_ memory: UnsafeMutableRawBufferPointer, _ index: Int) -> UnsafeMutablePointer<UInt8> {
        (memory.baseAddress! + index * 8192).assumingMemoryBound(to: UInt8.self)
    }

    private static func speed(repeats: Int = 50, _ work: (Int) -> Void) -> Double {
        let seconds = shortest { for _ in 0..<repeats { for index in 0..<pageCount { work(index) } } }
        return Double(repeats * pageCount * pageBytes) / seconds / 1e9
    }

    private static func lz4(
        _ pages: UnsafeMutableRawBufferPointer, _ room: UnsafeMutableRawBufferPointer
    ) -> Double {
        speed(repeats: 4) { index in
            LZ4_compress_default(
                UnsafeRawPointer(page(pages, index)).assumingMemoryBound(to: CChar.self),
                UnsafeMutableRawPointer(delta(room, index)).assumingMemoryBound(to: CChar.self), 4096, 8192)
        }
    }

    private static func zstd(
        _ pages: UnsafeMutableRawBufferPointer, _ room: UnsafeMutableRawBufferPointer
    ) -> Double {
        let context = ZSTD_createCCtx()
        defer { ZSTD_freeCCtx(context) }
        return speed(repeats: 2) { index in
            ZSTD_compressCCtx(context, delta(room, index), 8192, page(pages, index), 4096, 1)
        }
    }
}
