import Foundation
import RomulusCore
import RomulusSimulation

/// What a guest wrote, epoch by epoch: recorded in the lab (`make traces`), one file per kind of work.
///
/// The file is what went over a link: each payload of ENCODED_DATA behind its length (4 bytes), a length of zero at the end of
/// an epoch; before everything "RMLT" and how many slots the decoder needs (4 bytes). The first epoch has only pages that are
/// written later, as they were in the first copy.
struct Trace {
    static let magic: [UInt8] = Array("RMLT".utf8)

    var epochs: [[(number: UInt64, page: UnsafeRawPointer)]] = []

    init(path: String) throws {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        guard bytes.count >= 8, Array(bytes.prefix(4)) == Self.magic else { throw TraceError.notATrace(path) }
        let slots = Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self) })
        var decoder = PageDecoder(storage: memory(slots * 4096))
        let output = memory(PageFormat.maximumDecodedBytes)
        var walk = PageWalk()
        var offset = 8
        while offset + 4 <= bytes.count {
            let length = Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) })
            offset += 4
            if length == 0 {
                epochs.append(walk.takePages())
                continue
            }
            guard length <= bytes.count - offset else { throw TraceError.notATrace(path) }
            _ = try bytes.withUnsafeBytes { raw in
                try walk.pass(
                    try decoder.decode(UnsafeRawBufferPointer(rebasing: raw[offset..<offset + length]), into: output))
            }
            offset += length
        }
    }
}

enum TraceError: Error {
    case notATrace(String)
    case unreadable(String)
}

/// Finds the pages in a stock stream, and keeps copies of them.
struct PageWalk {
    private var cursor = StreamCursor()
    private var pages: [(number: UInt64, page: UnsafeRawPointer)] = []
    private var current: [UInt8] = []

    init() { cursor.isShowingPages = true }

    mutating func takePages() -> [(number: UInt64, page: UnsafeRawPointer)] {
        defer { pages = [] }
        return pages
    }

    /// - Returns: where in `bytes` epochs end.
    @discardableResult mutating func pass(_ bytes: UnsafeRawBufferPointer) throws -> [Int] {
        var offset = 0
        var ends: [Int] = []
        while offset < bytes.count {
            let begins = cursor.pageAhead != nil
            let (passed, boundary) = try cursor.advance(over: UnsafeRawBufferPointer(rebasing: bytes[offset...]))
            if begins { current = [] }
            if begins || !current.isEmpty { current.append(contentsOf: bytes[offset..<offset + passed]) }
            offset += passed
            if case .page(let number)? = boundary {
                let copy = memory(4096)
                copy.copyBytes(from: current)
                pages.append((number, UnsafeRawPointer(copy.baseAddress!)))
                current = []
            }
            if case .libxlRecord(.checkpointEnd)? = boundary { ends.append(offset) }
        }
        return ends
    }
}

enum Traces {
    private static let folder = "Tests/Benchmarks/traces"

    static func report(_ paths: [String]) throws {
        let paths = paths.isEmpty ? listed() : paths
        guard !paths.isEmpty else { return print("\nno traces in \(folder): make traces records them in the lab") }
        var wire: [[String]] = []
        var hits: [[String]] = []
        for path in paths {
            let trace = try Trace(path: path)
            let name = path.split(separator: "/").last!.split(separator: ".")[0]
            let written = trace.epochs.dropFirst().flatMap { $0 }
            for compression in Compression.allCases {
                wire.append(row(trace, String(name), written.count, slots: 64 << 10, compression))
            }
            hits += hitRatios(trace, String(name))
        }
        printTable(
            "Bytes on the wire, after the first copy (to raw pages)",
            ["trace", "epochs", "pages", "zero", "same", "delta", "compressed", "raw", "wire/raw", "GB/s"], wire)
        printTable(
            "How often a page's last copy is still there, by the cache's size (of the pages that are ever written)",
            ["trace, rule", "1/8", "1/4", "1/2", "3/4", "all"], hits)
    }

    private static func listed() -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { $0.hasSuffix(".trace") }.map { "\(folder)/\($0)" }.sorted()
    }

    private static func row(
        _ trace: Trace, _ name: String, _ pages: Int, slots: Int, _ compression: Compression
    ) -> [String] {
        let codec = Codec(slots: slots, compression: compression)
        for (number, page) in trace.epochs[0] { codec.encode(number, page) }
        codec.finish()
        let before = codec.counts
        let seconds = seconds {
            for epoch in trace.epochs.dropFirst() {
                for (number, page) in epoch { codec.encode(number, page) }
                codec.finish()
            }
        }
        let after = codec.counts
        let bytes = Double(after.encodedBytes - before.encodedBytes)
        return [
            "\(name), \(compression.rawValue)", "\(trace.epochs.count - 1)", "\(pages)",
            "\(after.zero - before.zero)", "\(after.same - before.same)", "\(after.delta - before.delta)",
            "\(after.compressed - before.compressed)", "\(after.raw - before.raw)",
            number(bytes / Double(max(pages, 1) * 4096), 3), number(Double(pages * 4096) / seconds / 1e9, 1),
        ]
    }

    // MARK: What to forget

    private enum Rule: String, CaseIterable {
        case sets = "least recently sent of 8"
        case recent = "least recently sent of all"
        case oldest = "oldest of 8"
        case random = "any of 8"
    }

    private static func hitRatios(_ trace: Trace, _ name: String) -> [[String]] {
        let accesses = trace.epochs.map { $0.map(\.number) }
        let distinct = Set(accesses.dropFirst().joined()).count
        return Rule.allCases.map { rule in
            ["\(name), \(rule.rawValue)"]
                + [0.125, 0.25, 0.5, 0.75, 1].map { share in
                    number(hitRatio(accesses, slots: max(8, Int(Double(distinct) * share)), rule), 2)
                }
        }
    }

    private static func hitRatio(_ epochs: [[UInt64]], slots: Int, _ rule: Rule) -> Double {
        let ways = rule == .recent ? slots : 8
        let sets = max(1, slots / ways)
        var numbers = Seeded(4)
        // Oldest first.
        var kept = [[UInt64]](repeating: [], count: sets)
        var hits = 0
        var total = 0
        for (index, epoch) in epochs.enumerated() {
            for number in epoch {
                let set = Int(number % UInt64(sets))
                let place = kept[set].firstIndex(of: number)
                if index > 0 {
                    total += 1
                    hits += place == nil ? 0 : 1
                }
                if let place {
                    if rule == .sets || rule == .recent { kept[set].append(kept[set].remove(at: place)) }
                    continue
                }
                if kept[set].count == ways {
                    kept[set].remove(at: rule == .random ? Int(numbers.next() % UInt64(ways)) : 0)
                }
                kept[set].append(number)
            }
        }
        return total == 0 ? 0 : Double(hits) / Double(total)
    }
}
