/// Where the guest's dirty pages wait, copied aside, until the link has taken them: a ring over memory of the caller's.
///
/// It never grows: when it is full, the writer waits (and with it the guest), not the host's memory.
public struct StagingRing {
    /// The caller keeps these bytes allocated for the ring's life and touches them only through the ring.
    private let storage: UnsafeMutableRawBufferPointer
    private var readOffset = 0
    public private(set) var storedBytes = 0

    public init(storage: UnsafeMutableRawBufferPointer) {
        precondition(!storage.isEmpty)
        self.storage = storage
    }

    public var capacityBytes: Int { storage.count }
    public var freeBytes: Int { storage.count - storedBytes }

    /// The free space in the order it is to be filled: up to the storage's end, then from its beginning.
    public var freeParts: (UnsafeMutableRawBufferPointer, UnsafeMutableRawBufferPointer) {
        parts(from: (readOffset + storedBytes) % storage.count, count: freeBytes)
    }

    public mutating func didWrite(_ count: Int) {
        precondition(count >= 0 && count <= freeBytes)
        storedBytes += count
    }

    /// What is stored, oldest first, from `offset` on and at most `limit` bytes of it.
    public func storedParts(
        from offset: Int = 0, limit: Int = .max
    ) -> (UnsafeRawBufferPointer, UnsafeRawBufferPointer) {
        precondition(offset >= 0 && offset <= storedBytes)
        let (first, second) = parts(
            from: (readOffset + offset) % storage.count, count: min(limit, storedBytes - offset))
        return (UnsafeRawBufferPointer(first), UnsafeRawBufferPointer(second))
    }

    public mutating func didRead(_ count: Int) {
        precondition(count >= 0 && count <= storedBytes)
        storedBytes -= count
        // Beginning anew keeps a ring that is rarely full within the same, warm pages.
        readOffset = storedBytes == 0 ? 0 : (readOffset + count) % storage.count
    }

    private func parts(
        from offset: Int, count: Int
    ) -> (UnsafeMutableRawBufferPointer, UnsafeMutableRawBufferPointer) {
        let first = min(count, storage.count - offset)
        return (
            UnsafeMutableRawBufferPointer(rebasing: storage[offset..<offset + first]),
            UnsafeMutableRawBufferPointer(rebasing: storage[0..<count - first])
        )
    }
}
