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
        case .libxcHeaders, .libxlRecord, .libxcRecord, .pageList, .page:
            return nil
        }
    }

    private func requireFirstPart(_ type: LibxcFormat.RecordType) throws(StreamError) {
        guard !hasSeenCheckpoint else { throw .unexpectedRecord(.libxc, type: type.rawValue) }
    }
}
