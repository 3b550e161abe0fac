extension CRC32C {
    /// As `update` with a page of zeroes. These move every bit of the state to the same places, whatever the others are: so
    /// what each of its four bytes becomes is in a table.
    public mutating func updateZeroPage() {
        state = Self.afterZeroPage.withUnsafeBufferPointer { after in
            var next: UInt32 = 0
            for byte in 0..<4 { next ^= after[byte * 256 + Int(state >> UInt32(byte * 8) & 0xFF)] }
            return next
        }
    }

    private static let afterZeroPage: [UInt32] = {
        let zeroes = [UInt8](repeating: 0, count: LibxcFormat.pageBytes)
        var after = [UInt32](repeating: 0, count: 4 * 256)
        for bit in 0..<32 {
            let moved = zeroes.withUnsafeBytes { software(1 << UInt32(bit), $0) }
            for value in 0..<256 where value >> (bit % 8) & 1 != 0 { after[bit / 8 * 256 + value] ^= moved }
        }
        return after
    }()
}
