/// One epoch's bytes on their way to libxl, in memory of the caller's.
public struct EpochBuffer {
    public let storage: UnsafeMutableRawBufferPointer
    public private(set) var filledBytes = 0
    public private(set) var handedOnBytes = 0
    /// May be handed on to libxl: always for the first part, only when complete and acknowledged afterwards.
    public var isReleased = false
    public var isComplete = false

    public init(storage: UnsafeMutableRawBufferPointer) {
        self.storage = storage
    }

    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(storage).part(from: 0, count: filledBytes) }
    public var waiting: UnsafeRawBufferPointer { bytes.part(from: handedOnBytes) }

    public mutating func append(_ piece: UnsafeRawBufferPointer) throws(StreamError) {
        if isReleased, piece.count > storage.count - filledBytes { moveToFront() }
        guard piece.count <= storage.count - filledBytes else { throw .epochTooLong(limitBytes: storage.count) }
        UnsafeMutableRawBufferPointer(rebasing: storage[filledBytes...]).copyMemory(from: piece)
        filledBytes += piece.count
    }

    /// The first part streams through, and is larger than this memory: what has been handed on makes room.
    private mutating func moveToFront() {
        let left = waiting
        storage.copyMemory(from: left)
        filledBytes = left.count
        handedOnBytes = 0
    }

    /// The first part streams through: once all is handed on, the memory is used from its beginning again.
    public mutating func didHandOn(_ count: Int) {
        handedOnBytes += count
        if handedOnBytes == filledBytes, !isComplete {
            handedOnBytes = 0
            filledBytes = 0
        }
    }

    public var isHandedOn: Bool { isComplete && handedOnBytes == filledBytes }

    public mutating func reset() { self = EpochBuffer(storage: storage) }
}
