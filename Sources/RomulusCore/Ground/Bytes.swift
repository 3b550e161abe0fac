/// Fixed-width integers in raw bytes. Callers check bounds first: an offset past the end is a programmer's error.
extension UnsafeRawBufferPointer {
    func littleEndian<Value: FixedWidthInteger>(at offset: Int, as _: Value.Type = Value.self) -> Value {
        Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    func bigEndian<Value: FixedWidthInteger>(at offset: Int, as _: Value.Type = Value.self) -> Value {
        Value(bigEndian: loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    /// The part of this buffer from `offset` on, at most `count` bytes of it.
    func part(from offset: Int, count: Int = .max) -> UnsafeRawBufferPointer {
        let end = count > self.count - offset ? self.count : offset + count
        return UnsafeRawBufferPointer(rebasing: self[offset..<end])
    }
}

extension Array where Element == UInt8 {
    mutating func append<Value: FixedWidthInteger>(littleEndian value: Value) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}
