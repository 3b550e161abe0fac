/// What an ENCODED_DATA frame's payload is made of; docs/protocol.md, "Encoded data".
///
/// How many bytes of the stock stream it stands for (4 bytes), their CRC32C (4), then pieces, which give these bytes in their
/// order. A piece is its kind (1 byte) and what the kind says. Slots (4 bytes) number the pages that the backup keeps: the
/// primary alone says what goes where, so that there is one policy, and the backup's memory follows from the link's bytes.
public enum PageFormat {
    public static let headerBytes = 8
    public static let pageBytes = LibxcFormat.pageBytes
    /// The most that one payload stands for.
    public static let maximumDecodedBytes = 1 << 20

    enum Piece: UInt8 {
        /// Length (4), then bytes of the stream as they are.
        case literal = 0
        /// A page of zeroes, which no slot keeps.
        case zero = 1
        /// Slot: the page that it holds.
        case same = 2
        /// Slot, length (2), a delta to the page that it holds, and that it then holds.
        case delta = 3
        /// Slot, length (2), a delta to a page of zeroes. The slot holds the result, as with all that follow.
        case sparse = 4
        /// Slot, length (2), an LZ4 block.
        case lz4 = 5
        /// Slot, length (2), a zstd frame.
        case zstd = 6
        /// Slot, the page.
        case raw = 7
    }

    static let slotBytes = 4
    static let lengthBytes = 2
    /// What a page takes at the most beyond its own bytes.
    static let overheadBytes = 1 + slotBytes
}

/// What can be wrong with a payload of ENCODED_DATA. Each is a failure of the link.
public enum PageError: Error, Equatable, Sendable {
    case malformed
    case unknownPiece(UInt8)
    case noSuchSlot(UInt32)
    case damagedDelta
    case damagedPage
    /// The bytes are not those that were encoded: the two hosts' pages are not the same.
    case checksum
}

extension PageError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .malformed: "encoded data that is cut off or too long"
        case .unknownPiece(let kind): "a piece of the unknown kind \(kind)"
        case .noSuchSlot(let slot): "the slot \(slot), which there is not"
        case .damagedDelta: "a delta that is none"
        case .damagedPage: "a compressed page that does not give a page"
        case .checksum: "pages that differ from the primary's"
        }
    }
}
