import RomulusCore
import RomulusSimulation

/// What an epoch costs as it grows: the bitmap's walk, the copy into staging and the encoding, for 0 to 64 Ki dirty pages of
/// which eight words each have changed.
enum Growth {
    private static let guestPages = 128 << 10

    static func report() {
        let guest = memory(guestPages * 4096)
        let bitmap = memory(guestPages / 8)
        let words = bitmap.bindMemory(to: UInt64.self)
        let staging = memory(RecordBuffer.pageDataBytes(pages: 512) + (4 << 20))
        let entries = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: 512)
        let contents = UnsafeMutableBufferPointer<UnsafeRawPointer?>.allocate(capacity: 512)
        let codec = Codec(slots: guestPages, compression: .lz4)
        var numbers = Seeded(3)
        for offset in stride(from: 0, to: guest.count, by: 8) {
            guest.storeBytes(of: numbers.next(), toByteOffset: offset, as: UInt64.self)
        }

        func epoch() {
            var scan = DirtyScan(words: words.baseAddress!, pageCount: guestPages)
            while case let found = scan.next(into: entries), found > 0 {
                var buffer = RecordBuffer(storage: staging)
                for index in 0..<found {
                    contents[index] = UnsafeRawPointer(guest.baseAddress! + Int(entries[index]) * 4096)
                }
                buffer.pageData(
                    UnsafeBufferPointer(rebasing: entries[..<found]), UnsafeBufferPointer(rebasing: contents[..<found]))
                let pages = buffer.filled.baseAddress! + LibxcFormat.recordHeaderBytes + 8 + found * 8
                for index in 0..<found { codec.encode(entries[index], pages + index * 4096) }
            }
            codec.finish()
        }

        words.update(repeating: .max)
        epoch()
        var rows: [[String]] = []
        for exponent in [-1, 6, 8, 10, 12, 13, 14, 15, 16] {
            let count = exponent < 0 ? 0 : 1 << exponent
            words.update(repeating: 0)
            // Spread over the guest.
            for index in 0..<count {
                let page = index * (guestPages / max(count, 1))
                words[page / 64] |= 1 << UInt64(page % 64)
            }
            let seconds = shortest(runs: 3) {
                for index in 0..<count {
                    let page = index * (guestPages / count)
                    for _ in 0..<8 {
                        let offset = page * 4096 + Int(numbers.next() % 512) * 8
                        guest.storeBytes(of: numbers.next(), toByteOffset: offset, as: UInt64.self)
                    }
                }
                epoch()
            }
            rows.append([
                "\(count)", number(seconds * 1e3, 3), count == 0 ? "" : number(seconds * 1e9 / Double(count), 0),
            ])
        }
        printTable(
            "CPU per epoch as dirty pages grow (walk, copy, encode; the guest's own eight writes a page are in it)",
            ["dirty pages", "ms", "ns per page"], rows)
    }
}
