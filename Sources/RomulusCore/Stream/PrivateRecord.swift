/// Romulus's two records in the libxc stream; docs/protocol.md, "Records in the stock stream".
///
/// Both carry libxc's optional bit, so a stock restorer ignores them where they stand: before the first CHECKPOINT.
public enum PrivateRecord {
    /// "The sender is Romulus": right behind libxc's headers.
    public static let announcement = LibxcFormat.RecordType(rawValue: 0x8052_4D01)
    /// "Every byte after this record belongs to a frame": sent only to a receiver that has answered.
    public static let framesBegin = LibxcFormat.RecordType(rawValue: 0x8052_4D02)

    public static let maximumBodyBytes = 64

    public static func isPrivate(_ type: LibxcFormat.RecordType) -> Bool {
        type == announcement || type == framesBegin
    }

    /// A whole record: header, body, and the body's CRC32C as its last word.
    static func encode(_ type: LibxcFormat.RecordType, body: [UInt8]) -> [UInt8] {
        precondition((body.count + 4) % 8 == 0 && body.count + 4 <= maximumBodyBytes)
        var record: [UInt8] = []
        record.append(littleEndian: type.rawValue)
        record.append(littleEndian: UInt32(body.count + 4))
        record.append(contentsOf: body)
        record.append(littleEndian: body.withUnsafeBytes(CRC32C.checksum))
        return record
    }

    /// The body without its checksum.
    static func checkedBody(_ body: [UInt8], lengthBytes: Int) throws(StreamError) -> [UInt8] {
        guard body.count == lengthBytes + 4 else { throw .malformedPrivateRecord }
        let contents = Array(body.prefix(lengthBytes))
        let stored: UInt32 = body.withUnsafeBytes { $0.littleEndian(at: lengthBytes) }
        guard stored == contents.withUnsafeBytes(CRC32C.checksum) else { throw .malformedPrivateRecord }
        return contents
    }
}
