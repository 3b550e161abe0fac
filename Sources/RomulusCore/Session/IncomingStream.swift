/// Follows the stock stream on the backup and says where its parts end.
public struct IncomingStream {
    public enum Landmark: Equatable, Sendable {
        case announced(Announcement)
        /// Everything after this record is frames.
        case framesBegin(ProtocolVersion)
        /// CHECKPOINT_END: an epoch is complete. `streamBytes` counts from FRAMES_BEGIN or the last CHECKPOINT_END.
        case epochEnd(streamBytes: UInt64)
    }

    private var cursor = StreamCursor()
    private var hasSeenCheckpoint = false
    private var epochBytes: UInt64 = 0
    /// libxl's header is whole, and one.
    public private(set) var hasPassedHeader = false

    public init() {}

    /// Moves on to the next landmark or to the end of `bytes`.
    public mutating func advance(
        over bytes: UnsafeRawBufferPointer
    ) throws(StreamError) -> (passedBytes: Int, landmark: Landmark?) {
        var offset = 0
        while offset < bytes.count {
            let (passed, boundary) = try cursor.advance(over: bytes.part(from: offset))
            offset += passed
            epochBytes &+= UInt64(passed)
            if let boundary, let landmark = try landmark(at: boundary) { return (offset, landmark) }
        }
        return (offset, nil)
    }

    private mutating func landmark(at boundary: StreamCursor.Boundary) throws(StreamError) -> Landmark? {
        switch boundary {
        case .libxcRecord(PrivateRecord.announcement):
            try requireFirstPart(PrivateRecord.announcement)
            return .announced(try Announcement(recordBody: cursor.capturedBody))
        case .libxcRecord(PrivateRecord.framesBegin):
            try requireFirstPart(PrivateRecord.framesBegin)
            epochBytes = 0
            return .framesBegin(try FramesBegin.version(recordBody: cursor.capturedBody))
        case .libxcRecord(.checkpoint):
            hasSeenCheckpoint = true
            return nil
        case .libxlRecord(.checkpointEnd):
            defer { epochBytes = 0 }
            return .epochEnd(streamBytes: epochBytes)
        case .libxcRecord(.end), .libxlRecord(.end):
            // The end of a plain migration; a checkpointed stream has none.
            throw .unexpectedRecord(.libxc, type: 0)
        case .libxlHeader:
            hasPassedHeader = true
            return nil
        case .libxcHeaders, .libxlRecord, .libxcRecord:
            return nil
        }
    }

    private func requireFirstPart(_ type: LibxcFormat.RecordType) throws(StreamError) {
        guard !hasSeenCheckpoint else { throw .unexpectedRecord(.libxc, type: type.rawValue) }
    }
}

/// One epoch's bytes on their way to libxl, in memory of the caller's.
public struct EpochBuffer {
    private let storage: UnsafeMutableRawBufferPointer
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
        guard piece.count <= storage.count - filledBytes else { throw .epochTooLong(limitBytes: storage.count) }
        UnsafeMutableRawBufferPointer(rebasing: storage[filledBytes...]).copyMemory(from: piece)
        filledBytes += piece.count
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
