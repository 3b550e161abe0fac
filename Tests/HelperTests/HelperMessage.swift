/// One message of the helper to libxl. Its number is its place in libxl_save_msgs_gen.pl, from 1.
enum HelperMessage: Equatable, Sendable {
    case log(HelperLogLine)
    case progress(context: String, doing: String, done: UInt64, total: UInt64)
    case suspend
    case postcopy
    case checkpoint
    case waitCheckpoint
    case switchQemuLogDirty(domid: UInt32, isEnabled: Bool)
    case staticDataDone(missing: UInt32)
    case restoreResults(storePage: UInt64, consolePage: UInt64)
    case complete(result: Int32, errorNumber: Int32)

    /// The helper waits for a reply to all but these.
    var wantsReply: Bool {
        switch self {
        case .log, .progress, .restoreResults: false
        default: true
        }
    }

    init(_ bytes: [UInt8]) throws {
        var reader = Reader(bytes: bytes)
        let number = try reader.integer(UInt16.self)
        switch number {
        case 1:
            self = .log(
                HelperLogLine(
                    level: try reader.integer(UInt32.self),
                    errorNumber: Int32(bitPattern: try reader.integer(UInt32.self)),
                    context: try reader.string(), text: try reader.string()))
        case 2:
            self = .progress(
                context: try reader.string(), doing: try reader.string(), done: try reader.integer(UInt64.self),
                total: try reader.integer(UInt64.self))
        case 3: self = .suspend
        case 4: self = .postcopy
        case 5: self = .checkpoint
        case 6: self = .waitCheckpoint
        case 7:
            self = .switchQemuLogDirty(
                domid: try reader.integer(UInt32.self), isEnabled: try reader.integer(UInt32.self) != 0)
        case 8: self = .staticDataDone(missing: try reader.integer(UInt32.self))
        case 9:
            self = .restoreResults(
                storePage: try reader.integer(UInt64.self), consolePage: try reader.integer(UInt64.self))
        case 10: self = .complete(result: try reader.integer(Int32.self), errorNumber: try reader.integer(Int32.self))
        default: throw HelperTestError.unexpectedMessage(number)
        }
        guard reader.isAtEnd else { throw HelperTestError.malformedMessage }
    }

    private struct Reader {
        let bytes: [UInt8]
        var offset = 0

        var isAtEnd: Bool { offset == bytes.count }

        mutating func integer<T: FixedWidthInteger>(_: T.Type) throws -> T {
            let length = MemoryLayout<T>.size
            guard bytes.count - offset >= length else { throw HelperTestError.malformedMessage }
            defer { offset += length }
            return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
        }

        /// A 32-bit length that counts the final zero, then the text and the zero.
        mutating func string() throws -> String {
            let length = Int(try integer(UInt32.self))
            guard length > 0, bytes.count - offset >= length, bytes[offset + length - 1] == 0 else {
                throw HelperTestError.malformedMessage
            }
            defer { offset += length }
            return String(decoding: bytes[offset..<(offset + length - 1)], as: UTF8.self)
        }
    }
}

/// A line of the helper's log; `level` is xentoollog's.
struct HelperLogLine: Equatable, Sendable, CustomStringConvertible {
    var level: UInt32
    var errorNumber: Int32
    var context: String
    var text: String

    /// XTL_WARN and worse.
    var isComplaint: Bool { level >= 6 }

    var description: String { "[\(level)] \(context): \(text)" + (errorNumber > 0 ? " (errno \(errorNumber))" : "") }
}
