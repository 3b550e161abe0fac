import Foundation

/// libxl's own part of a migration stream, version 2: what `xl` writes and reads around the helper's part.
/// Reference: docs/specs/libxl-migration-stream.pandoc.
enum LibxlStream {
    enum RecordType: UInt32 {
        case end = 0
        case libxcContext = 1
        case emulatorXenstoreData = 2
        case emulatorContext = 3
        case checkpointEnd = 4
    }

    static let identifier: UInt64 = 0x4c69_6278_6c46_6d74
    static let version: UInt32 = 2
    static let maximumBodyLengthBytes = 1 << 20
    static let timeout = Duration.seconds(20)

    /// The header, then LIBXC_CONTEXT: the helper's stream comes next.
    static func writeStart(to descriptor: Int32) throws {
        let header = bytes(identifier.bigEndian) + bytes(version.bigEndian) + bytes(UInt32(0))
        try BoundedIO.write(header, to: descriptor, deadline: .now + timeout)
        try write(.libxcContext, to: descriptor)
    }

    static func write(_ type: RecordType, body: [UInt8] = [], to descriptor: Int32) throws {
        let padding = [UInt8](repeating: 0, count: (8 - body.count % 8) % 8)
        let record = bytes(type.rawValue) + bytes(UInt32(body.count)) + body + padding
        try BoundedIO.write(record, to: descriptor, deadline: .now + timeout)
    }

    /// Reads as far as the first octet that is the helper's.
    static func readStart(from descriptor: Int32) throws {
        let header = try BoundedIO.read(16, from: descriptor, deadline: .now + timeout)
        let start = bytes(identifier.bigEndian) + bytes(version.bigEndian) + bytes(UInt32(0))
        guard header == start else { throw HelperTestError.notALibxlStream }
        guard try readRecord(from: descriptor) == .libxcContext else { throw HelperTestError.notALibxlStream }
    }

    /// Reads one epoch's libxl records, CHECKPOINT_END included. As libxl does, it looks at none before that is there.
    ///
    /// - Returns: false where one among them is unknown.
    static func readThroughCheckpointEnd(from descriptor: Int32) throws -> Bool {
        var areKnown = true
        while true {
            switch RecordType(rawValue: try readAnyRecord(from: descriptor)) {
            case .checkpointEnd: return areKnown
            case .emulatorXenstoreData, .emulatorContext: continue
            case .end, .libxcContext, nil: areKnown = false
            }
        }
    }

    private static func readRecord(from descriptor: Int32) throws -> RecordType {
        let type = try readAnyRecord(from: descriptor)
        guard let known = RecordType(rawValue: type) else { throw HelperTestError.unexpectedRecord(type) }
        return known
    }

    private static func readAnyRecord(from descriptor: Int32) throws -> UInt32 {
        let header = try BoundedIO.read(8, from: descriptor, deadline: .now + timeout)
        let (type, length) = header.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt32.self), Int($0.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        }
        guard length <= maximumBodyLengthBytes else { throw HelperTestError.unexpectedRecord(type) }
        _ = try BoundedIO.read((length + 7) / 8 * 8, from: descriptor, deadline: .now + timeout)
        return type
    }

    private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
}
