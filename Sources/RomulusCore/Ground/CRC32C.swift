import CChecksum

/// CRC32C (Castagnoli; RFC 3720, section 12.1) over any number of pieces.
///
/// Uses the processor's instruction where there is one, else eight table look-ups for each eight bytes.
public struct CRC32C {
    var state: UInt32 = ~0

    public init() {}

    /// The checksum of everything fed so far.
    public var value: UInt32 { ~state }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        state =
            Self.hasInstruction
            ? romulus_crc32c_instruction(state, base, bytes.count)
            : Self.software(state, bytes)
    }

    public static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(bytes)
        return crc.value
    }

    private static let hasInstruction = romulus_crc32c_has_instruction()

    /// `tables[k * 256 + b]`: what byte `b` adds when `k` more bytes follow it within one eight-byte step.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var crc = UInt32(byte)
            for _ in 0..<8 { crc = (crc >> 1) ^ (crc & 1 == 0 ? 0 : 0x82F6_3B78) }
            tables[byte] = crc
        }
        for step in 1..<8 {
            for byte in 0..<256 {
                let before = tables[(step - 1) * 256 + byte]
                tables[step * 256 + byte] = (before >> 8) ^ tables[Int(before & 0xFF)]
            }
        }
        return tables
    }()

    /// The same sum without the instruction; the tests hold the two against each other.
    static func software(_ start: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
        tables.withUnsafeBufferPointer { table in
            var crc = start
            var offset = 0
            while offset + 8 <= bytes.count {
                let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self).littleEndian ^ UInt64(crc)
                crc = 0
                for step in 0..<8 {
                    crc ^= table[(7 - step) * 256 + Int((word >> UInt64(step * 8)) & 0xFF)]
                }
                offset += 8
            }
            while offset < bytes.count {
                crc = (crc >> 8) ^ table[Int((crc ^ UInt32(bytes[offset])) & 0xFF)]
                offset += 1
            }
            return crc
        }
    }
}
