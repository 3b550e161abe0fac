import RomulusSimulation

@testable import RomulusCore

typealias Seeded = RomulusSimulation.Seeded

extension Seeded {
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
    }
}

/// Valid streams, built by hand from Xen's specifications, not with the code under test.
enum Sample {
    static let libxlHeader: [UInt8] = Array("LibxlFmt".utf8) + [0, 0, 0, 2, 0, 0, 0, 0]
    static let libxcContext = record(1, [])
    static let libxcHeaders: [UInt8] =
        [UInt8](repeating: 0xFF, count: 8) + Array("XENF".utf8) + [0, 0, 0, 3] + [0, 0, 0, 0, 0, 0, 0, 0]
        + [2, 0, 0, 0, 12, 0, 0, 0, 4, 0, 0, 0, 17, 0, 0, 0]
    static let checkpoint = record(0x0E, [])
    static let checkpointEnd = record(4, [])
    static let head = libxlHeader + libxcContext + libxcHeaders

    static func record(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: type)
        bytes.append(littleEndian: UInt32(body.count))
        return bytes + body + [UInt8](repeating: 0, count: (8 - body.count % 8) % 8)
    }

    /// PAGE_DATA for these entries (type in bits 60–63); a page of `fill` for each whose type has contents.
    static func pageData(_ entries: [UInt64], fill: UInt8 = 0x5A) -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: UInt32(entries.count))
        body.append(littleEndian: UInt32(0))
        for entry in entries { body.append(littleEndian: entry) }
        for entry in entries where ![13, 14, 15].contains(entry >> 60) {
            body += [UInt8](repeating: fill, count: 4096)
        }
        return record(1, body)
    }

    /// One epoch, as a PVH guest's (or, with a device model's state, an HVM guest's) looks.
    static func epoch(pages: Int, isHVM: Bool = false, fill: UInt8 = 1) -> [UInt8] {
        var bytes: [UInt8] = []
        if pages > 0 { bytes += pageData((0..<pages).map { UInt64($0) }, fill: fill) }
        bytes += record(0x08, [UInt8](repeating: 7, count: 24)) + record(0x09, [UInt8](repeating: 9, count: 61))
        bytes += checkpoint
        if isHVM {
            bytes += record(2, [UInt8](repeating: 0, count: 8) + Array("a\0b\0".utf8))
            bytes += record(3, [UInt8](repeating: 0, count: 8) + [UInt8](repeating: 3, count: 1001))
        }
        return bytes + checkpointEnd
    }
}

/// The boundaries of a stream that arrives in pieces of the given sizes, with the offsets at which they were found.
func boundaries(
    _ bytes: [UInt8], cutting: () -> Int
) throws(StreamError) -> [(offset: Int, boundary: StreamCursor.Boundary)] {
    var cursor = StreamCursor()
    var found: [(offset: Int, boundary: StreamCursor.Boundary)] = []
    var offset = 0
    while offset < bytes.count {
        let size = min(max(1, cutting()), bytes.count - offset)
        let piece = Array(bytes[offset..<offset + size])
        var passed = 0
        while passed < piece.count {
            let step: Result<(passedBytes: Int, boundary: StreamCursor.Boundary?), StreamError> =
                piece.withUnsafeBytes { raw in
                    do throws(StreamError) {
                        return .success(try cursor.advance(over: UnsafeRawBufferPointer(rebasing: raw[passed...])))
                    } catch {
                        return .failure(error)
                    }
                }
            let (moved, boundary) = try step.get()
            passed += moved
            if let boundary { found.append((offset + passed, boundary)) }
        }
        offset += size
    }
    return found
}

extension MonotonicTime {
    static func milliseconds(_ count: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: .nanoseconds(milliseconds: count))
    }
}

/// A value behind a reference: `#expect` takes no mutating call on a value.
@dynamicMemberLookup final class Held<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }

    subscript<Member>(dynamicMember path: KeyPath<Value, Member>) -> Member { value[keyPath: path] }
}

extension Held<PrimarySession> {
    func handle(_ event: PrimarySession.Event, now: MonotonicTime) -> [PrimarySession.Action] {
        value.handle(event, now: now)
    }
    func timePassed(now: MonotonicTime) -> [PrimarySession.Action] { value.timePassed(now: now) }
}

extension Held<BackupSession> {
    func handle(_ event: BackupSession.Event, now: MonotonicTime) -> [BackupSession.Action] {
        value.handle(event, now: now)
    }
    func timePassed(now: MonotonicTime) -> [BackupSession.Action] { value.timePassed(now: now) }
}

/// Into the ring's free space, which must be large enough.
func write(_ bytes: [UInt8], into ring: inout StagingRing) {
    let (first, second) = ring.freeParts
    let cut = min(first.count, bytes.count)
    first.copyBytes(from: bytes[..<cut])
    second.copyBytes(from: bytes[cut...])
    ring.didWrite(bytes.count)
}
